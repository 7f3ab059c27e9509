"""How patient the source is: timeouts, and jittered exponential backoff. Clock and chance are given: tests own them."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds, and where time and chance come from."""

    request: float = 60.0
    """For one page of a list."""
    watch: float = 300.0
    """After this long, up to twice that, the server ends a watch; spread, so that not all come back at once."""
    silence: float = 100.0
    """A watch without event or bookmark for so long may be stuck: the server is asked where it is, and watched again.
    Bookmarks come every minute, but of an idle kind only as often as etcd tells its own progress."""
    first_retry: float = 0.2
    longest_retry: float = 20.0
    discovery: float = 30.0
    """How often it is looked which kinds are served, beside the watch of CustomResourceDefinitions."""
    page: int = 500
    """Objects per page of a list."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random


class Backoff:
    """Delays that double, each shortened by chance to between half and all of it."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._failures = 0

    @property
    def failures(self) -> int:
        """How many in a row."""
        return self._failures

    def succeeded(self) -> None:
        """Start over."""
        self._failures = 0

    def failed(self, at_least: float | None = None) -> float:
        """Seconds to wait now; `at_least` is what the server asked for (Retry-After), and is never undercut."""
        delay: float = min(self._pace.first_retry * 2.0 ** min(self._failures, 16), self._pace.longest_retry)
        self._failures += 1
        return (at_least or 0.0) + delay * (0.5 + self._pace.random() / 2)
