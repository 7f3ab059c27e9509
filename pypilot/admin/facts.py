"""Where the admin pages get what they show. The application fills it in; nothing here does I/O."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from pypilot.engine.loop import Engine
from pypilot.sources.kubernetes.statistics import Statistics
from pypilot.world.delta import Problem
from pypilot.xds.status import ConnectionStatus


@dataclass(frozen=True, slots=True)
class Facts:
    """A running process, to look at."""

    engine: Engine
    connections: Callable[[], tuple[ConnectionStatus, ...]]
    is_ready: Callable[[], bool]
    """True once everything that is served is there to be served (CTL-002)."""
    problems: Callable[[], Awaitable[tuple[Problem, ...]]]
    """Everything that is wrong now, at the lines of the very fields."""
    cluster: Callable[[], Statistics | None] = lambda: None
    """How watching a Kubernetes cluster goes, if one is watched."""
    services: Callable[[], Mapping[str, object] | None] = lambda: None
    """Leader election, the root and what is written into a cluster, if anything is; plain data."""


def find_connections(connections: tuple[ConnectionStatus, ...], proxy_id: str) -> tuple[ConnectionStatus, ...]:
    """The connections that `proxy_id` means: a connection or node id, `NAME.NAMESPACE`, or the start of an id."""
    for is_meant in (
        lambda c: proxy_id in (c.id, c.proxy.id),
        lambda c: proxy_id == f"{c.proxy.name}.{c.proxy.namespace}",
        lambda c: bool(proxy_id) and c.proxy.id.startswith(proxy_id),
    ):
        found = tuple(c for c in connections if is_meant(c))
        if found:
            return found
    return ()
