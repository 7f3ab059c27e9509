"""How patient the source is: timeouts, and jittered exponential backoff. Clock and chance are given: tests own them."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pypilot.kube.retry import Retry


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

    def retry(self) -> Retry:
        """Delays of this pace."""
        return Retry(self.first_retry, self.longest_retry, self.random)
