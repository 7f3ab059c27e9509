"""Which outbound listeners a class of sidecars has, and with which chains: the resolve step (LIS-003…015, SE-007…009).

Services are taken oldest first; what a later one asks of an address and port joins what stands there, or is dropped.
Views that resolve alike get equal listeners and so share their bytes. Builds no Envoy messages.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from pypilot.compile.listeners.chains import PLAIN_HTTP, RAW_BUFFER, Chain, ChainMatch, HttpChain, without_overlaps
from pypilot.compile.listeners.tcp_routes import tcp_chains
from pypilot.compile.listeners.tls_routes import tls_chains
from pypilot.compile.routes.hosts import is_wildcard
from pypilot.compile.routes.seen import called_addresses, met_pods
from pypilot.compile.scope import egress_listeners, is_unix
from pypilot.compile.services import seen_service, visible_services
from pypilot.compile.view import ProxyView
from pypilot.kinds.sidecar import IstioEgressListener, SidecarPort
from pypilot.world.model import WILDCARD_ADDRESS, MeshPort, MeshService, Protocol, Resolution, protocol_of
from pypilot.world.reader import Reader

_PRIVILEGED = 1024
_SNIFFED = ChainMatch(alpn=PLAIN_HTTP, transport=RAW_BUFFER)
_ALONE = frozenset({Protocol.MONGO, Protocol.MYSQL})
"""Servers that speak first: inspecting a connection would stall them (LIS-010)."""


class OutboundScope(NamedTuple):
    """Everything on which the set of outbound listeners depends, beside the world."""

    view: ProxyView
    captured: bool = True
    """Traffic is redirected to the proxy; else it listens on the ports themselves (LIS-021)."""
    reserved: tuple[int, ...] = ()
    """Ports of the bootstrap's own listeners (LIS-015)."""
    unprivileged: bool = False

    @property
    def wildcard(self) -> str:
        return WILDCARD_ADDRESS if self.view.ipv4 or not self.view.ipv6 else "::"

    @property
    def localhost(self) -> str:
        return "127.0.0.1" if self.view.ipv4 or not self.view.ipv6 else "::1"


class OutboundListener(NamedTuple):
    """One listener: the key of its compile step."""

    bind: str
    port: int
    chains: tuple[Chain, ...]
    bound: bool = False
    """It opens a real port."""
    pod: bool = False
    """At the address of a pod of a headless service: that pod itself does not need it (LIS-013)."""


class OutboundListeners(NamedTuple):
    """All outbound listeners of a scope, by what their bytes depend on."""

    tcp: tuple[OutboundListener, ...]
    """Bytes alone: equal for all workloads."""
    http: tuple[OutboundListener, ...]
    """With a connection manager: they depend on the workload."""
    pod_tcp: tuple[OutboundListener, ...]
    pod_http: tuple[OutboundListener, ...]
    """Those at the addresses of pods."""

    @property
    def pods(self) -> frozenset[str]:
        """Addresses of pods that have listeners of their own."""
        return frozenset(listener.bind for listener in (*self.pod_tcp, *self.pod_http))


Speech: TypeAlias = Literal["http", "tcp", "auto"]


def _speech(protocol: Protocol) -> Speech:
    if protocol.is_http:
        return "http"
    return "tcp" if protocol.is_tcp else "auto"


@dataclass(slots=True)
class _Entry:
    """What stands at one address and port so far."""

    protocol: Protocol
    chains: list[Chain]
    pod: bool
    bound: bool = False
    locked: bool = False
    """A listener that a Sidecar asks for takes no others (SC-010)."""
    speech: Speech = field(init=False)

    def __post_init__(self) -> None:
        self.speech = _speech(self.protocol)

    def join(self, chains: Iterable[Chain]) -> None:
        """Add chains that differ from those that are there (LIS-009)."""
        known = {chain.match.identity for chain in self.chains}
        for chain in chains:
            if chain.match.identity not in known:
                known.add(chain.match.identity)
                self.chains.append(chain)

    def refuses(self, protocol: Protocol) -> bool:
        return protocol is not self.protocol and bool(_ALONE & {protocol, self.protocol})


