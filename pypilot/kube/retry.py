"""How long to wait before something is tried again. No clock: who waits has one."""

import random
from collections.abc import Callable


class Retry:
    """Delays that double up to a longest one, each shortened by chance to between half and all of it."""

    def __init__(self, first: float, longest: float, chance: Callable[[], float] = random.random) -> None:
        self._first = first
        self._longest = longest
        self._chance = chance
        self.failures = 0
        """In a row."""

    def failed(self, at_least: float | None = None) -> float:
        """Seconds to wait now; `at_least` is what a server asked for, and is never undercut."""
        delay: float = min(self._first * 2.0 ** min(self.failures, 16), self._longest)
        self.failures += 1
        return (at_least or 0.0) + delay * (0.5 + self._chance() / 2)

    def succeeded(self) -> None:
        """Start over."""
        self.failures = 0
