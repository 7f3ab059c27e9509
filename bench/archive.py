"""The project's own copy of the recordings: `tests/parity/recordings/NAME.tar.xz`, one archive a scenario.

`python -m bench.archive DIR` takes over what is new or different in a directory of recordings (see `recordings`), and
drops what is not there. JSON is kept without blanks, everything else as it stands; a scenario that says the same keeps
its file.
"""

import argparse
import io
import json
import lzma
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.recordings import DEFAULT, scenarios_in

ARCHIVE = Path(__file__).parents[1] / "tests" / "parity" / "recordings"
RECORDINGS_HELP = f"default: {DEFAULT} if it is there, else the archive in tests/parity"
_SHARED = "cluster.yaml"
_KEPT = ("world.yaml", "mesh.yaml", "nodes/*.json", "istiod/*/*.json")


def read_scenario(folder: Path) -> dict[str, bytes]:
    """What is kept of a scenario: file -> content."""
    found = {}
    for pattern in _KEPT:
        for path in folder.glob(pattern):
            data = path.read_bytes()
            if path.suffix == ".json":
                data = json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode()
            found[path.relative_to(folder).as_posix()] = data
    return found


def pack(files: Mapping[str, bytes]) -> bytes:
    """An archive that depends on the names and contents alone."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return lzma.compress(out.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def unpack(archive: bytes) -> dict[str, bytes]:
    """The files of an archive."""
    files = {}
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(archive))) as tar:
        for entry in tar:
            data = tar.extractfile(entry)
            if data is not None:
                files[entry.name] = data.read()
    return files


def archived(archive: Path = ARCHIVE) -> list[str]:
    """The names of the scenarios in the archive."""
    return sorted(path.name.removesuffix(".tar.xz") for path in archive.glob("*.tar.xz"))


def extract(name: str, into: Path, archive: Path = ARCHIVE) -> Path:
    """Write one scenario, and what all share, as a directory of recordings has it; the scenario's directory."""
    into.mkdir(parents=True, exist_ok=True)
    (into / _SHARED).write_bytes((archive / _SHARED).read_bytes())
    for file, data in unpack((archive / f"{name}.tar.xz").read_bytes()).items():
        path = into / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return into / name


def refresh(source: Path, archive: Path = ARCHIVE) -> dict[str, str]:
    """Make the archive hold what the directory does; name -> what was done."""
    archive.mkdir(parents=True, exist_ok=True)
    (archive / _SHARED).write_bytes((source / _SHARED).read_bytes())
    done = {}
    present = {scenario.name: scenario for scenario in scenarios_in(source)}
    for name in archived(archive):
        if name not in present:
            (archive / f"{name}.tar.xz").unlink()
            done[name] = "dropped"
    for name, scenario in present.items():
        path = archive / f"{name}.tar.xz"
        files = read_scenario(scenario)
        if not path.exists() or unpack(path.read_bytes()) != files:
            done[name] = "changed" if path.exists() else "added"
            path.write_bytes(pack(files))
    return done


@contextmanager
def recordings(given: Path | None) -> Iterator[Path]:
    """A directory of recordings: the given one, else the usual one if it is there, else the project's own copy."""
    if given is not None or DEFAULT.is_dir():
        yield given or DEFAULT
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in archived():
            extract(name, Path(folder))
        yield Path(folder)


def main() -> int:
    """Refresh the archive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="DIR")
    for name, what in refresh(parser.parse_args().source).items():
        print(name, what)
    return 0


if __name__ == "__main__":
    sys.exit(main())
