"""Which rows of the behaviour checklist no test names: `python -m tests.rows [--priority P1] [--section VS …]`.

`rows.csv` lists the rows by ID, priority and section. A row is named by its ID (or a range such as VS-019…036) in a
test, in the `in.yaml` of a golden pair, or in `parity/proofs.yaml`. `rows_open.yaml` says which are not, and why.
"""

import argparse
import csv
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).parent
TRAFFIC = (
    *("MESH", "PC", "NODE", "KSVC", "VS", "RDS", "DR", "SE", "WE", "SC"),
    *("GW", "LIS", "FILT", "EDS", "OUT", "SDS", "NDS", "EF"),
)
"""The sections whose P0 and P1 rows must be named."""
DONE = (
    *TRAFFIC,
    *("BOOT", "INJ", "IPT", "VAL"),
    *("PA", "RA", "AZ", "CA", "XAUTH"),
)
"""The sections whose P0 rows must be named."""

_ID = re.compile(r"\b([A-Z]+)-(\d{3})(?:…(\d{3}))?")
_NAMING = (
    *("tests/**/*.py", "e2e/**/*.py", "tests/parity/proofs.yaml"),
    *("tests/golden/*/*/in.yaml", "tests/golden_injection/*/in.yaml"),
)
_NOT_NAMING = (Path(__file__).name, "test_rows.py")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the checklist."""

    id: str
    priority: str
    section: str


def rows() -> list[Row]:
    """All of the table."""
    with (ROOT / "rows.csv").open(newline="") as file:
        return [Row(**row) for row in csv.DictReader(file)]


def ids_in(text: str) -> set[str]:
    """The IDs that a text names, those within ranges too."""
    found = set()
    for section, first, last in _ID.findall(text):
        found |= {f"{section}-{number:03}" for number in range(int(first), int(last or first) + 1)}
    return found


@cache
def named() -> dict[str, list[str]]:
    """ID -> the files that name it."""
    found: dict[str, list[str]] = {}
    for pattern in _NAMING:
        for path in sorted(ROOT.parent.glob(pattern)):
            if path.name not in _NOT_NAMING:
                for row in ids_in(path.read_text()):
                    found.setdefault(row, []).append(path.relative_to(ROOT.parent).as_posix())
    return found


def open_rows() -> dict[str, str]:
    """ID -> why no test names it yet."""
    entries = yaml.safe_load((ROOT / "rows_open.yaml").read_text()) or []
    return {row: entry["reason"] for entry in entries for row in entry["rows"]}


def unnamed(sections: Iterable[str], priorities: Iterable[str]) -> list[Row]:
    """The rows of these sections and priorities that nothing names."""
    sections, priorities = set(sections), set(priorities)
    return [r for r in rows() if r.section in sections and r.priority in priorities and r.id not in named()]


def demanded() -> dict[str, tuple[str, ...]]:
    """Priority -> the sections whose rows must be named, or be open with a reason."""
    return {"P0": DONE, "P1": TRAFFIC}


def main() -> int:
    """Print what is not named, by section; 1 if a row is among them that must be and is not known to be open."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--priority", nargs="+", default=["P0"], choices=("P0", "P1", "P2"))
    parser.add_argument("--section", nargs="+", default=DONE)
    parser.add_argument("--where", metavar="ID", help="print the files that name a row")
    given = parser.parse_args()
    if given.where:
        print(*named().get(given.where, ["nowhere"]), sep="\n")
        return 0
    reasons, missing = open_rows(), unnamed(given.section, given.priority)
    for section in given.section:
        wanted = [r for r in rows() if r.section == section and r.priority in given.priority]
        lacking = [r for r in missing if r.section == section]
        print(f"{section:5} {len(wanted) - len(lacking):3} of {len(wanted):3} named")
        for row in lacking:
            print(f"      {row.id} {row.priority}  {reasons.get(row.id, 'NOT NAMED')}")
    for row in sorted(reasons.keys() & named().keys()):
        print(f"{row} is named by {named()[row][0]} and can leave rows_open.yaml")
    return int(any(r.id not in reasons for r in missing if r.section in demanded().get(r.priority, ())))


if __name__ == "__main__":
    sys.exit(main())
