"""One endpoint as Envoy sees it: address, weight, health, metadata (EDS-003…005, EDS-011)."""

from typing import TypeAlias

from envoy.config.core.v3 import address_pb2, health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2

from pypilot.compile.naming import CONNECT_ORIGINATE
from pypilot.world.model import Endpoint

MAX_WEIGHT = 2**32 - 1
"""Also the most that the weights of a locality may sum up to."""

LbEndpoint: TypeAlias = endpoint_components_pb2.LbEndpoint

_UNIX = "unix://"
_NAME_LABELS = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
_REVISION_LABELS = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")
_TUNNEL_LABEL = "networking.istio.io/tunnel"
_MANAGED_LABEL = "gateway.istio.io/managed"
_MANAGED_WAYPOINT = "istio.io-mesh-controller"
_HEALTH = {
    "HEALTHY": health_check_pb2.HealthStatus.HEALTHY,
    "UNHEALTHY": health_check_pb2.HealthStatus.UNHEALTHY,
    "DRAINING": health_check_pb2.HealthStatus.DRAINING,
}


def _first_label(endpoint: Endpoint, keys: tuple[str, ...], default: str) -> str:
    labels = dict(endpoint.labels)
    return next((labels[key] for key in keys if key in labels), default)


def workload_text(endpoint: Endpoint) -> str:
    """`WORKLOAD;NAMESPACE;CANONICAL_NAME;CANONICAL_REVISION;CLUSTER` for the caller's telemetry (EDS-004)."""
    workload = endpoint.workload_name
    name = _first_label(endpoint, _NAME_LABELS, workload)
    revision = _first_label(endpoint, _REVISION_LABELS, "latest")
    parts = (
        workload,
        endpoint.namespace,
        name,
        "" if revision == "latest" else revision,
        endpoint.cluster_id,
    )
    return ";".join(parts)


def speaks_hbone(endpoint: Endpoint) -> bool:
    """The endpoint says that it accepts HBONE (EDS-011)."""
    return "http" in endpoint.label(_TUNNEL_LABEL).split(",")


def takes_tunnel(endpoint: Endpoint) -> bool:
    """It is to be reached by HBONE: it speaks it, or is a waypoint, and has no sidecar that speaks mutual TLS."""
    if endpoint.tls_mode == "istio":
        return False
    return speaks_hbone(endpoint) or endpoint.label(_MANAGED_LABEL) == _MANAGED_WAYPOINT


def socket_address(address: str, port: int) -> address_pb2.Address:
    """An IP address or host name with a port, or a unix socket."""
    if address.startswith(_UNIX):
        return address_pb2.Address(pipe=address_pb2.Pipe(path=address.removeprefix(_UNIX)))
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address=address, port_value=port))


def build_lb_endpoint(endpoint: Endpoint, port: int, speaks_tls: bool, tunnel: bool, health: str) -> LbEndpoint:
    """The message. `health` is empty where nobody reports it; `tunnel`: reach it through the HBONE listener."""
    out = LbEndpoint()
    out.load_balancing_weight.value = min(endpoint.weight or 1, MAX_WEIGHT)
    if health:
        out.health_status = _HEALTH[health]
    metadata = out.metadata.filter_metadata
    metadata["istio"].fields["workload"].string_value = workload_text(endpoint)
    if tunnel:
        host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
        internal = out.endpoint.address.envoy_internal_address
        internal.server_listener_name = CONNECT_ORIGINATE
        internal.endpoint_id = f"{host}:{port}"
        metadata["envoy.filters.listener.original_dst"].fields["local"].string_value = internal.endpoint_id
        metadata["envoy.transport_socket_match"].fields["tunnel"].string_value = "http"
        return out
    out.endpoint.address.CopyFrom(socket_address(endpoint.address, port))
    if speaks_tls:
        metadata["envoy.transport_socket_match"].fields["tlsMode"].string_value = endpoint.tls_mode
    return out
