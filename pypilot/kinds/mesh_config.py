"""Istio MeshConfig and the ProxyConfig in it: all fields; those without effect say why (MESH and PC rows).

Not a Kubernetes kind: the text comes from a ConfigMap or a file.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from pypilot.kinds.base import NOT_IN_API, Duration, Spec, UInt32, unsupported
from pypilot.kinds.destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    LocalityLoadBalancerSetting,
    OutlierDetection,
    TcpKeepalive,
    ZoneAwareLoadBalancerSetting,
)
from pypilot.kinds.extension_provider import ExtensionProvider
from pypilot.kinds.virtual_service import HTTPRetry

Unused: TypeAlias = Annotated[Any, unsupported("neither agent nor injection nor what a proxy is sent depends on it")]
"""Of ProxyConfig, for whoever starts a proxy; ours says the same in its log (`proxy/ineffective.py`)."""
TlsOfAgent: TypeAlias = Annotated[
    Any, unsupported("the agent connects Envoy to such a service without TLS; with another mode it is left out")
]
Gone: TypeAlias = Annotated[Any, unsupported("Envoy has no such tracer any more")]
Provider: TypeAlias = Annotated[Any, unsupported("the Telemetry API is not implemented")]
Authority: TypeAlias = Annotated[Any, unsupported("certificates are signed by pypilot's own CA, see --ca-server")]
Ambient: TypeAlias = Annotated[Any, unsupported("it is for the ambient mode, which is not implemented")]
Limit: TypeAlias = Annotated[Any, unsupported("no proxy is sent this limit")]


class LabelRequirement(Spec, frozen=True):
    """`matchExpressions[]`."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """True if the labels meet it; `NotIn` also if the label is absent."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels


class NamespaceSelector(Spec, frozen=True):
    """`discoverySelectors[]`, a Kubernetes label selector: all of it must match (MESH-036)."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelRequirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """True if a namespace with these labels is meant."""
        wanted = self.match_labels.items()
        return all(labels.get(k) == v for k, v in wanted) and all(r.matches(labels) for r in self.match_expressions)


class OutboundTrafficPolicy(Spec, frozen=True):
    """`outboundTrafficPolicy` (MESH-003)."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS"] = "ALLOW_ANY"
    tls: ClientTLSSettings | None = None
    """Of connections to hosts that the proxy resolves itself (MESH-004)."""


class InboundTrafficPolicy(Spec, frozen=True):
    """`inboundTrafficPolicy` (MESH-015)."""

    mode: Literal["PASSTHROUGH", "LOCALHOST"] = "PASSTHROUGH"


