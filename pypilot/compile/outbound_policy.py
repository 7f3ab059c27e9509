"""What becomes of traffic to hosts that a proxy does not see (MESH-003, SC-005, SC-012). A resolve step."""

from typing import NamedTuple

from pypilot.compile.naming import BLACK_HOLE_CLUSTER, PASSTHROUGH_CLUSTER, outbound_cluster
from pypilot.compile.scope import Scoped
from pypilot.world.reader import Reader


class OutboundPolicy(NamedTuple):
    """The policy of a mesh or a Sidecar."""

    mode: str = "ALLOW_ANY"
    proxy: str = ""
    """The cluster to which everything unknown goes with ALLOW_ANY, in place of where it wanted to go."""

    @property
    def cluster(self) -> str:
        """Where connections go that nobody knows."""
        return BLACK_HOLE_CLUSTER if self.mode == "REGISTRY_ONLY" else self.proxy or PASSTHROUGH_CLUSTER

    @property
    def resolves_any_host(self) -> bool:
        """Requests to unknown hosts are resolved by the proxy."""
        return self.mode == "ALLOW_ANY_DYNAMIC_DNS"


RESOLVE_ANY_HOST = OutboundPolicy("ALLOW_ANY_DYNAMIC_DNS")


def outbound_policy(reader: Reader, scoped: Scoped) -> OutboundPolicy:
    """The Sidecar's policy, else the mesh's."""
    ref = scoped.scope.sidecar
    sidecar = reader.sidecar(ref) if ref is not None else None
    own = sidecar.spec.outbound_traffic_policy if sidecar is not None else None
    if own is None:
        return OutboundPolicy(reader.mesh().outbound_traffic_policy.mode)
    proxy = own.egress_proxy
    return OutboundPolicy(own.mode, outbound_cluster(proxy.port.number, proxy.subset, proxy.host) if proxy else "")
