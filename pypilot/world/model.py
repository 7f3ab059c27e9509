"""The registry model: services and endpoints as the compiler sees them, whatever kind they came from.

Frozen and comparable: `advance` keeps the old value where the new one is equal, and so stops a change from spreading.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple

from pypilot.kinds.base import Ref
from pypilot.wire.node import Labels, Locality

WILDCARD_ADDRESS = "0.0.0.0"  # noqa: S104 - a listener address in compiled configuration, nothing is bound here


class ServiceKey(NamedTuple):
    """Identity of a service: two namespaces may define one hostname (SE-021)."""

    hostname: str
    namespace: str


class Protocol(Enum):
    """Port protocols (KSVC-008); the value is the word that users write."""

    HTTP = "HTTP"
    HTTP2 = "HTTP2"
    HTTP_PROXY = "HTTP_PROXY"
    GRPC = "GRPC"
    GRPC_WEB = "GRPC-WEB"
    HTTPS = "HTTPS"
    TLS = "TLS"
    TCP = "TCP"
    MONGO = "MONGO"
    REDIS = "REDIS"
    MYSQL = "MYSQL"
    UDP = "UDP"
    HBONE = "HBONE"
    UNSUPPORTED = "UNSUPPORTED"
    """Undeclared: detected on the connection."""

    @property
    def is_http(self) -> bool:
        """True for the protocols that an HTTP connection manager serves in clear (KSVC-010)."""
        return self in _HTTP

    @property
    def is_http2(self) -> bool:
        return self in (Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB)

    @property
    def is_tls(self) -> bool:
        return self in (Protocol.HTTPS, Protocol.TLS)

    @property
    def is_tcp(self) -> bool:
        """True for the protocols that are forwarded as bytes (TLS among them)."""
        return self in _TCP

    @property
    def is_unsupported(self) -> bool:
        return self is Protocol.UNSUPPORTED


_HTTP = frozenset({Protocol.HTTP, Protocol.HTTP2, Protocol.HTTP_PROXY, Protocol.GRPC, Protocol.GRPC_WEB})
_TCP = frozenset({Protocol.TCP, Protocol.HTTPS, Protocol.TLS, Protocol.MONGO, Protocol.REDIS, Protocol.MYSQL})


def protocol_of(word: str) -> Protocol:
    """The protocol of a word in capitals; UNSUPPORTED for others."""
    return next((protocol for protocol in Protocol if protocol.value == word), Protocol.UNSUPPORTED)


class Resolution(Enum):
    """How the endpoints of a service are found."""

    CLIENT_SIDE = "CLIENT_SIDE"
    """Endpoints are listed: an EDS cluster."""
    PASSTHROUGH = "PASSTHROUGH"
    """The caller's original destination (headless Services, ServiceEntry NONE)."""
    DNS = "DNS"
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"
    DYNAMIC_DNS = "DYNAMIC_DNS"
    ALIAS = "ALIAS"
    """An ExternalName Service: another name for another service, without clusters of its own (KSVC-005)."""

    @property
    def is_dns(self) -> bool:
        """True where endpoints are names that the proxy resolves."""
        return self in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN)


@dataclass(frozen=True, slots=True)
class MeshPort:
    """A port of a service."""

    number: int
    name: str
    protocol: Protocol
    target_port: int | str = 0
    """Number or container port name at the endpoint; 0 where it is the same as `number`."""


@dataclass(frozen=True, slots=True)
class MeshService:
    """A service: from a Kubernetes Service, or one host of a ServiceEntry."""

    hostname: str
    namespace: str
    name: str
    """The Service's name; for a ServiceEntry the host itself."""
    ports: tuple[MeshPort, ...]
    resolution: Resolution
    source: Ref
    """The object that defines the service."""
    created: str = ""
    addresses: tuple[str, ...] = ()
    """Virtual IPs (or CIDRs, for a ServiceEntry); empty where the service has none."""
    auto_addresses: tuple[str, ...] = ()
    """Allocated addresses, used only for proxies that capture DNS (SE-017)."""
    mesh_external: bool = False
    kubernetes: bool = True
    """True for a Kubernetes Service: its short names resolve, and it wins over a ServiceEntry (KSVC-021)."""
    headless: bool = False
    export_to: frozenset[str] | None = None
    """None where the object says nothing and the mesh default applies."""
    labels: Labels = ()
    selector: Labels = ()
    external_name: str = ""
    """What an ALIAS stands for."""
    expected_accounts: tuple[str, ...] = ()
    """Identities from annotations (KSVC-018)."""
    subject_alt_names: tuple[str, ...] = ()
    node_local: bool = False
    """internalTrafficPolicy: Local (KSVC-013)."""
    traffic_distribution: str = ""
    publish_not_ready: bool = False
    external_addresses: tuple[str, ...] = ()
    races_addresses: bool = False
    """Of all addresses that a name has, those of both families, the first that answers is taken (KSVC-020)."""

    @property
    def key(self) -> ServiceKey:
        return ServiceKey(self.hostname, self.namespace)

    @property
    def age_key(self) -> tuple[str, str, str]:
        """Oldest first: creation time (none counts as newest), then name, then namespace (SEEN-016)."""
        return (self.created or "~", self.name, self.namespace)

    def port(self, number: int) -> MeshPort | None:
        """The port of that number, or None."""
        for port in self.ports:
            if port.number == number:
                return port
        return None


Health = Literal["HEALTHY", "UNHEALTHY", "DRAINING", "TERMINATING", "UNKNOWN"]
"""UNKNOWN where nobody reports any: no Pod, no EndpointSlice."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of a service, with the number of each of its ports."""

    address: str
    """IP address, host name (DNS services) or `unix://` path."""
    ports: tuple[tuple[str, int], ...]
    """(service port name, endpoint port number)."""
    labels: Labels = ()
    service_account: str = ""
    """SPIFFE identity without trust domain expansion, or the empty string."""
    tls_mode: str = ""
    """`istio` where a sidecar accepts mutual TLS, else empty."""
    locality: Locality = Locality()
    network: str = ""
    cluster_id: str = "Kubernetes"
    weight: int = 0
    """0: not given, counts as 1."""
    health: Health = "HEALTHY"
    namespace: str = ""
    workload_name: str = ""
    pod_name: str = ""
    hostname: str = ""
    subdomain: str = ""
    node_name: str = ""
    is_gateway: bool = False
    """A way into another network, in place of what is there: it takes mutual TLS and nothing else."""

    def port(self, name: str) -> int | None:
        """The number of the port of that name, or None."""
        for port_name, number in self.ports:
            if port_name == name:
                return number
        return None

    def label(self, key: str) -> str:
        """The value of a label, or the empty string."""
        for k, v in self.labels:
            if k == key:
                return v
        return ""