class PathNormalization(Spec, frozen=True):
    """`pathNormalization` (MESH-033)."""

    normalization: Literal["DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] = "DEFAULT"


class MeshTLS(Spec, frozen=True):
    """`meshMTLS`, `tlsDefaults` (MESH-034, MESH-035)."""

    min_protocol_version: Literal["TLS_AUTO", "TLSV1_2", "TLSV1_3"] = "TLS_AUTO"
    ecdh_curves: tuple[str, ...] = ()
    cipher_suites: tuple[str, ...] = ()


class DefaultTrafficPolicy(Spec, frozen=True):
    """`defaultTrafficPolicy`: whole blocks for whatever rule lacks them (MESH-029)."""

    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None


class Topology(Spec, frozen=True):
    """`defaultConfig.gatewayTopology` (PC-008…010)."""

    num_trusted_proxies: UInt32 = 0
    forward_client_cert_details: str = ""
    proxy_protocol: dict[str, Any] | None = None


class Tracing(Spec, frozen=True):
    """`defaultConfig.tracing` (PC-007): sampling and tags; where traces go belongs to telemetry."""

    sampling: float | None = None
    max_path_tag_length: UInt32 = 0
    custom_tags: dict[str, Any] = {}
    enable_istio_tags: bool | None = None
    zipkin: Any = None
    lightstep: Gone = None
    datadog: Any = None
    stackdriver: Gone = None
    open_census_agent: Gone = None
    tls_settings: TlsOfAgent = None


class ProxyHeaders(Spec, frozen=True):
    """`defaultConfig.proxyHeaders` (PC-011…017): read together with what the node carries, hence no types here."""

    forwarded_client_cert: Any = None
    set_current_client_cert_details: Any = None
    request_id: Any = None
    server: Any = None
    attempt_count: Any = None
    envoy_debug_headers: Any = None
    metadata_exchange_headers: Any = None
    preserve_http1_header_case: Any = None
    x_forwarded_host: Any = None
    x_forwarded_port: Any = None


class ConnectionSettings(Spec, frozen=True):
    """`defaultConfig.connectionSettings` (PC-018, PC-019): likewise."""

    profile: Any = None
    listener_per_connection_buffer_limit_bytes: Any = None
    cluster_per_connection_buffer_limit_bytes: Limit = None
    listener_connection_limit: Limit = None
    global_downstream_connection_limit: Any = None
    http_idle_timeout: Any = None
    http_max_connection_duration: Any = None
    http_max_stream_duration: Any = None
    http_stream_idle_timeout: Any = None
    http_request_timeout: Any = None
    http_request_headers_timeout: Any = None
    http_drain_timeout: Any = None
    http_max_concurrent_streams: Any = None
    http2_initial_stream_window_size: Any = None
    http2_initial_connection_window_size: Any = None
    http_headers_with_underscores_action: Any = None
    http_merge_slashes: Any = None
    http_path_with_escaped_slashes_action: Any = None


class RemoteService(Spec, frozen=True):
    """`defaultConfig.envoyAccessLogService` and `envoyMetricsService`: where an agent has Envoy report."""

    address: Any = None
    tls_settings: TlsOfAgent = None
    tcp_keepalive: Any = None


class ProxyConfig(Spec, frozen=True):
    """`defaultConfig` (PC rows); the value that travels in node metadata is merged over it."""

    gateway_topology: Topology = Topology()
    tracing: Tracing | None = None
    proxy_headers: ProxyHeaders = ProxyHeaders()
    connection_settings: ConnectionSettings = ConnectionSettings()
    # What follows is for the agent and for injection (PC-002…006, PC-020, PC-021).
    proxy_metadata: Any = None
    config_path: Unused = None
    binary_path: Any = None
    custom_config_file: Any = None
    proxy_bootstrap_template_path: Any = None
    service_cluster: Any = None
    drain_duration: Any = None
    termination_drain_duration: Any = None
    discovery_address: Any = None
    discovery_refresh_delay: Unused = None
    control_plane_auth_policy: Unused = None
    ca_certificates_pem: Any = None
    proxy_admin_port: Any = None
    status_port: Any = None
    availability_zone: Unused = None
    concurrency: Any = None
    interception_mode: Any = None
    mesh_id: Unused = None
    image: Any = None
    hold_application_until_proxy_starts: Any = None
    readiness_probe: Any = None
    runtime_values: Any = None
    sds: Unused = None
    stat_name_length: Unused = None
    stats_compression: Any = None
    statsd_udp_address: Any = None
    proxy_stats_matcher: Any = None
    extra_stat_tags: Any = None
    file_flush_interval: Any = None
    file_flush_min_size_kb: Any = None
    envoy_access_log_service: RemoteService | None = None
    envoy_metrics_service: RemoteService | None = None
    envoy_metrics_service_address: Any = None
    zipkin_address: Any = None
    tracing_service_name: Any = None
    private_key_provider: Annotated[Any, unsupported("private keys are used by the processor alone (PC-020)")] = None


class SettingsOfService(Spec, frozen=True):
    """`serviceSettings[].settings`."""

    cluster_local: bool = False


class ServiceSettings(Spec, frozen=True):
    """`serviceSettings[]`: what holds for the services of these hosts (MESH-037)."""

    settings: SettingsOfService = SettingsOfService()
    hosts: tuple[str, ...] = ()


class CertificateData(Spec, frozen=True):
    """`caCertificates[]`: a further root, and the trust domains whose identities count (MESH-008, PA-013)."""

    pem: str = ""
    spiffe_bundle_url: Annotated[str, unsupported("bundles of others are not fetched: give them as pem")] = ""
    cert_signers: Annotated[
        tuple[str, ...], unsupported("no signers of Kubernetes are asked for certificates of workloads")
    ] = ()
    trust_domains: tuple[str, ...] = ()


class MeshConfig(Spec, frozen=True):
    """The mesh-wide configuration, with Istio's built-in defaults."""

    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    enable_auto_mtls: bool = msgspec.field(name="enableAutoMtls", default=True)
    connect_timeout: Duration = Duration(10_000_000_000)
    tcp_keepalive: TcpKeepalive | None = None
    protocol_detection_timeout: Duration = Duration(0)
    proxy_listen_port: int = 15001
    proxy_inbound_listen_port: int = 15006
    proxy_http_port: int = 0
    outbound_traffic_policy: OutboundTrafficPolicy = OutboundTrafficPolicy()
    inbound_traffic_policy: InboundTrafficPolicy = InboundTrafficPolicy()
    default_service_export_to: tuple[str, ...] = ("*",)
    default_virtual_service_export_to: tuple[str, ...] = ("*",)
    default_destination_rule_export_to: tuple[str, ...] = ("*",)
    ingress_service: str = "istio-ingressgateway"
    ingress_selector: str = ""
    ingress_class: str = "istio"
    ingress_controller_mode: Literal["UNSPECIFIED", "OFF", "DEFAULT", "STRICT"] = "STRICT"
    """Which Ingresses are served: none, those without a class, too, or only those of the class (MESH-017)."""
    access_log_file: str = ""
    access_log_format: str = ""
    access_log_encoding: Literal["TEXT", "JSON"] = "TEXT"
    disable_envoy_listener_log: bool = False
    enable_tracing: bool = True
    default_http_retry_policy: HTTPRetry | None = None
    default_inbound_http_retry_policy: Annotated[HTTPRetry | None, NOT_IN_API] = None
    default_traffic_policy: DefaultTrafficPolicy = DefaultTrafficPolicy()
    hbone_idle_timeout: Duration = Duration(3_600_000_000_000)
    """Of connections that carry tunnels (MESH-043)."""
    dns_refresh_rate: Duration = Duration(60_000_000_000)
    path_normalization: PathNormalization = PathNormalization()
    mesh_mtls: MeshTLS = msgspec.field(name="meshMTLS", default=MeshTLS())
    tls_defaults: MeshTLS = MeshTLS()
    h2_upgrade_policy: Literal["DO_NOT_UPGRADE", "UPGRADE"] = "DO_NOT_UPGRADE"
    outbound_cluster_stat_name: str = ""
    inbound_cluster_stat_name: str = ""
    locality_lb_setting: LocalityLoadBalancerSetting = LocalityLoadBalancerSetting(enabled=True)
    service_settings: tuple[ServiceSettings, ...] = ()
    discovery_selectors: tuple[NamespaceSelector, ...] = ()
    extension_providers: tuple[ExtensionProvider, ...] = ()
    default_config: ProxyConfig = ProxyConfig()
    zone_aware_lb_setting: ZoneAwareLoadBalancerSetting | None = None
    verify_certificate_at_client: Annotated[
        Any, unsupported("Istio ignores it, too: without CA, servers are verified by the system's CAs (MESH-044)")
    ] = None
    enable_envoy_access_log_service: Annotated[Any, unsupported("access logs are written to files only (MESH-019)")] = (
        None
    )
    enable_prometheus_merge: Any = None
    default_providers: Provider = None
    ca: Authority = None
    ca_certificates: tuple[CertificateData, ...] = ()
    """Further authorities and what they vouch for."""
    certificates: Authority = None
    config_sources: Annotated[Any, unsupported("--config and --kubernetes say where configuration is read")] = None
    service_scope_configs: Ambient = None
    service_entry_visibility: Ambient = None

    @property
    def trusted_domains(self) -> tuple[str, ...]:
        """The trust domains whose identities are accepted (MESH-006…008)."""
        further = (domain for certificate in self.ca_certificates for domain in certificate.trust_domains)
        return tuple(d for d in dict.fromkeys((self.trust_domain, *self.trust_domain_aliases, *further)) if d)
