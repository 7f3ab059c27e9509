"""How Envoy finds the hosts of a service (DR-012, DR-027): clusters ask, and endpoints for what goes over EDS."""

from enum import Enum

from pypilot.kinds.destination_rule import LoadBalancerSettings
from pypilot.world.model import MeshPort, MeshService, Protocol, Resolution


class Discovery(Enum):
    """Kinds of clusters."""

    EDS = "EDS"
    STRICT_DNS = "STRICT_DNS"
    LOGICAL_DNS = "LOGICAL_DNS"
    ORIGINAL_DST = "ORIGINAL_DST"
    DYNAMIC_FORWARD_PROXY = "DYNAMIC_FORWARD_PROXY"

    @property
    def is_dns(self) -> bool:
        """True for the kinds whose hosts are names inside the cluster."""
        return self in (Discovery.STRICT_DNS, Discovery.LOGICAL_DNS)


_DYNAMIC_PROTOCOLS = frozenset({Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.TLS})


def discovery_of(service: MeshService, is_router: bool, balancer: LoadBalancerSettings | None = None) -> Discovery:
    """The kind for one service. `simple: PASSTHROUGH` makes any of them ORIGINAL_DST (DR-045)."""
    if service.resolution is Resolution.DYNAMIC_DNS and service.hostname.startswith("*"):
        return Discovery.DYNAMIC_FORWARD_PROXY
    if balancer is not None and balancer.simple == "PASSTHROUGH":
        return Discovery.ORIGINAL_DST
    if service.resolution is Resolution.DNS:
        return Discovery.LOGICAL_DNS if service.races_addresses else Discovery.STRICT_DNS
    if service.resolution is Resolution.DNS_ROUND_ROBIN:
        return Discovery.LOGICAL_DNS
    # A gateway's callers did not mean one of the endpoints, so a gateway needs the list.
    if service.resolution is Resolution.PASSTHROUGH and not is_router:
        return Discovery.ORIGINAL_DST
    return Discovery.EDS


def cluster_ports(service: MeshService) -> tuple[MeshPort, ...]:
    """The ports that get clusters: none of an alias, none of UDP (KSVC-005, KSVC-010, SE-019)."""
    if service.resolution is Resolution.ALIAS:
        return ()
    if service.resolution is Resolution.DYNAMIC_DNS and service.hostname.startswith("*"):
        return tuple(p for p in service.ports if p.protocol in _DYNAMIC_PROTOCOLS)
    return tuple(p for p in service.ports if p.protocol is not Protocol.UDP)
