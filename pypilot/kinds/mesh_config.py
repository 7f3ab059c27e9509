"""Istio MeshConfig and the ProxyConfig in it: the fields that change what is compiled (MESH and PC rows).

Not a Kubernetes kind: the text comes from a ConfigMap or a file.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from pypilot.kinds.base import Duration, Spec, UInt32
from pypilot.kinds.destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    LocalityLoadBalancerSetting,
    OutlierDetection,
    TcpKeepalive,
)
from pypilot.kinds.extension_provider import ExtensionProvider
from pypilot.kinds.virtual_service import HTTPRetry


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
    """`defaultConfig.tracing` (PC-007): sampling only; providers belong to telemetry."""

    sampling: float | None = None
    max_path_tag_length: UInt32 = 0
    custom_tags: dict[str, Any] = {}
    enable_istio_tags: bool | None = None


class ProxyConfig(Spec, frozen=True):
    """`defaultConfig` (PC rows); the value that travels in node metadata is merged over it."""

    gateway_topology: Topology = Topology()
    tracing: Tracing | None = None
    proxy_metadata: dict[str, str] = {}
    proxy_headers: dict[str, Any] = {}
    """Read together with what the node carries (`compile.proxy_settings`)."""
    connection_settings: dict[str, Any] = {}


class SettingsOfService(Spec, frozen=True):
    """`serviceSettings[].settings`."""

    cluster_local: bool = False


class ServiceSettings(Spec, frozen=True):
    """`serviceSettings[]`: what holds for the services of these hosts (MESH-037)."""

    settings: SettingsOfService = SettingsOfService()
    hosts: tuple[str, ...] = ()


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
    default_inbound_http_retry_policy: HTTPRetry | None = None
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
