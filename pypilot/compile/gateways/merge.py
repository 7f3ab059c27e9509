"""All servers of a proxy's Gateways, merged by the port on which the proxy really listens (GW-006…008, GW-027…032).

Two servers may share a port and bind address if both are plain HTTP, or both are told apart by SNI; of others the first
one stays. Must not look at VirtualServices or build messages.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from pypilot.compile.gateways.selection import gateways_for
from pypilot.compile.targets import service_targets
from pypilot.kinds.base import Ref
from pypilot.kinds.gateway import IstioGateway, Server
from pypilot.wire.node import Proxy
from pypilot.world.model import Protocol
from pypilot.world.protocols import parse_protocol
from pypilot.world.reader import Reader

KEEP_PORTS = "experimental.istio.io/disable-gateway-port-translation"
"""Label of a Service whose ports are not translated."""

PortMap: TypeAlias = tuple[tuple[int, int], ...]
"""(service port, target port), in order of port."""


class MergedServer(NamedTuple):
    """One server that is served."""

    gateway: Ref
    position: int
    """Position in the Gateway's `servers`."""
    number: int
    """The server's own port number: part of its virtual hosts' names (GW-018), and what routes match."""
    protocol: Protocol
    hosts: tuple[str, ...]
    """`NAMESPACE/HOST` or `HOST`: `./` is spelled out and `*/` left out (GW-011)."""
    route_name: str
    """The RouteConfiguration that serves it; empty for TCP and passed-through TLS (GW-007)."""
    https_redirect: bool


class ServerPort(NamedTuple):
    """The servers of one listening port, protocol word and bind address; several may share one listener."""

    number: int
    """The port on which the proxy listens."""
    protocol: Protocol
    bind: str
    """Empty for all addresses."""
    servers: tuple[MergedServer, ...]


class MergedServers(NamedTuple):
    """Everything that a gateway proxy serves."""

    ports: tuple[ServerPort, ...] = ()
    routes: tuple[tuple[str, tuple[MergedServer, ...]], ...] = ()
    """Route name -> servers, oldest Gateway first."""

    def servers_of(self, route_name: str) -> tuple[MergedServer, ...]:
        """The servers of one RouteConfiguration; none if the name is unknown."""
        return dict(self.routes).get(route_name, ())

    @property
    def gateway_names(self) -> frozenset[str]:
        """`NAMESPACE/NAME` of each Gateway of which something is served."""
        return frozenset(f"{s.gateway.namespace}/{s.gateway.name}" for port in self.ports for s in port.servers)


NOTHING = MergedServers()


def is_passthrough(server: Server) -> bool:
    """True if TLS is passed through unopened."""
    return server.tls is not None and server.tls.mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH")


def server_of(reader: Reader, merged: MergedServer) -> Server | None:
    """The server itself, None if it is gone."""
    gateway = reader.gateway(merged.gateway)
    if gateway is None or merged.position >= len(gateway.spec.servers):
        return None
    return gateway.spec.servers[merged.position]


def _hosts(server: Server, namespace: str) -> tuple[str, ...]:
    hosts = []
    for host in server.hosts:
        owner, slash, name = host.partition("/")
        if slash and owner == "*":
            if name == "*":
                return ("*",)
            hosts.append(name)
        else:
            hosts.append(f"{namespace}/{name}" if slash and owner == "." else host)
    return tuple(hosts)


def _route_name(gateway: IstioGateway, server: Server, protocol: Protocol, listening: int) -> str:
    """GW-007: plain HTTP servers of a port share a name, a server that terminates HTTPS has its own."""
    bind = f".{server.bind}" if server.bind else ""
    if protocol.is_http:
        return f"http.{listening}{bind}"
    if protocol is Protocol.HTTPS and not is_passthrough(server):
        return f"https.{server.port.number}.{server.port.name}.{gateway.name}.{gateway.namespace}{bind}"
    return ""


class _Slot(NamedTuple):
    number: int
    word: str
    bind: str


