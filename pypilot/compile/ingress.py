"""The ingress listeners of a Sidecar as one workload has them: where each listens, where it leads (SC-013, SC-014).

Both halves of the inbound side are made of this: listeners and clusters. Builds no Envoy messages.
"""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

from pypilot.compile.scope import ingress_listeners, sidecar_of
from pypilot.kinds.base import Ref
from pypilot.kinds.destination_rule import ConnectionPoolSettings
from pypilot.kinds.sidecar import UNIX, IstioIngressListener
from pypilot.kinds.sidecar_validation import split_endpoint
from pypilot.wire.node import Proxy
from pypilot.world.model import WILDCARD_ADDRESS, MeshPort, MeshService, Resolution, protocol_of
from pypilot.world.reader import Reader

_PRIVILEGED = 1024


class IngressTarget(NamedTuple):
    """One port that a Sidecar opens at a workload."""

    port: MeshPort
    bind: str
    bound: bool
    """It is a listener of its own; else a chain of the one to which traffic is captured."""
    sidecar: Ref
    """With the workload's namespace: the Sidecar may be the mesh's."""

    @property
    def target(self) -> int:
        return self.port.number

    @property
    def owner(self) -> str:
        """What stands in place of a service's hostname."""
        return f"{self.sidecar.name}.{self.sidecar.namespace}"


def stand_in(name: str, namespace: str, port: MeshPort) -> MeshService:
    """In place of the service of a port that no service has: only its names count, in statistics."""
    return MeshService(
        hostname=f"{name}.{namespace}",
        namespace=namespace,
        name=name,
        ports=(port,),
        resolution=Resolution.CLIENT_SIDE,
        source=Ref("Sidecar", namespace, name),
        mesh_external=True,
        kubernetes=False,
    )


def _is_unicast(text: str) -> bool:
    address = ip_address(text)
    apart = address.is_loopback or address.is_multicast or address.is_link_local or address.is_unspecified
    return not apart and text != "255.255.255.255"


def _own_address(proxy: Proxy) -> str:
    """The workload's own address; all addresses if it has none by which others could reach it."""
    wildcard = WILDCARD_ADDRESS if any(":" not in ip for ip in proxy.ips) else "::"
    return next(filter(_is_unicast, proxy.ips), wildcard)


def _can_listen(proxy: Proxy, listener: IstioIngressListener, port: MeshPort, bound: bool) -> bool:
    """False for privileged ports of those who may not open them, and for the ports of the bootstrap (LIS-015)."""
    if bound and proxy.unprivileged and port.number < _PRIVILEGED:
        return False
    everywhere = listener.bind in (WILDCARD_ADDRESS, "::") if listener.bind else port.protocol.is_http
    return not (everywhere and port.number in (proxy.status_port, proxy.prometheus_port))


def ingress_targets(reader: Reader, proxy: Proxy) -> tuple[IngressTarget, ...]:
    """The ports in order of number; empty if the Sidecar says nothing of them, or there is none."""
    ref = sidecar_of(reader, proxy)
    found: dict[int, IngressTarget] = {}
    for listener in ingress_listeners(reader, ref):
        assert ref is not None
        port = MeshPort(listener.port.number, listener.port.name, protocol_of(listener.port.spoken))
        default = proxy.interception_mode == "NONE"
        bound = default if listener.capture_mode == "DEFAULT" else listener.capture_mode == "NONE"
        if _can_listen(proxy, listener, port, bound):
            bind = listener.bind or _own_address(proxy)
            found.setdefault(port.number, IngressTarget(port, bind, bound, ref._replace(namespace=proxy.namespace)))
    return tuple(found[number] for number in sorted(found))


class IngressEndpoint(NamedTuple):
    """To where one ingress listener leads."""

    port: MeshPort
    """The listener's."""
    address: str
    """Address or `unix:///path`; empty for wherever the client wanted to go."""
    number: int
    pool: ConnectionPoolSettings | None


def _first(ips: Iterable[str], ipv6: bool, default: str) -> str:
    return next((ip for ip in ips if (":" in ip) == ipv6), default)


def _address(host: str, proxy: Proxy) -> str:
    """What the words of the API mean at a workload."""
    ipv4, ipv6 = (any((":" in ip) == six for ip in proxy.ips) for six in (False, True))
    match host:
        case "0.0.0.0":  # noqa: S104 - a word of the API
            return _first(proxy.ips, False, "127.0.0.1")
        case "::":
            return _first(proxy.ips, True, "::1")
        case "127.0.0.1":
            return "127.0.0.1" if ipv4 else "::1"
        case "::1":
            return "::1" if ipv6 else "127.0.0.1"
    return ""


def ingress_endpoints(reader: Reader, proxy: Proxy) -> tuple[IngressEndpoint, ...]:
    """The endpoints in the order of the Sidecar's listeners."""
    ref = sidecar_of(reader, proxy)
    found = []
    for listener in ingress_listeners(reader, ref):
        port = MeshPort(listener.port.number, listener.port.name, protocol_of(listener.port.spoken))
        pool = inbound_pool(reader, ref, port.number)
        text = listener.default_endpoint
        if not text or text.startswith(UNIX):
            found.append(IngressEndpoint(port, text, 0, pool))
            continue
        parts = split_endpoint(text)
        if parts is not None:
            found.append(IngressEndpoint(port, _address(parts[0], proxy), parts[1], pool))
    return tuple(found)


def inbound_pool(reader: Reader, ref: Ref | None, port: int) -> ConnectionPoolSettings | None:
    """What a Sidecar says of the connections to a port of the workload: the port's own settings win (SC-016)."""
    sidecar = reader.sidecar(ref) if ref is not None else None
    if sidecar is None:
        return None
    own = (i.connection_pool for i in sidecar.spec.ingress if i.port.number == port)
    return next((pool for pool in own if pool is not None), sidecar.spec.inbound_connection_pool)
