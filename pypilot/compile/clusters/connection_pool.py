"""Limits and timeouts of connections: `connectionPool`, `retryBudget`, keep-alive (DR-028…033, DR-037, MESH-011)."""

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2
from google.protobuf import wrappers_pb2

from pypilot.compile.clusters.draft import ClusterDraft
from pypilot.compile.clusters.protocol import use_downstream_protocol
from pypilot.compile.messages import duration
from pypilot.kinds.destination_rule import (
    ConnectionPoolSettings,
    HTTPSettings,
    RetryBudget,
    TcpKeepalive,
    TCPSettings,
)
from pypilot.kinds.mesh_config import MeshConfig

_UNLIMITED = 4294967295
_BUDGET_INTERVAL_KEY = 3 << 3 | 2
"""Field 3 of `RetryBudget` (DR-037), newer than the generated messages."""
_NO_TCP = TCPSettings()
_NO_HTTP = HTTPSettings()
_NO_POOL = ConnectionPoolSettings()


def _uint32(value: int) -> wrappers_pb2.UInt32Value:
    return wrappers_pb2.UInt32Value(value=value)


def _thresholds(
    tcp: TCPSettings, http: HTTPSettings, budget: RetryBudget | None
) -> circuit_breaker_pb2.CircuitBreakers.Thresholds:
    """DR-028, DR-032: zero means "no limit"."""
    thresholds = circuit_breaker_pb2.CircuitBreakers.Thresholds(
        max_connections=_uint32(tcp.max_connections or _UNLIMITED),
        max_pending_requests=_uint32(http.http1_max_pending_requests or _UNLIMITED),
        max_requests=_uint32(http.http2_max_requests or _UNLIMITED),
        max_retries=_uint32(http.max_retries or _UNLIMITED),
    )
    if budget is not None:
        thresholds.retry_budget.budget_percent.value = 20.0 if budget.percent is None else budget.percent
        thresholds.retry_budget.min_retry_concurrency.value = budget.min_retry_concurrency or 3
        if budget.budget_interval is not None:
            interval = duration(budget.budget_interval).SerializeToString()
            thresholds.retry_budget.MergeFromString(bytes((_BUDGET_INTERVAL_KEY, len(interval))) + interval)
    return thresholds


def _apply_keepalive(cluster: cluster_pb2.Cluster, keepalive: TcpKeepalive | None) -> None:
    if keepalive is None:
        return
    out = cluster.upstream_connection_options.tcp_keepalive
    out.SetInParent()
    if keepalive.probes:
        out.keepalive_probes.value = keepalive.probes
    if keepalive.time is not None:
        out.keepalive_time.value = int(keepalive.time.seconds)
    if keepalive.interval is not None:
        out.keepalive_interval.value = int(keepalive.interval.seconds)


def _apply_http_options(draft: ClusterDraft, tcp: TCPSettings, http: HTTPSettings) -> None:
    """DR-030, DR-031, DR-033. Stream limits and pings exist only where HTTP/2 is fixed."""
    idle = tcp.idle_timeout if http.idle_timeout is None else http.idle_timeout
    asked = (
        idle is not None
        or tcp.max_connection_duration is not None
        or http.http2_keep_alive is not None
        or http.max_requests_per_connection
        or http.max_concurrent_streams
    )
    if not asked:
        return
    options = draft.http_options()
    common = options.common_http_protocol_options
    common.SetInParent()
    if idle is not None:
        common.idle_timeout.CopyFrom(duration(idle))
    if http.max_requests_per_connection:
        common.max_requests_per_connection.value = http.max_requests_per_connection
    if tcp.max_connection_duration is not None:
        common.max_connection_duration.CopyFrom(duration(tcp.max_connection_duration))
    if not draft.is_http2:
        return
    http2 = options.explicit_http_config.http2_protocol_options
    if http.max_concurrent_streams:
        http2.max_concurrent_streams.value = http.max_concurrent_streams
    if http.http2_keep_alive is not None:
        http2.connection_keepalive.SetInParent()
        if http.http2_keep_alive.interval is not None:
            http2.connection_keepalive.interval.CopyFrom(duration(http.http2_keep_alive.interval))
        if http.http2_keep_alive.timeout is not None:
            http2.connection_keepalive.timeout.CopyFrom(duration(http.http2_keep_alive.timeout))


def apply_connection_pool(
    draft: ClusterDraft,
    mesh: MeshConfig,
    pool: ConnectionPoolSettings | None = None,
    budget: RetryBudget | None = None,
) -> None:
    """Set limits, timeouts and keep-alive; the mesh's defaults hold where the rule says nothing."""
    pool = pool or _NO_POOL
    tcp, http = pool.tcp or _NO_TCP, pool.http or _NO_HTTP
    cluster = draft.cluster
    cluster.connect_timeout.CopyFrom(duration(tcp.connect_timeout or mesh.connect_timeout))
    cluster.circuit_breakers.thresholds.append(_thresholds(tcp, http, budget))
    _apply_keepalive(cluster, mesh.tcp_keepalive)
    _apply_keepalive(cluster, tcp.tcp_keepalive)
    _apply_http_options(draft, tcp, http)
    if http.use_client_protocol:
        use_downstream_protocol(draft)
