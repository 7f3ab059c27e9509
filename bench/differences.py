"""Deliberate differences from istiod: which leaves are not compared, and why (`differences.yaml`).

Each entry has `leaves`, a regular expression searched in `TYPE NAME PATH`; `scenarios`, one that the whole name of a
scenario matches (default: all); and `reason`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench.leaves import Keep
from bench.leaves import Path as LeafPath

FILE = Path(__file__).with_name("differences.yaml")
MOST = 25
"""Entries that the file may have: what differs more often is no detail."""


@dataclass(frozen=True, slots=True)
class Deliberate:
    """One entry."""

    leaves: re.Pattern[str]
    reason: str
    scenarios: re.Pattern[str]


def read_differences(path: Path = FILE) -> tuple[Deliberate, ...]:
    """The entries of the file.

    Raises:
        ValueError: there are too many, or one lacks its reason.
    """
    entries = yaml.safe_load(path.read_text()) or []
    if len(entries) > MOST:
        raise ValueError(f"{path}: {len(entries)} entries, {MOST} are allowed")
    found = []
    for entry in entries:
        reason = str(entry.get("reason", "")).strip()
        if not reason or not entry.keys() <= {"leaves", "scenarios", "reason"}:
            raise ValueError(f"{path}: an entry has leaves, a reason and perhaps scenarios, not {entry}")
        found.append(
            Deliberate(re.compile(entry["leaves"]), reason, re.compile(entry.get("scenarios", ".*"))),
        )
    return tuple(found)


class Filter:
    """Leaves out what differs on purpose, and counts how often each entry applied."""

    def __init__(self, entries: Sequence[Deliberate]) -> None:
        self.counts: Counter[Deliberate] = Counter(dict.fromkeys(entries, 0))

    def keep(self, scenario: str, kind: str) -> Keep | None:
        """What tells which leaves of one type count; None if all do."""
        entries = [e for e in self.counts if e.scenarios.fullmatch(scenario)]
        return (lambda name, path: self._keep(entries, f"{kind} {name}", path)) if entries else None

    def _keep(self, entries: Iterable[Deliberate], start: str, path: LeafPath) -> bool:
        text = f"{start} {'.'.join(path)}"
        for entry in entries:
            if entry.leaves.search(text):
                self.counts[entry] += 1
                return False
        return True
