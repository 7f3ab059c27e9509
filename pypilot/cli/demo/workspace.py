"""The demo's working directory: its own copy of the YAML, where files are edited as a person would edit them.

The files of the repository are only read. A file is replaced in one step, so that a watcher never sees half of one.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


class YamlNotFoundError(LookupError):
    """The demo's YAML is not where it should be."""


def find_yaml(name: str) -> Path:
    """The directory `deploy/NAME` of the repository, or the copy of it that an installed pypilot carries.

    Raises:
        YamlNotFoundError: there is neither.
    """
    here = Path(__file__).parent
    for candidate in (here / "yaml" / name, here.parents[2] / "deploy" / name):
        if candidate.is_dir():
            return candidate
    raise YamlNotFoundError(f"the demo's YAML (deploy/{name}) is not part of this installation")


def substitute(text: str, replacements: Mapping[str, str]) -> str:
    """Replace whole words (addresses, ports, paths); lines stay where they are."""
    if not replacements:
        return text
    words = "|".join(re.escape(word) for word in sorted(replacements, key=len, reverse=True))
    return re.sub(rf"(?<![\w./])(?:{words})(?![\w/]|\.\w)", lambda found: replacements[found[0]], text)


class Workspace:
    """A temporary directory with the served YAML in `config/` and everything else beside it."""

    def __init__(self, root: Path, changes: Path, replacements: Mapping[str, str]) -> None:
        self.root = root
        self.config = root / "config"
        self.replacements = dict(replacements)
        """Applied to every file on its way in."""
        self._changes = changes

    def write(self, name: str, text: str) -> Path:
        """Put a file into the served directory, in one step; only the owner may read it (it may be a Secret)."""
        path = self.config / name
        draft = self.root / f"{name}.draft"
        draft.touch(mode=0o600)
        draft.write_text(text)
        return draft.replace(path)

    def add(self, name: str) -> Path:
        """Put one of the prepared changes into the served directory."""
        return self.write(name, substitute((self._changes / name).read_text(), self.replacements))

    def edit(self, name: str, replacements: Mapping[str, str]) -> Path:
        """Edit a served file: each text must occur exactly once.

        Raises:
            ValueError: one does not; the file is left alone.
        """
        text = (self.config / name).read_text()
        for old, new in replacements.items():
            if (count := text.count(old)) != 1:
                raise ValueError(f"{name}: {old!r} occurs {count} times, want once")
            text = text.replace(old, new)
        return self.write(name, text)

    def remove(self, name: str) -> None:
        """Take a file out of the served directory."""
        (self.config / name).unlink()

    def save_logs(self) -> Path:
        """Copy logs and bootstraps, not the configuration (it holds private keys), to a new directory that stays."""
        kept = Path(tempfile.mkdtemp(prefix="pypilot-demo-logs-"))
        left = shutil.ignore_patterns(self.config.name, "*.sock", "*.draft")
        shutil.copytree(self.root, kept, ignore=left, dirs_exist_ok=True)
        return kept

    def directory(self, name: str) -> Path:
        """A directory for the files of one process."""
        path = self.root / name
        path.mkdir(exist_ok=True)
        return path


@contextmanager
def workspace(source: Path, changes: Path, replacements: Mapping[str, str]) -> Iterator[Workspace]:
    """Copy the YAML of `source` into a new temporary directory that goes away when the block ends.

    If an error ends it, logs and bootstraps are kept elsewhere, and a note on the error says where.
    """
    with tempfile.TemporaryDirectory(prefix="pypilot-demo-", ignore_cleanup_errors=True) as name:
        root = Path(name)
        root.chmod(0o711)  # a sidecar that runs as another user must reach its own directory below
        made = Workspace(root, changes, replacements)
        made.config.mkdir(mode=0o700)
        for file in sorted(source.glob("*.yaml")):
            made.write(file.name, substitute(file.read_text(), made.replacements))
        try:
            yield made
        except Exception as error:
            error.add_note(f"logs: {made.save_logs()}")
            raise