class _Binding(NamedTuple):
    """Where the listeners of one egress listener are (SC-008, SC-009)."""

    bind: str = ""
    """Empty for the services' own addresses."""
    bound: bool = False
    """They open real ports."""


def _binding(scope: OutboundScope, listener: IstioEgressListener) -> _Binding:
    bound = not scope.captured or listener.capture_mode == "NONE" or is_unix(listener.bind)
    return _Binding(listener.bind or (scope.localhost if bound else ""), bound)


def _port_of(port: SidecarPort) -> MeshPort:
    return MeshPort(port.number, port.name, protocol_of(port.spoken))


class _Place(NamedTuple):
    """Where one port of a service listens."""

    bind: str
    cidrs: tuple[str, ...] = ()
    address: str = ""
    """The service's own address; empty where it has none that is a listener's."""
    pod: bool = False


class _Plan:
    """The conflict map of one scope."""

    def __init__(self, reader: Reader, scope: OutboundScope) -> None:
        self.reader = reader
        self.scope = scope
        self.view = scope.view
        self.binding = _Binding()
        mesh = reader.mesh()
        self.virtual_ports = frozenset({mesh.proxy_listen_port, mesh.proxy_inbound_listen_port})
        self.entries: dict[tuple[str, int], _Entry] = {}

    def add_listener(self, position: int, listener: IstioEgressListener) -> None:
        """The services that one egress listener imports, at its own port or at theirs (SC-007)."""
        self.view = self.scope.view.through(position)
        self.binding = _binding(self.scope, listener)
        own = _port_of(listener.port) if listener.port is not None else None
        if own is None:
            for entry in self.entries.values():
                entry.locked = True
        for key in visible_services(self.reader, self.view):
            service = seen_service(self.reader, self.view, key)
            if service is None or service.resolution is Resolution.ALIAS:
                continue
            for port in (own,) if own is not None else service.ports:
                if port.protocol is Protocol.UDP or self._is_forbidden(port.number):
                    continue
                for place in self._places(service, port, meets_pods=own is None):
                    self.add(service, port, place)

    def _is_forbidden(self, number: int) -> bool:
        return self.binding.bound and self.scope.unprivileged and 0 < number < _PRIVILEGED

    def _places(self, service: MeshService, port: MeshPort, meets_pods: bool) -> Iterator[_Place]:
        """Where a port of a service listens (LIS-005, LIS-012, LIS-013, SE-008)."""
        wildcard = self.scope.wildcard
        addresses = called_addresses(service, self.view)
        if self.binding.bind:
            yield _Place(self.binding.bind, address=addresses[0] if addresses else "")
            return
        if port.protocol.is_http:
            yield _Place(wildcard)
            return
        pods = met_pods(self.reader, service, addresses, port) if meets_pods else None
        if pods is not None:
            yield from (_Place(pod, pod=True) for pod in pods)
            return
        # Each address of a ServiceEntry is a service of its own (SE-001); a Service listens on its first.
        for address in addresses[:1] if service.kubernetes else addresses:
            yield _Place(wildcard, (address,)) if "/" in address else _Place(address, address=address)
        if not addresses:
            yield _Place(wildcard)

    def add(self, service: MeshService, port: MeshPort, place: _Place) -> None:
        """One port of a service at one address."""
        key = (place.bind, port.number)
        if place.bind == self.scope.wildcard and self._is_reserved(port.number):
            return
        entry = self.entries.get(key)
        if entry is not None and entry.locked:
            return
        speech = _speech(port.protocol)
        if speech == "http":
            self._add_http(key, entry, service, port)
        elif entry is None:
            chains = [*self._tcp(service, port, place), *(self._http(service, port, place) if speech == "auto" else ())]
            self.entries[key] = _Entry(port.protocol, chains, place.pod, self.binding.bound)
        elif not entry.refuses(port.protocol):
            self._join(key, entry, service, port, place)

    def _is_reserved(self, number: int) -> bool:
        return number in self.virtual_ports or number in self.scope.reserved

    def _add_http(self, key: tuple[str, int], entry: _Entry | None, service: MeshService, port: MeshPort) -> None:
        """All HTTP services of a port share one chain; virtual hosts tell them apart (LIS-003)."""
        shared = key[0] == self.scope.wildcard and port.protocol is not Protocol.HTTP_PROXY
        made = self._http_chain(service, port, str(port.number or key[0]), _SNIFFED if shared else ChainMatch())
        if entry is None or port.protocol is Protocol.HTTP_PROXY:
            # A chain for HTTP alone leaves room for others on the port.
            self.entries[key] = _Entry(
                Protocol.UNSUPPORTED if shared else port.protocol, [made], False, self.binding.bound
            )
        elif entry.speech == "tcp" and not entry.refuses(port.protocol):
            entry.join([made])
            entry.protocol, entry.speech, entry.pod = Protocol.UNSUPPORTED, "auto", False

    def _join(self, key: tuple[str, int], entry: _Entry, service: MeshService, port: MeshPort, place: _Place) -> None:
        speech = _speech(port.protocol)
        chains: list[Chain] = list(self._tcp(service, port, place))
        if speech == "auto" and entry.speech == "http":
            chains += self._http(service, port, place)
            self.entries[key] = _Entry(port.protocol, chains, place.pod, self.binding.bound)
            return
        if speech == "auto" and entry.speech == "tcp":
            chains += self._http(service, port, place)
        entry.join(chains)
        entry.pod = entry.pod and place.pod
        if speech != entry.speech and entry.speech != "auto":
            entry.protocol, entry.speech = Protocol.UNSUPPORTED, "auto"

    def _tcp(self, service: MeshService, port: MeshPort, place: _Place) -> Iterable[Chain]:
        view = self.view
        if port.protocol.is_tls:
            needs_name = place.bind == self.scope.wildcard and place.address in ("", self.scope.wildcard)
            return tls_chains(self.reader, view, service, port, place.cidrs, needs_name)
        return tcp_chains(self.reader, view, service, port, place.cidrs)

    def _http(self, service: MeshService, port: MeshPort, place: _Place) -> list[Chain]:
        """The HTTP side of a port whose protocol is detected (LIS-006)."""
        own = place.bind != self.scope.wildcard
        name = f"{service.hostname}:{port.number}" if own else str(port.number)
        return [self._http_chain(service, port, name if port.number else place.bind, _SNIFFED)]

    def _http_chain(self, service: MeshService, port: MeshPort, route_name: str, match: ChainMatch) -> HttpChain:
        dynamic = service.resolution is Resolution.DYNAMIC_DNS and is_wildcard(service.hostname)
        grpc_web = port.protocol is Protocol.GRPC_WEB
        return HttpChain(match, route_name, grpc_web, service.hostname if dynamic else "")


def _sorted(listeners: Iterable[OutboundListener]) -> OutboundListeners:
    found: dict[tuple[bool, bool], list[OutboundListener]] = {}
    for listener in listeners:
        has_http = any(isinstance(chain, HttpChain) for chain in listener.chains)
        found.setdefault((listener.pod, has_http), []).append(listener)
    kinds = ((False, False), (False, True), (True, False), (True, True))
    return OutboundListeners(*(tuple(found.get(kind, ())) for kind in kinds))


def outbound_listeners(reader: Reader, scope: OutboundScope) -> OutboundListeners:
    """All outbound listeners of a scope."""
    plan = _Plan(reader, scope)
    for position, listener in enumerate(egress_listeners(reader, scope.view.scope)):
        plan.add_listener(position, listener)
    made = (
        OutboundListener(bind, port, without_overlaps(entry.chains), entry.bound, entry.pod)
        for (bind, port), entry in plan.entries.items()
    )
    return _sorted(listener for listener in made if listener.chains)
