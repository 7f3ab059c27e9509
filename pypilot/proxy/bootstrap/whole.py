"""Envoy's bootstrap: who it is, where its configuration comes from, and the few things that do not (BOOT-001…006)."""

from datetime import timedelta
from typing import Any

from envoy_data_plane.envoy.config.bootstrap.v3 import Admin, Bootstrap, BootstrapDynamicResources, ClusterManager
from envoy_data_plane.envoy.config.bootstrap.v3 import BootstrapStaticResources as StaticResources
from envoy_data_plane.envoy.config.core.v3 import (
    AggregatedConfigSource,
    ApiConfigSource,
    ApiConfigSourceApiType,
    ApiVersion,
    ConfigSource,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    Locality,
    Node,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.overload.v3 import OverloadManager, ResourceMonitor
from envoy_data_plane.envoy.extensions.bootstrap.internal_listener.v3 import InternalListener
from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections.v3 import DownstreamConnectionsConfig

from pypilot.proxy.bootstrap.clusters import (
    LOCAL_CLUSTER,
    TRACER_CLUSTERS,
    XDS_CLUSTER,
    clusters,
    knows_its_like,
    loopback,
)
from pypilot.proxy.bootstrap.common import address, packed
from pypilot.proxy.bootstrap.listeners import listeners
from pypilot.proxy.bootstrap.stats import intervals, sinks, stats_config
from pypilot.proxy.node import NodeIdentity, service_cluster
from pypilot.proxy.settings import AgentSettings

_TRACE = "type.googleapis.com/envoy.config.trace.v3"
_NO_LIMIT = (1 << 31) - 1
_INTERNAL_KILOBYTES = 64
"""For each connection from one of Envoy's listeners to another (BOOT-005)."""
_LIMIT_METADATA = "GLOBAL_DOWNSTREAM_MAX_CONNECTIONS"
_LIMIT_RUNTIME = "overload.global_downstream_max_connections"
_RUNTIME: dict[str, Any] = {
    "re2.max_program_size.error_level": "32768",
    "envoy.reloadable_features.http_reject_path_with_fragment": False,
    "envoy.reloadable_features.fixed_heap_use_allocated": True,
    "envoy.reloadable_features.coalesce_lb_rebuilds_on_batch_update": False,
}
"""Istio's, of those that an Envoy of today knows."""


def _dynamic(settings: AgentSettings) -> BootstrapDynamicResources:
    ads = ConfigSource(
        ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3, initial_fetch_timeout=timedelta(0)
    )
    api = ApiConfigSource(
        api_type=ApiConfigSourceApiType.DELTA_GRPC if settings.deltas else ApiConfigSourceApiType.GRPC,
        transport_api_version=ApiVersion.V3,
        set_node_on_first_message_only=True,
        grpc_services=[GrpcService(envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=XDS_CLUSTER))],
    )
    return BootstrapDynamicResources(lds_config=ads, cds_config=ads, ads_config=api)


def _overload(settings: AgentSettings) -> OverloadManager:
    """Connections of all clients together: as ProxyConfig, metadata, or the old key of the runtime says."""
    said = (settings.metadata.get(_LIMIT_METADATA, ""), settings.config.runtime.get(_LIMIT_RUNTIME, ""))
    older = next((int(text) for text in map(str, said) if text.isdecimal()), _NO_LIMIT)
    limit = DownstreamConnectionsConfig(max_active_downstream_connections=settings.config.connection_limit or older)
    monitor = ResourceMonitor(
        name="envoy.resource_monitors.global_downstream_max_connections", typed_config=packed(limit)
    )
    return OverloadManager(resource_monitors=[monitor])


def _tracing(settings: AgentSettings) -> dict[str, Any]:
    """Plain JSON: the message library does not write `traceId128bit` as protobuf does."""
    tracer = settings.config.tracer
    if tracer is None:
        return {}
    collector = {"collectorCluster": TRACER_CLUSTERS[tracer.kind]}
    configs: dict[str, dict[str, Any]] = {
        "zipkin": {
            "@type": f"{_TRACE}.ZipkinConfig",
            **collector,
            "collectorEndpoint": "/api/v2/spans",
            "collectorEndpointVersion": "HTTP_JSON",
            "traceId128bit": True,
            "sharedSpanContext": False,
        },
        "datadog": {"@type": f"{_TRACE}.DatadogConfig", **collector, "serviceName": service_cluster(settings)},
    }
    return {"tracing": {"http": {"name": f"envoy.tracers.{tracer.kind}", "typedConfig": configs[tracer.kind]}}}


def _runtime(settings: AgentSettings) -> dict[str, Any]:
    """Flags that Envoy reads; an empty value takes a usual one away."""
    truth = {"true": True, "false": False}
    flags = {**_RUNTIME, **settings.config.runtime}
    return {key: truth.get(str(value), value) for key, value in flags.items() if value != ""}


def bootstrap(settings: AgentSettings, node: NodeIdentity) -> dict[str, Any]:
    """The bootstrap in the JSON form of protobuf.

    Raises:
        AgentError: an annotation cannot be read.
    """
    listening = InternalListener(buffer_size_kb=_INTERNAL_KILOBYTES)
    inner = TypedExtensionConfig(name="envoy.bootstrap.internal_listener", typed_config=packed(listening))
    made = Bootstrap(
        node=Node(id=node.id, cluster=node.cluster, locality=Locality(node.region, node.zone, node.sub_zone)),
        admin=Admin(address=address(loopback(settings), settings.config.admin_port)),
        dynamic_resources=_dynamic(settings),
        static_resources=StaticResources(clusters=list(clusters(settings)), listeners=list(listeners(settings))),
        cluster_manager=ClusterManager(local_cluster_name=LOCAL_CLUSTER) if knows_its_like(settings) else None,
        stats_config=stats_config(settings),
        stats_sinks=list(sinks(settings)),
        **intervals(settings),
        overload_manager=_overload(settings),
        bootstrap_extensions=[inner],
    )
    data: dict[str, Any] = {**made.to_dict(), **_tracing(settings)}
    # A Struct is plain JSON in this form, which the message library does not make of plain data.
    data["node"]["metadata"] = dict(node.metadata)
    data["layeredRuntime"] = {
        "layers": [{"name": "static", "staticLayer": _runtime(settings)}, {"name": "admin", "adminLayer": {}}]
    }
    return data
