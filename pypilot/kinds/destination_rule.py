"""Istio DestinationRule (networking.istio.io): the messages, field by field."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from pypilot.kinds.base import Duration, LabelSelector, Object, PortNumber, Spec, UInt32, deprecated, unsupported

ClientTLSMode = Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"]
SimpleLB = Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"]


class ClientTLSSettings(Spec, frozen=True):
    """`tls`."""

    mode: ClientTLSMode = "DISABLE"
    """Whether and how to speak TLS to the host."""
    client_certificate: str = ""
    """File with the client's certificate, for MUTUAL."""
    private_key: str = ""
    """File with its private key, for MUTUAL."""
    ca_certificates: str = ""
    """File with the CAs that verify the server; it is not verified if absent."""
    credential_name: str = ""
    """Secret with certificate and CA, read by gateways."""
    subject_alt_names: tuple[str, ...] | None = None
    """Names that the server's certificate may carry."""
    sni: str = ""
    """Server name to send."""
    insecure_skip_verify: bool | None = None
    """Do not verify the server's certificate."""
    ca_crl: str = ""
    """File with revoked certificates."""


class TcpKeepalive(Spec, frozen=True):
    """`connectionPool.tcp.tcpKeepalive` and MeshConfig `tcpKeepalive`."""

    probes: UInt32 = 0
    """Probes without an answer after which a connection is dead."""
    time: Duration | None = None
    """Idle time before the first probe."""
    interval: Duration | None = None
    """Time between probes."""


class TCPSettings(Spec, frozen=True):
    """`connectionPool.tcp`."""

    max_connections: UInt32 = 0
    """Most connections to the host."""
    connect_timeout: Duration | None = None
    """Time to establish a connection; 10s if absent."""
    tcp_keepalive: TcpKeepalive | None = None
    """Keep-alive probes of the operating system."""
    max_connection_duration: Duration | None = None
    """Time after which a connection is closed."""
    idle_timeout: Duration | None = None
    """Idle time after which a TCP connection is closed."""


class HTTP2KeepAlive(Spec, frozen=True):
    """`connectionPool.http.http2KeepAlive`."""

    interval: Duration | None = None
    """Time between PING frames."""
    timeout: Duration | None = None
    """Time for the answer to a PING."""


class HTTPSettings(Spec, frozen=True):
    """`connectionPool.http`."""

    http1_max_pending_requests: UInt32 = 0
    """Most requests waiting for a connection."""
    http2_max_requests: UInt32 = 0
    """Most requests in flight."""
    max_requests_per_connection: UInt32 = 0
    """Requests after which a connection is closed; 0: never."""
    max_retries: UInt32 = 0
    """Most retries in flight."""
    idle_timeout: Duration | None = None
    """Idle time after which a connection is closed; 1h if absent."""
    h2_upgrade_policy: Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] = "DEFAULT"
    """Whether to use HTTP/2 to the host."""
    use_client_protocol: bool = False
    """Speak to the host the protocol that the client spoke."""
    max_concurrent_streams: UInt32 = 0
    """Most streams on an HTTP/2 connection."""
    http2_keep_alive: HTTP2KeepAlive | None = None
    """PING frames on idle HTTP/2 connections."""


class ConnectionPoolSettings(Spec, frozen=True):
    """`connectionPool`."""

    tcp: TCPSettings | None = None
    """Limits of all connections."""
    http: HTTPSettings | None = None
    """Limits of HTTP connections."""


class OutlierDetection(Spec, frozen=True):
    """`outlierDetection`."""

    split_external_local_origin_errors: bool = False
    """Count errors of the connection apart from those that the host answers."""
    consecutive_local_origin_failures: UInt32 | None = None
    """Errors of the connection in a row that eject a host."""
    consecutive_gateway_errors: UInt32 | None = None
    """502, 503 and 504 in a row that eject a host."""
    consecutive_5xx_errors: UInt32 | None = msgspec.field(name="consecutive5xxErrors", default=None)
    """5xx in a row that eject a host; 5 if absent."""
    consecutive_errors: Annotated[
        UInt32, unsupported("Istio ignores it, too: use consecutiveGatewayErrors or consecutive5xxErrors")
    ] = 0
    """Former form of `consecutiveGatewayErrors`."""
    interval: Duration | None = None
    """Time between checks; 10s if absent."""
    base_ejection_time: Duration | None = None
    """Shortest ejection, times the number of ejections so far; 30s if absent."""
    max_ejection_percent: int = 0
    """Most hosts that may be ejected, in percent; 10 if absent."""
    min_health_percent: int = 0
    """Below this share of healthy hosts ejection stops."""
    outlier_detection_http_error_codes: tuple[int, ...] = ()
    """Further status codes that count as errors."""


