"""Istio DestinationRule (networking.istio.io): the messages, field by field."""

from collections.abc import Iterable
from typing import ClassVar, Literal

import msgspec

from pypilot.kinds.base import Duration, Finding, Kind, LabelSelector, Object, PortNumber, Spec, UInt32

ClientTLSMode = Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"]
SimpleLB = Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"]


class ClientTLSSettings(Spec, frozen=True):
    """`tls`."""

    mode: ClientTLSMode = "DISABLE"
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    credential_name: str = ""
    subject_alt_names: tuple[str, ...] | None = None
    sni: str = ""
    insecure_skip_verify: bool | None = None
    ca_crl: str = ""


class TcpKeepalive(Spec, frozen=True):
    """`connectionPool.tcp.tcpKeepalive` and MeshConfig `tcpKeepalive`."""

    probes: UInt32 = 0
    time: Duration | None = None
    interval: Duration | None = None


class TCPSettings(Spec, frozen=True):
    """`connectionPool.tcp`."""

    max_connections: UInt32 = 0
    connect_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Duration | None = None
    idle_timeout: Duration | None = None


class HTTP2KeepAlive(Spec, frozen=True):
    """`connectionPool.http.http2KeepAlive`."""

    interval: Duration | None = None
    timeout: Duration | None = None


class HTTPSettings(Spec, frozen=True):
    """`connectionPool.http`."""

    http1_max_pending_requests: UInt32 = 0
    http2_max_requests: UInt32 = 0
    max_requests_per_connection: UInt32 = 0
    max_retries: UInt32 = 0
    idle_timeout: Duration | None = None
    h2_upgrade_policy: Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] = "DEFAULT"
    use_client_protocol: bool = False
    max_concurrent_streams: UInt32 = 0
    http2_keep_alive: HTTP2KeepAlive | None = None


class ConnectionPoolSettings(Spec, frozen=True):
    """`connectionPool`."""

    tcp: TCPSettings | None = None
    http: HTTPSettings | None = None


class OutlierDetection(Spec, frozen=True):
    """`outlierDetection`."""

    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failures: UInt32 | None = None
    consecutive_gateway_errors: UInt32 | None = None
    consecutive_5xx_errors: UInt32 | None = msgspec.field(name="consecutive5xxErrors", default=None)
    consecutive_errors: UInt32 = 0
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: int = 0
    min_health_percent: int = 0
    outlier_detection_http_error_codes: tuple[int, ...] = ()


class HTTPCookieAttribute(Spec, frozen=True):
    """`consistentHash.httpCookie.attributes[]`."""

    name: str = ""
    value: str = ""


class HTTPCookie(Spec, frozen=True):
    """`consistentHash.httpCookie`."""

    name: str
    path: str = ""
    ttl: Duration | None = None
    attributes: tuple[HTTPCookieAttribute, ...] = ()


class RingHash(Spec, frozen=True):
    """`consistentHash.ringHash`."""

    minimum_ring_size: int = 0


class MagLev(Spec, frozen=True):
    """`consistentHash.maglev`."""

    table_size: int = 0


class ConsistentHashLB(Spec, frozen=True):
    """`loadBalancer.consistentHash`."""

    http_header_name: str = ""
    http_cookie: HTTPCookie | None = None
    use_source_ip: bool = False
    http_query_parameter_name: str = ""
    ring_hash: RingHash | None = None
    maglev: MagLev | None = None
    minimum_ring_size: int = 0


class LocalityDistribute(Spec, frozen=True):
    """`localityLbSetting.distribute[]`; `from` is a Python keyword, hence the field name."""

    from_: str = msgspec.field(name="from", default="")
    to: dict[str, UInt32] = {}


class LocalityFailover(Spec, frozen=True):
    """`localityLbSetting.failover[]`."""

    from_: str = msgspec.field(name="from", default="")
    to: str = ""


