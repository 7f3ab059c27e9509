"""The RouteConfigurations that a sidecar's listeners may name, and through which egress listener each looks.

RDS-001, SC-011, SEEN-010. A resolve step: no Envoy messages.
"""

from collections.abc import Iterator
from typing import NamedTuple

from pypilot.compile.routes.seen import SniffedName, route_names
from pypilot.compile.scope import egress_listeners, is_explicit_proxy
from pypilot.compile.view import ProxyView
from pypilot.kinds.sidecar import IstioEgressListener
from pypilot.world.reader import Reader

HTTP_PROXY = "http_proxy"
_HTTP = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY"})


class RouteName(NamedTuple):
    """One configuration."""

    name: str
    view: ProxyView
    """Through the egress listener whose services it has."""
    port: int
    """0 where the services of all ports are meant."""
    service: SniffedName | None = None
    """The only service, where its protocol is detected (RDS-014)."""


class _Asked(NamedTuple):
    """A name as a listener asks for it."""

    name: str
    port: int
    service: SniffedName | None = None


def _asked(reader: Reader, view: ProxyView, listener: IstioEgressListener, bound: bool) -> Iterator[_Asked]:
    port = listener.port
    if port is not None:
        if port.spoken in _HTTP:
            yield _Asked(str(port.number) if port.number else listener.bind, port.number)
        return
    own = bound or bool(listener.bind) or listener.capture_mode == "NONE"
    names = route_names(reader, view, own)
    yield from (_Asked(str(number), number) for number in names.ports)
    yield from (_Asked(f"{name.hostname}:{name.port}", name.port, name) for name in names.sniffed)


def _answers(listener: IstioEgressListener, asked: _Asked) -> bool:
    """True for the listener whose services the name means, whichever listener asked for it (SEEN-010)."""
    port = listener.port
    return port is None or (port.number == asked.port and (port.number > 0 or listener.bind == asked.name))


def _all_names(reader: Reader, view: ProxyView, bound: bool) -> tuple[RouteName, ...]:
    listeners = egress_listeners(reader, view.scope)
    asked: dict[str, _Asked] = {}
    for i, listener in enumerate(listeners):
        for one in _asked(reader, view.through(i), listener, bound):
            asked.setdefault(one.name, one)
    if reader.mesh().proxy_http_port > 0:
        asked[HTTP_PROXY] = _Asked(HTTP_PROXY, 0)
    found = []
    for one in asked.values():
        for i, listener in enumerate(listeners):
            if _answers(listener, one):
                proxied = is_explicit_proxy(listener) and one.service is None
                found.append(RouteName(one.name, view.through(i), 0 if proxied else one.port, one.service))
                break
    return tuple(found)


def all_names(reader: Reader, view: ProxyView, bound: bool) -> tuple[RouteName, ...]:
    """All names, whether or not a listener came out of each in the end.

    Args:
        bound: no traffic is captured, each service has a listener of its own at localhost (PC-004).
    """
    return reader.call(_all_names, view, bound)