class HTTPCookieAttribute(Spec, frozen=True):
    """`consistentHash.httpCookie.attributes[]`."""

    name: str = ""
    """Name of the attribute."""
    value: str = ""
    """Its value."""


class HTTPCookie(Spec, frozen=True):
    """`consistentHash.httpCookie`."""

    name: str
    """Name of the cookie."""
    path: str = ""
    """Its path."""
    ttl: Duration | None = None
    """Its lifetime; with one, Envoy makes the cookie where it is missing."""
    attributes: tuple[HTTPCookieAttribute, ...] = ()
    """Further attributes of a cookie that Envoy makes."""


class RingHash(Spec, frozen=True):
    """`consistentHash.ringHash`."""

    minimum_ring_size: int = 0
    """Fewest virtual nodes on the ring; 1024 if absent."""


class MagLev(Spec, frozen=True):
    """`consistentHash.maglev`."""

    table_size: int = 0
    """Size of the table, a prime; 65537 if absent."""


class ConsistentHashLB(Spec, frozen=True):
    """`loadBalancer.consistentHash`."""

    http_header_name: str = ""
    """Hash this header."""
    http_cookie: HTTPCookie | None = None
    """Hash this cookie."""
    use_source_ip: bool = False
    """Hash the client's address."""
    http_query_parameter_name: str = ""
    """Hash this query parameter."""
    ring_hash: RingHash | None = None
    """Use a ring."""
    maglev: MagLev | None = None
    """Use a Maglev table."""
    minimum_ring_size: Annotated[int, deprecated("ringHash.minimumRingSize")] = 0
    """Deprecated form of `ringHash.minimumRingSize`."""


class LocalityDistribute(Spec, frozen=True):
    """`localityLbSetting.distribute[]`; `from` is a Python keyword, hence the field name."""

    from_: str = msgspec.field(name="from", default="")
    """Locality of the client: region/zone/sub-zone, with * for the rest."""
    to: dict[str, UInt32] = {}
    """Share of each locality in percent; the sum is 100."""


class LocalityFailover(Spec, frozen=True):
    """`localityLbSetting.failover[]`."""

    from_: str = msgspec.field(name="from", default="")
    """Region of the client."""
    to: str = ""
    """Region that takes over."""


class LocalityLoadBalancerSetting(Spec, frozen=True):
    """`loadBalancer.localityLbSetting` and MeshConfig `localityLbSetting`."""

    distribute: tuple[LocalityDistribute, ...] = ()
    """Shares by locality."""
    failover: tuple[LocalityFailover, ...] = ()
    """Which region takes over when endpoints are unhealthy."""
    failover_priority: tuple[str, ...] = ()
    """Labels to compare with the client's: the more are equal, the higher the priority."""
    enabled: bool | None = None
    """Overrides the mesh's setting."""


class ZoneAwareLoadBalancerSetting(Spec, frozen=True):
    """`loadBalancer.zoneAwareLbSetting` and MeshConfig `zoneAwareLbSetting`."""

    enabled: bool | None = None
    """Prefer the client's own zone."""
    min_cluster_size: UInt32 | None = None
    """Fewest endpoints for it to have an effect."""
    failover: tuple[LocalityFailover, ...] = ()
    """Which region takes over first; the others come after it."""
    failover_priority: tuple[str, ...] = ()
    """Labels to compare with the client's: the more are equal, the higher the priority."""


class WarmupConfiguration(Spec, frozen=True):
    """`loadBalancer.warmup`."""

    duration: Duration | None = None
    """How long a new endpoint's share grows."""
    minimum_percent: float | None = None
    """Its share at the beginning, in percent."""
    aggression: float | None = None
    """Above 1 it grows faster at the beginning."""


