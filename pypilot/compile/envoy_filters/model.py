"""Patches as the other modules of the package see them, and the record of what became of them. Applies nothing."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from pypilot.kinds.base import Ref
from pypilot.kinds.envoy_filter import ApplyTo, EnvoyConfigObjectMatch

R = TypeVar("R")
Side: TypeAlias = Literal["SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY"]
"""The patch context of one resource (EF-003)."""
MERGES = frozenset({"MERGE", "MERGE_AND_REPLACE_LIST"})


class PatchKey(NamedTuple):
    """Identity of a patch: small enough to key calls with."""

    filter: Ref
    position: int
    """Position in `spec.configPatches`."""


PatchKeys: TypeAlias = tuple[PatchKey, ...]


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch whose value is a message of Envoy's."""

    key: PatchKey
    apply_to: ApplyTo
    operation: str
    match: EnvoyConfigObjectMatch
    value: Any
    """The message. Must not be changed; None only for REMOVE."""

    def is_for(self, side: Side) -> bool:
        """True if the patch's context includes that side."""
        return self.match.context in ("ANY", side)

    @property
    def merges(self) -> bool:
        return self.operation in MERGES


class Report(NamedTuple):
    """What became of patches at some resources."""

    used: frozenset[PatchKey] = frozenset()
    """They changed something."""
    notes: tuple[tuple[PatchKey, str], ...] = ()
    """Why a patch did not do what it should have done somewhere."""

    def __add__(self, other: object) -> "Report":
        if not isinstance(other, Report):
            return NotImplemented
        return Report(self.used | other.used, tuple(dict.fromkeys((*self.notes, *other.notes))))


NOTHING_DONE = Report()


def all_of(reports: Iterable[Report]) -> Report:
    """The reports as one."""
    reports = tuple(reports)
    notes = dict.fromkeys(note for report in reports for note in report.notes)
    return Report(frozenset().union(*(report.used for report in reports)), tuple(notes))


@dataclass(slots=True)
class Trace:
    """The record of one application; lives for one resource."""

    current: Patch | None = None
    used: set[PatchKey] = field(default_factory=set)
    notes: list[tuple[PatchKey, str]] = field(default_factory=list)

    def begin(self, patch: Patch) -> None:
        """The patch is at work: what is raised now is its fault."""
        self.current = patch

    def done(self, patch: Patch, changed: bool = True) -> None:
        if changed:
            self.used.add(patch.key)

    def note(self, patch: Patch, text: str) -> None:
        self.notes.append((patch.key, text))


class Applied(NamedTuple, Generic[R]):
    """What an application made, and the report on its patches."""

    made: R
    report: Report


def apply_soundly(patches: Iterable[Patch], work: Callable[[tuple[Patch, ...], Trace], R]) -> Applied[R]:
    """Do the work with all patches; one that raises is left out, and the work done anew (EF-024).

    Args:
        work: must begin with an unpatched copy each time.
    """
    remaining = tuple(patches)
    broken: list[tuple[PatchKey, str]] = []
    while True:
        trace = Trace()
        try:
            made = work(remaining, trace)
        except Exception as error:
            culprit = trace.current
            if culprit is None:
                raise
            broken.append((culprit.key, f"{type(error).__name__}: {error}"))
            remaining = tuple(patch for patch in remaining if patch.key != culprit.key)
            continue
        return Applied(made, Report(frozenset(trace.used), tuple(dict.fromkeys((*broken, *trace.notes)))))
