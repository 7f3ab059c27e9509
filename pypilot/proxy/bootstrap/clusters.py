"""Static clusters: the control plane, the agent, Envoy itself, and what ProxyConfig names (LIS-036, PC-007, PC-021)."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterDnsLookupFamily,
    ClusterEdsClusterConfig,
    UpstreamConnectionOptions,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    Pipe,
    TcpKeepalive,
)

from pypilot.proxy.bootstrap.common import SDS_CLUSTER, address, endpoint, http2, mutual_tls
from pypilot.proxy.proxy_config import RemoteService
from pypilot.proxy.settings import AgentSettings
from pypilot.proxy.values import HostPort, host_port_of

XDS_CLUSTER = "xds-grpc"
ADMIN_CLUSTER = "prometheus_stats"
AGENT_CLUSTER = "agent"
METRICS_CLUSTER = "envoy_metrics_service"
ACCESS_LOG_CLUSTER = "envoy_accesslog_service"
TRACER_CLUSTERS = {"zipkin": "zipkin", "datadog": "datadog_agent"}
LOCAL_CLUSTER = "local_cluster"
SDS_SOCKET = "socket"
"""In the directory for the agent's state."""


def loopback(settings: AgentSettings) -> str:
    """Of the pod's family."""
    return "::1" if settings.is_ipv6 else "127.0.0.1"


def _named(name: str) -> dict[str, str]:
    return {"name": name, "alt_stat_name": f"{name};"}  # on which the tags' expressions split (BOOT-004)


def _family(settings: AgentSettings) -> ClusterDnsLookupFamily:
    """That of the pod: by itself Envoy takes IPv6 first."""
    return ClusterDnsLookupFamily.AUTO if settings.is_ipv6 else ClusterDnsLookupFamily.V4_PREFERRED


def _remote(settings: AgentSettings, name: str, where: HostPort, **more: Any) -> Cluster:
    return Cluster(
        **_named(name),
        type=ClusterDiscoveryType.STRICT_DNS,
        connect_timeout=timedelta(seconds=1),
        respect_dns_ttl=True,
        dns_lookup_family=_family(settings),
        load_assignment=endpoint(name, address(where.host, where.port)),
        **more,
    )


def _control_plane(settings: AgentSettings) -> Cluster:
    where = host_port_of(settings.config.discovery_address, "discoveryAddress")
    return _remote(
        settings,
        XDS_CLUSTER,
        where,
        dns_refresh_rate=timedelta(seconds=5),
        transport_socket=mutual_tls(settings.control_plane_name),
        typed_extension_protocol_options=http2(),
        upstream_connection_options=UpstreamConnectionOptions(tcp_keepalive=TcpKeepalive(keepalive_time=300)),
    )


def _agent_sds(settings: AgentSettings) -> Cluster:
    socket = Address(pipe=Pipe(path=str(settings.state / SDS_SOCKET)))
    return Cluster(
        **_named(SDS_CLUSTER),
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=timedelta(seconds=1),
        load_assignment=endpoint(SDS_CLUSTER, socket),
        typed_extension_protocol_options=http2(),
    )


def _local(settings: AgentSettings, name: str, port: int) -> Cluster:
    return Cluster(
        **_named(name),
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=timedelta(milliseconds=250),
        load_assignment=endpoint(name, address(loopback(settings), port)),
    )


def _reported_to(settings: AgentSettings, name: str, service: RemoteService) -> Cluster:
    keepalive = {
        "keepalive_probes": service.probes or None,
        "keepalive_time": int(service.time) or None,
        "keepalive_interval": int(service.interval) or None,
    }
    options = UpstreamConnectionOptions(tcp_keepalive=TcpKeepalive(**keepalive))
    more = {"upstream_connection_options": options} if any(keepalive.values()) else {}
    return _remote(settings, name, service.address, typed_extension_protocol_options=http2(), **more)


def _its_like() -> Cluster:
    """Whose endpoints are the proxy's own service's, for whoever counts zones (EDS-014)."""
    ads = ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)
    return Cluster(
        **_named(LOCAL_CLUSTER),
        type=ClusterDiscoveryType.EDS,
        connect_timeout=timedelta(seconds=1),
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=ads, service_name=LOCAL_CLUSTER),
    )


def knows_its_like(settings: AgentSettings) -> bool:
    """It was asked to."""
    return str(settings.metadata.get("ENABLE_SELF_DISCOVERY", "")).lower() in ("true", "1")


def clusters(settings: AgentSettings) -> Iterator[Cluster]:
    """All of them."""
    config = settings.config
    yield _control_plane(settings)
    yield _agent_sds(settings)
    yield _local(settings, ADMIN_CLUSTER, config.admin_port)
    yield _local(settings, AGENT_CLUSTER, config.status_port)
    if config.tracer is not None:
        yield _remote(settings, TRACER_CLUSTERS[config.tracer.kind], config.tracer.address)
    if config.metrics_service is not None:
        yield _reported_to(settings, METRICS_CLUSTER, config.metrics_service)
    if config.access_log_service is not None:
        yield _reported_to(settings, ACCESS_LOG_CLUSTER, config.access_log_service)
    if knows_its_like(settings):
        yield _its_like()