class LoadBalancerSettings(Spec, frozen=True):
    """`loadBalancer`."""

    simple: SimpleLB | None = None
    """Algorithm."""
    consistent_hash: ConsistentHashLB | None = None
    """Choose the endpoint by a hash of the request."""
    locality_lb_setting: LocalityLoadBalancerSetting | None = None
    """Prefer or weigh localities."""
    zone_aware_lb_setting: ZoneAwareLoadBalancerSetting | None = None
    """Prefer the client's zone."""
    warmup_duration_secs: Annotated[Duration | None, deprecated("warmup.duration")] = None
    """Deprecated form of `warmup.duration`."""
    warmup: WarmupConfiguration | None = None
    """Let new endpoints start with few requests."""
    backend_utilization: Annotated[
        Any, unsupported("balancing by the load that endpoints report (ORCA) is not implemented")
    ] = None
    """Weigh endpoints by their reported load."""


class PortSelector(Spec, frozen=True):
    """`portLevelSettings[].port`."""

    number: PortNumber
    """Port of the service."""


class PortTrafficPolicy(Spec, frozen=True):
    """`portLevelSettings[]`."""

    port: PortSelector
    """Port to which these settings apply, in place of all those of the host."""
    load_balancer: LoadBalancerSettings | None = None
    """How an endpoint is chosen."""
    connection_pool: ConnectionPoolSettings | None = None
    """Limits of connections and requests."""
    outlier_detection: OutlierDetection | None = None
    """When a failing endpoint is left out."""
    tls: ClientTLSSettings | None = None
    """TLS to the host."""


class TunnelSettings(Spec, frozen=True):
    """`tunnel`."""

    protocol: str = ""
    """CONNECT or POST."""
    target_host: str = ""
    """Host that the tunnel leads to."""
    target_port: UInt32 = 0
    """Its port."""


class ProxyProtocol(Spec, frozen=True):
    """`proxyProtocol`."""

    version: Literal["V1", "V2"] = "V1"
    """Version of the PROXY header."""


class RetryBudget(Spec, frozen=True):
    """`retryBudget`."""

    percent: float | None = None
    """Most retries, in percent of the requests in flight."""
    budget_interval: Duration | None = None
    """How long a request is counted."""
    min_retry_concurrency: UInt32 = 0
    """Retries that are always allowed."""


class TrafficPolicy(Spec, frozen=True):
    """`trafficPolicy`, of the rule and of a subset."""

    load_balancer: LoadBalancerSettings | None = None
    """How an endpoint is chosen."""
    connection_pool: ConnectionPoolSettings | None = None
    """Limits of connections and requests."""
    outlier_detection: OutlierDetection | None = None
    """When a failing endpoint is left out."""
    tls: ClientTLSSettings | None = None
    """TLS to the host."""
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    """Settings for single ports."""
    tunnel: TunnelSettings | None = None
    """Reach the host through a tunnel of HTTP."""
    proxy_protocol: ProxyProtocol | None = None
    """Send a PROXY header first."""
    retry_budget: RetryBudget | None = None
    """Limit of retries in flight."""


class Subset(Spec, frozen=True):
    """`subsets[]`."""

    name: str
    """Name that routes refer to."""
    labels: dict[str, str] = {}
    """Labels that an endpoint of the subset has."""
    traffic_policy: TrafficPolicy | None = None
    """Settings that override the rule's."""


class DestinationRuleSpec(Spec, frozen=True):
    """`spec`."""

    host: str
    """Service: a DNS name, *.suffix, or a short name in the rule's own namespace."""
    traffic_policy: TrafficPolicy | None = None
    """Settings for all ports and subsets."""
    subsets: tuple[Subset, ...] = ()
    """Named parts of the service, as its versions."""
    export_to: tuple[str, ...] = ()
    """Namespaces that see the rule: `*` (the default), `.` for its own, or names."""
    workload_selector: LabelSelector | None = None
    """Client workloads of the rule's namespace to which it applies; all if absent."""


class DestinationRule(Object, frozen=True, kw_only=True):
    """A DestinationRule."""

    KIND: ClassVar[str] = "DestinationRule"

    spec: DestinationRuleSpec
    """What happens to traffic for a service after routing."""
