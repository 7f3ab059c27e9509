"""What was expected and what was seen: the demo's record of itself.

Knows nothing of terminals; `report` shows what is recorded here.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.02
_SIGMAS = 4.5
"""Splits are accepted within so many standard deviations: a right one is refused once in 150,000 runs."""


class CheckFailedError(AssertionError):
    """Something was not as expected; it has been recorded."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was checked."""

    step: int
    what: str
    expected: str
    seen: str
    ok: bool


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A step that could not be run on this machine."""

    step: int
    reason: str


class Watcher(Protocol):
    """Hears of everything as it happens."""

    def step(self, number: int, title: str) -> None: ...
    def doing(self, what: str) -> None: ...
    def row(self, row: Row) -> None: ...
    def left_out(self, entry: LeftOut) -> None: ...


class Checks:
    """Records checks, and ends a step at the first that does not hold."""

    def __init__(self, watcher: Watcher) -> None:
        self.rows: list[Row] = []
        self.omitted: list[LeftOut] = []
        self._watcher = watcher
        self._step = 0

    @property
    def ok(self) -> bool:
        """True if something was checked and all of it held."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    def begin(self, step: int, title: str) -> None:
        self._step = step
        self._watcher.step(step, title)

    def doing(self, what: str) -> None:
        """Say what is going on; not recorded."""
        self._watcher.doing(what)

    def that(self, what: str, ok: bool, *, expected: str, seen: str) -> None:
        """Record a check.

        Raises:
            CheckFailedError: it does not hold.
        """
        row = Row(self._step, what, expected, seen, ok)
        self.rows.append(row)
        self._watcher.row(row)
        if not ok:
            raise CheckFailedError(f"{what}: expected {expected}, seen {seen}")

    def equal(self, what: str, expected: object, seen: object) -> None:
        """Record that two things are the same."""
        self.that(what, expected == seen, expected=str(expected), seen=str(seen))

    def failed(self, what: str, error: BaseException) -> None:
        """Record an error that no check foresaw; it does not raise."""
        row = Row(self._step, what, "no error", f"{type(error).__name__}: {error}", ok=False)
        self.rows.append(row)
        self._watcher.row(row)

    def leave_out(self, reason: str) -> None:
        """Record that the present step cannot be run here."""
        entry = LeftOut(self._step, reason)
        self.omitted.append(entry)
        self._watcher.left_out(entry)


def split_bounds(trials: int, share: float) -> tuple[int, int]:
    """How few and how many of `trials` independent requests may go to a destination with this share of the weight."""
    slack = _SIGMAS * math.sqrt(trials * share * (1 - share))
    return math.ceil(trials * share - slack), math.floor(trials * share + slack)


async def settled(
    ask: Callable[[], Awaitable[T]],
    until: Callable[[T], bool],
    *,
    seconds: float = 10.0,
    ignoring: type[Exception] | tuple[type[Exception], ...] = (),
) -> T:
    """Ask again and again until the answer is good; the last one, good or not, if time runs out."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = await ask()
        except ignoring:
            if time.monotonic() > deadline:
                raise
        else:
            if until(answer) or time.monotonic() > deadline:
                return answer
        await asyncio.sleep(_POLL_SECONDS)