class _Merge:
    """The state of one merge."""

    def __init__(self) -> None:
        self.slots: dict[_Slot, list[MergedServer]] = {}
        self.routes: dict[str, list[MergedServer]] = {}
        self.plain: dict[int, _Slot] = {}
        """Port -> the plain-text servers that came last on an address of their own."""
        self.taken: set[int] = set()
        self.sni: dict[int, dict[str, str]] = {}
        """Port -> host -> bind address."""

    def add(self, made: MergedServer, server: Server, listening: int) -> None:
        """Take the server in, unless it conflicts with an earlier one."""
        if server.tls is not None and not self._claim_sni(made.hosts, server.bind, listening):
            return
        slot = _Slot(listening, server.port.protocol, server.bind)
        plain = self.plain.get(listening)
        if listening not in self.taken:
            self.taken.add(listening)
            self._open(slot, made, server)
        elif plain is not None:
            self._join_plain(slot, plain, made, server)
        elif server.tls is None or made.protocol.is_http:
            self._open(slot, made, server)
        else:
            self._join_tls(slot, made)

    def _claim_sni(self, hosts: Iterable[str], bind: str, listening: int) -> bool:
        """False if a host is already served on this port and address (GW-029)."""
        known = self.sni.setdefault(listening, {})
        if any(known.get(host) == bind for host in hosts):
            return False
        known.update(dict.fromkeys(hosts, bind))
        return True

    def _open(self, slot: _Slot, made: MergedServer, server: Server) -> None:
        if server.tls is None or made.protocol.is_http:
            self.plain[slot.number] = slot
        if made.route_name:
            self.routes[made.route_name] = [made]
        self.slots[slot] = [made]

    def _join_plain(self, slot: _Slot, plain: _Slot, made: MergedServer, server: Server) -> None:
        """GW-027, GW-028: on one address only plain HTTP joins plain HTTP."""
        if plain.bind == slot.bind:
            if made.protocol.is_http and parse_protocol(plain.word).is_http:
                self.slots[plain].append(made)
                self.routes.setdefault(made.route_name, []).append(made)
        elif slot in self.slots:
            self.slots[slot].append(made)
            if made.route_name:
                self.routes.setdefault(made.route_name, []).append(made)
        else:
            self._open(slot, made, server)

    def _join_tls(self, slot: _Slot, made: MergedServer) -> None:
        """Servers that SNI tells apart; each that terminates HTTPS needs a route name of its own (GW-030)."""
        if made.route_name:
            if made.route_name in self.routes:
                return
            self.routes[made.route_name] = [made]
        self.slots.setdefault(slot, []).append(made)

    def result(self) -> MergedServers:
        ports = (ServerPort(s.number, parse_protocol(s.word), s.bind, tuple(m)) for s, m in self.slots.items())
        return MergedServers(tuple(ports), tuple((name, tuple(servers)) for name, servers in self.routes.items()))


def _merge(reader: Reader, gateways: tuple[Ref, ...], port_map: PortMap) -> MergedServers:
    merge = _Merge()
    targets = dict(port_map)
    for ref in gateways:
        gateway = reader.gateway(ref)
        if gateway is None:
            continue
        for position, server in enumerate(gateway.spec.servers):
            protocol = parse_protocol(server.port.protocol)
            listening = targets.get(server.port.number, server.port.number)
            made = MergedServer(
                gateway=ref,
                position=position,
                number=server.port.number,
                protocol=protocol,
                hosts=_hosts(server, ref.namespace),
                route_name=_route_name(gateway, server, protocol, listening),
                https_redirect=server.tls is not None and server.tls.https_redirect,
            )
            merge.add(made, server, listening)
    return merge.result()


def port_map(reader: Reader, proxy: Proxy) -> PortMap:
    """Service port -> target port of the oldest Service that selects the proxy's pod (GW-006)."""
    found: dict[int, int] = {}
    for target in service_targets(reader, proxy):
        service = reader.service(target.service)
        if service is not None and all(key != KEEP_PORTS for key, _ in service.labels):
            found.setdefault(target.port.number, target.target)
    return tuple(sorted(found.items()))


def merged_servers(reader: Reader, proxy: Proxy) -> MergedServers:
    """What a gateway proxy serves, by port and by route name. Proxies of one deployment share the value."""
    gateways = gateways_for(reader, proxy)
    return reader.call(_merge, gateways, reader.call(port_map, proxy)) if gateways else NOTHING
