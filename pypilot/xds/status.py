"""What the streams tell the outside about themselves: frozen status records, and a hook for counters. No behaviour."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pypilot.wire.node import Proxy
from pypilot.xds.session import TypeStatus, Variant


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """One connected proxy."""

    id: str
    """Node id and a counter (XDS-002)."""
    proxy: Proxy
    identity: str
    """The SPIFFE id that the peer proved; empty on the plaintext port."""
    peer: str
    variant: Variant
    connected_at: datetime
    types: tuple[TypeStatus, ...]


@dataclass(frozen=True, slots=True)
class Statistics:
    """The server as a whole."""

    connections: int
    writing: int
    """Streams being written to."""
    waiting: int
    """Streams waiting for their turn."""
    bytes_in_flight: int
    diffs_made: int


class Metrics(Protocol):
    """Counters that somebody else keeps. `kind` is CDS, EDS, … or "other"."""

    def pushed(self, kind: str, size: int, resources: int) -> None: ...
    def acked(self, kind: str) -> None: ...
    def rejected(self, kind: str) -> None: ...
    def stale_nonce(self, kind: str) -> None: ...
    def connected(self, change: int) -> None:
        """A proxy came (+1) or went (-1)."""


class NoMetrics:
    """Counts nothing."""

    def pushed(self, kind: str, size: int, resources: int) -> None: ...
    def acked(self, kind: str) -> None: ...
    def rejected(self, kind: str) -> None: ...
    def stale_nonce(self, kind: str) -> None: ...
    def connected(self, change: int) -> None: ...
