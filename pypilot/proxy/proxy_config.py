"""The part of Istio's ProxyConfig that an agent acts on (PC-001…006, PC-021). Pure.

What it cannot honour is in `ineffective.py`; the rest is the control plane's, which gets all of it with the node.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from pypilot.proxy.ineffective import Ineffective, ineffective, is_plain
from pypilot.proxy.values import PORTS, Fields, HostPort, yaml_of
from pypilot.wire.proxy_config import merged

_MOST_THREADS: Final = 1 << 12


class Tracer(NamedTuple):
    """Where Envoy sends spans, if no provider of the control plane says otherwise (PC-007)."""

    kind: Literal["zipkin", "datadog"]
    address: HostPort


class RemoteService(NamedTuple):
    """A gRPC service to which Envoy reports."""

    address: HostPort
    probes: int = 0
    time: float = 0.0
    interval: float = 0.0
    """Keepalive of the connection; 0 leaves it to the system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """What is honoured; the defaults are Istio's (PC-002)."""

    discovery_address: str = "istiod.istio-system.svc:15012"
    admin_port: int = 15000
    status_port: int = 15020
    drain_seconds: float = 45.0
    termination_drain_seconds: float = 5.0
    concurrency: int | None = None
    """Worker threads; 0 is one a core, None as many as the container may use."""
    service_cluster: str = ""
    tracing_service_name: str = ""
    binary_path: str = ""
    custom_bootstrap: str = ""
    """Path of a whole bootstrap in place of ours."""
    inclusion_prefixes: tuple[str, ...] = ()
    inclusion_suffixes: tuple[str, ...] = ()
    inclusion_regexps: tuple[str, ...] = ()
    """`proxyStatsMatcher`: metrics to make beside the default ones (BOOT-006)."""
    extra_stat_tags: tuple[str, ...] = ()
    stats_compression: bool = True
    statsd: HostPort | None = None
    metrics_service: RemoteService | None = None
    access_log_service: RemoteService | None = None
    tracer: Tracer | None = None
    runtime: Mapping[str, str] = field(default_factory=dict)
    connection_limit: int = 0
    """Of connections from clients, all together; 0 is none."""
    flush_seconds: float = 1.0
    flush_kilobytes: int = 0
    """Of access logs: how long, and how much, is kept back."""
    ca_certificates: tuple[str, ...] = ()
    """Further roots of the mesh, PEM."""
    readiness_probe: Mapping[str, Any] = field(default_factory=dict)
    """Of a workload without a kubelet (WE-007)."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """`proxyMetadata` (PC-006)."""
    raw: Mapping[str, Any] = field(default_factory=dict)
    """All of it, which the control plane reads from the node's metadata."""
    ineffective: tuple[Ineffective, ...] = ()


_BUILT_IN_BINARY: Final = "/usr/local/bin/envoy"
HONOURED: Final = frozenset(
    {
        *("discoveryAddress", "proxyAdminPort", "statusPort", "drainDuration", "terminationDrainDuration"),
        *("concurrency", "serviceCluster", "tracingServiceName", "binaryPath", "customConfigFile"),
        *("proxyBootstrapTemplatePath", "proxyStatsMatcher", "extraStatTags", "statsCompression"),
        *("statsdUdpAddress", "envoyMetricsService", "envoyMetricsServiceAddress", "envoyAccessLogService"),
        *("zipkinAddress", "runtimeValues", "fileFlushInterval", "fileFlushMinSizeKb", "caCertificatesPem"),
        *("readinessProbe", "proxyMetadata"),
    }
)


def _remote(fields: Fields, key: str, old: str, skipped: list[Ineffective]) -> RemoteService | None:
    said = fields.below(key)
    address = said.host_port("address") or (fields.host_port(old) if old else None)
    if address is None or not is_plain(said, key, skipped):
        return None
    keepalive = said.below("tcpKeepalive")
    return RemoteService(
        address, keepalive.number("probes", 0), keepalive.seconds("time", 0.0), keepalive.seconds("interval", 0.0)
    )


def _tracer(fields: Fields, host_ip: str, skipped: list[Ineffective]) -> Tracer | None:
    tracing = fields.below("tracing")
    zipkin = tracing.below("zipkin").host_port("address", host_ip) or fields.host_port("zipkinAddress", host_ip)
    datadog = tracing.below("datadog").host_port("address", host_ip)
    found = Tracer("zipkin", zipkin) if zipkin else Tracer("datadog", datadog) if datadog else None
    return found if found is not None and is_plain(tracing, "tracing", skipped) else None


def read_proxy_config(*layers: tuple[str, str], host_ip: str = "") -> ProxyConfig:
    """A ProxyConfig from its texts in YAML or JSON, each with the name of what it came from; the last one wins.

    Args:
        layers: Name and text.
        host_ip: In place of `$(HOST_IP)`.

    Raises:
        AgentError: a part that the agent acts on cannot be read.
    """
    data: Mapping[str, Any] = {}
    for name, text in layers:
        found = yaml_of(text, name)
        data = merged(data, found)
        _made(data, name, host_ip)  # whose error it is
    return _made(data, layers[-1][0] if layers else "PROXY_CONFIG", host_ip)


def _made(data: Mapping[str, Any], name: str, host_ip: str) -> ProxyConfig:
    default = ProxyConfig()
    fields = Fields(data, name)
    skipped: list[Ineffective] = []
    matcher = fields.below("proxyStatsMatcher")
    concurrency = fields.number("concurrency", 0, range(_MOST_THREADS)) if fields.has("concurrency") else None
    binary = fields.text("binaryPath")
    return ProxyConfig(
        discovery_address=fields.text("discoveryAddress", default.discovery_address),
        admin_port=fields.number("proxyAdminPort", default.admin_port, PORTS),
        status_port=fields.number("statusPort", default.status_port, range(PORTS.stop)),
        drain_seconds=fields.seconds("drainDuration", default.drain_seconds),
        termination_drain_seconds=fields.seconds("terminationDrainDuration", default.termination_drain_seconds),
        concurrency=concurrency,
        service_cluster=fields.text("serviceCluster"),
        tracing_service_name=fields.text("tracingServiceName"),
        binary_path="" if binary == _BUILT_IN_BINARY else binary,
        custom_bootstrap=fields.text("customConfigFile") or fields.text("proxyBootstrapTemplatePath"),
        inclusion_prefixes=matcher.texts("inclusionPrefixes"),
        inclusion_suffixes=matcher.texts("inclusionSuffixes"),
        inclusion_regexps=matcher.texts("inclusionRegexps"),
        extra_stat_tags=tuple(tag for tag in fields.texts("extraStatTags") if tag),
        stats_compression=fields.flag("statsCompression", True),
        statsd=fields.host_port("statsdUdpAddress", host_ip),
        metrics_service=_remote(fields, "envoyMetricsService", "envoyMetricsServiceAddress", skipped),
        access_log_service=_remote(fields, "envoyAccessLogService", "", skipped),
        tracer=_tracer(fields, host_ip, skipped),
        runtime=fields.scalars("runtimeValues"),
        connection_limit=fields.below("connectionSettings").number("globalDownstreamConnectionLimit", 0),
        flush_seconds=fields.seconds("fileFlushInterval", default.flush_seconds),
        flush_kilobytes=fields.number("fileFlushMinSizeKb", 0),
        ca_certificates=fields.texts("caCertificatesPem"),
        readiness_probe=fields.mapping("readinessProbe"),
        metadata=fields.scalars("proxyMetadata"),
        raw=MappingProxyType(dict(data)),
        ineffective=(*ineffective(data, HONOURED), *skipped),
    )
