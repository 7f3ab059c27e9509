"""The file system as a source sees it: the files under the given paths, what they hold, the directories to watch.

Follows symbolic links, because mounted ConfigMaps are made of them. Hidden names are left out (`..data` of a mounted
ConfigMap, editors' swap files), and in directories whatever is no file. Keeps no state.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pypilot.sources.file_store import Unreadable

SUFFIXES = (".yaml", ".yml", ".json")
_LINK_LIMIT = 40


class Signature(NamedTuple):
    """Differs whenever a file was replaced or written."""

    device: int
    inode: int
    size: int
    modified_ns: int


def signature(path: str) -> Signature | None:
    """The signature of what is at `path` now; None if nothing is."""
    try:
        found = os.stat(path)  # noqa: PTH116 - thousands of these in a scan
    except OSError:
        return None
    return Signature(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _may_end(path: str) -> bool:
    """False for pipes and devices: reading one may never end."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError:
        return True
    return stat.S_ISREG(mode)


def read_text(path: str) -> str | Unreadable | None:
    """The text of a file; None if it is gone."""
    try:
        return Path(path).read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return None
    except UnicodeDecodeError as error:
        return Unreadable(f"not UTF-8 text (byte {error.start})")
    except OSError as error:
        return Unreadable(error.strerror or type(error).__name__)


def _walk(root: str, directories: set[str], failed: list[OSError]) -> Iterator[str]:
    seen: set[tuple[int, int]] = set()
    for directory, names, files in os.walk(root, onerror=failed.append, followlinks=True):
        try:
            found = os.stat(directory)  # noqa: PTH116
        except OSError:
            names.clear()
            continue
        if (found.st_dev, found.st_ino) in seen:
            names.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        directories.add(directory)
        names[:] = sorted(n for n in names if not n.startswith("."))
        for name in files:
            path = f"{directory}/{name}" if directory != "/" else f"/{name}"
            if name.endswith(SUFFIXES) and not name.startswith(".") and _may_end(path):
                yield path


def _links(path: str, depth: int = 0) -> Iterator[str]:
    """Every symbolic link on the way to what `path` names: a change of any of them changes what is there."""
    current = "/"
    for part in Path(path).parts[1:]:
        current = os.path.join(current, part)  # noqa: PTH118 - must not be normalised
        try:
            target = os.readlink(current)  # noqa: PTH115
        except OSError:
            continue
        yield current
        if depth < _LINK_LIMIT:
            yield from _links(os.path.abspath(os.path.join(os.path.dirname(current), target)), depth + 1)  # noqa: PTH100, PTH118, PTH120


class Scan(NamedTuple):
    """What lies under the given paths."""

    files: dict[str, str]
    """Absolute path -> the path as a user would write it."""
    missing: tuple[str, ...]
    """Given paths where nothing is, as the user wrote them."""
    directories: frozenset[str]
    """All that must be watched to see every change."""
    points: frozenset[str]
    """Given paths and links on the way to them: an event on one of these may change everything."""
    unreadable: dict[str, str]
    """Absolute paths of directories that cannot be listed -> why."""

    def is_hidden(self, path: str) -> bool:
        """True if nobody can tell whether the file is still there."""
        return any(path.startswith(f"{directory}/") for directory in self.unreadable)


def scan(paths: Sequence[str | Path]) -> Scan:
    """Look at the given files and directories (these recursively)."""
    files: dict[str, str] = {}
    missing: list[str] = []
    directories: set[str] = set()
    points: set[str] = set()
    failed: list[OSError] = []
    for given in map(str, paths):
        root = os.path.abspath(given)  # noqa: PTH100 - `resolve` would follow links
        points.add(root)
        points.update(_links(root))
        if os.path.isdir(root):  # noqa: PTH112
            shown = given.rstrip("/") or "/"
            for path in _walk(root, directories, failed):
                relative = path[len(root) :].lstrip("/")
                files.setdefault(path, f"{shown.rstrip('/')}/{relative}" if shown != "." else relative)
        elif os.path.exists(root):  # noqa: PTH110
            files.setdefault(root, given)
        else:
            missing.append(given)
    for path in {*(f for f in files if os.path.islink(f)), *directories}:  # noqa: PTH114
        if (real := os.path.realpath(path)) != path:
            points.update(_links(path))
            points.add(real)
    directories.update(str(_existing_parent(point)) for point in points)
    # A directory that has just gone is none that cannot be read.
    unreadable = {e.filename: e.strerror or type(e).__name__ for e in failed if os.path.isdir(e.filename)}  # noqa: PTH112
    return Scan(files, tuple(missing), frozenset(directories), frozenset(points), unreadable)


def _existing_parent(path: str) -> Path:
    parent = Path(path).parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    return parent
