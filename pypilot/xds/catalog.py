"""The door between the streams and whatever makes resources: two protocols, no code.

The engine implements them and the application passes it in, so that this room never imports the engine.
"""

from collections.abc import Callable
from typing import Protocol

from pypilot.wire.node import Proxy
from pypilot.wire.resource import ResourceSet


class ProxyFeed(Protocol):
    """What one connected proxy may ask for."""

    def current(self, type_url: str) -> ResourceSet:
        """Everything of one type that this proxy could ask for; the same object as long as nothing changed.

        An unknown type gives the empty set. Bad user configuration raises nothing. Calls that follow one another
        without an `await` between them answer from one and the same state of the world.
        """

    def close(self) -> None:
        """The proxy has gone: `notify` is not called any more."""


class Catalog(Protocol):
    """Where a connection gets its feed."""

    def open(self, proxy: Proxy, notify: Callable[[], None]) -> ProxyFeed:
        """Register a proxy. `notify` is called in the event loop whenever something may have changed for it."""