class LocalityLoadBalancerSetting(Spec, frozen=True):
    """`loadBalancer.localityLbSetting` and MeshConfig `localityLbSetting`."""

    distribute: tuple[LocalityDistribute, ...] = ()
    failover: tuple[LocalityFailover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    enabled: bool | None = None


class ZoneAwareLoadBalancerSetting(Spec, frozen=True):
    """`loadBalancer.zoneAwareLbSetting`."""

    enabled: bool | None = None
    min_cluster_size: int = 0
    routing_enabled: float | None = None


class WarmupConfiguration(Spec, frozen=True):
    """`loadBalancer.warmup`."""

    duration: Duration | None = None
    minimum_percent: float | None = None
    aggression: float | None = None


class LoadBalancerSettings(Spec, frozen=True):
    """`loadBalancer`."""

    simple: SimpleLB | None = None
    consistent_hash: ConsistentHashLB | None = None
    locality_lb_setting: LocalityLoadBalancerSetting | None = None
    zone_aware_lb_setting: ZoneAwareLoadBalancerSetting | None = None
    warmup_duration_secs: Duration | None = None
    warmup: WarmupConfiguration | None = None


class PortSelector(Spec, frozen=True):
    """`portLevelSettings[].port`."""

    number: PortNumber


class PortTrafficPolicy(Spec, frozen=True):
    """`portLevelSettings[]`."""

    port: PortSelector
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None


class TunnelSettings(Spec, frozen=True):
    """`tunnel`."""

    protocol: str = ""
    target_host: str = ""
    target_port: UInt32 = 0


class ProxyProtocol(Spec, frozen=True):
    """`proxyProtocol`."""

    version: Literal["V1", "V2"] = "V1"


class RetryBudget(Spec, frozen=True):
    """`retryBudget`."""

    percent: float | None = None
    budget_interval: Duration | None = None
    min_retry_concurrency: UInt32 = 0


class TrafficPolicy(Spec, frozen=True):
    """`trafficPolicy`, of the rule and of a subset."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    tunnel: TunnelSettings | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


class Subset(Spec, frozen=True):
    """`subsets[]`."""

    name: str
    labels: dict[str, str] = {}
    traffic_policy: TrafficPolicy | None = None


class DestinationRuleSpec(Spec, frozen=True):
    """`spec`."""

    host: str
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: LabelSelector | None = None


class DestinationRule(Object, frozen=True, kw_only=True):
    """A DestinationRule."""

    KIND: ClassVar[str] = "DestinationRule"

    spec: DestinationRuleSpec


def _validate_tls(tls: ClientTLSSettings | None, path: str) -> Iterable[Finding]:
    if tls is None or tls.mode != "MUTUAL" or tls.credential_name:
        return
    if not tls.client_certificate:
        yield Finding(f"{path}.clientCertificate", "mode MUTUAL needs a client certificate or credentialName (VAL-004)")
    if not tls.private_key:
        yield Finding(f"{path}.privateKey", "mode MUTUAL needs a private key or credentialName (VAL-004)")


def _validate_outlier(outlier: OutlierDetection | None, path: str) -> Iterable[Finding]:
    if outlier is None:
        return
    for name, value in (
        ("maxEjectionPercent", outlier.max_ejection_percent),
        ("minHealthPercent", outlier.min_health_percent),
    ):
        if not 0 <= value <= 100:
            yield Finding(f"{path}.{name}", f"{value} is not a percentage (0-100)")


def _validate_policy(policy: TrafficPolicy | None, path: str) -> Iterable[Finding]:
    if policy is None:
        return
    yield from _validate_tls(policy.tls, f"{path}.tls")
    yield from _validate_outlier(policy.outlier_detection, f"{path}.outlierDetection")
    for i, port in enumerate(policy.port_level_settings):
        yield from _validate_tls(port.tls, f"{path}.portLevelSettings[{i}].tls")
        yield from _validate_outlier(port.outlier_detection, f"{path}.portLevelSettings[{i}].outlierDetection")


def validate(rule: DestinationRule) -> Iterable[Finding]:
    """Checks of VAL-004."""
    if not rule.spec.host:
        yield Finding("spec.host", "a host is needed (VAL-004)")
    yield from _validate_policy(rule.spec.traffic_policy, "spec.trafficPolicy")
    seen: set[str] = set()
    for i, subset in enumerate(rule.spec.subsets):
        path = f"spec.subsets[{i}]"
        if not subset.name:
            yield Finding(f"{path}.name", "a subset needs a name (VAL-004)")
        elif subset.name in seen:
            yield Finding(f"{path}.name", f"subset {subset.name!r} is listed twice (VAL-004)")
        seen.add(subset.name)
        yield from _validate_policy(subset.traffic_policy, f"{path}.trafficPolicy")


KIND = Kind(
    DestinationRule,
    "networking.istio.io",
    ("v1", "v1beta1", "v1alpha3"),
    "destinationrules",
    units=("spec.subsets[]", "spec.trafficPolicy.portLevelSettings[]"),
    validate=validate,
)
