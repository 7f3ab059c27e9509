"""Envoy's bootstrap: who it is, where its configuration comes from, and the few things that do not (BOOT-001…006).

Made of `envoy_data_plane` messages, which are large to import: render it in a process that ends.
"""

from datetime import timedelta
from typing import Any

from envoy_data_plane.envoy.config.bootstrap.v3 import Admin, Bootstrap, BootstrapDynamicResources
from envoy_data_plane.envoy.config.bootstrap.v3 import BootstrapStaticResources as StaticResources
from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterDnsLookupFamily,
    UpstreamConnectionOptions,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ApiConfigSource,
    ApiConfigSourceApiType,
    ApiVersion,
    ConfigSource,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    KeepaliveSettings,
    Locality,
    Node,
    Pipe,
    SocketAddress,
    TcpKeepalive,
    TransportSocket,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.metrics.v3 import StatsConfig, StatsMatcher
from envoy_data_plane.envoy.config.route.v3 import Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost
from envoy_data_plane.envoy.extensions.bootstrap.internal_listener.v3 import InternalListener
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    CommonTlsContextCombinedCertificateValidationContext,
    SdsSecretConfig,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions as UpstreamHttpOptions,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.matcher.v3 import ListStringMatcher, RegexMatcher, StringMatcher
from envoy_data_plane.google.protobuf import Any as AnyMessage

from pypilot.proxy.node import NodeIdentity
from pypilot.proxy.settings import AgentSettings

XDS_CLUSTER = "xds-grpc"
SDS_CLUSTER = "sds-grpc"
"""Names by which the control plane's resources mean the agent (LIS-036)."""
ADMIN_CLUSTER = "prometheus_stats"
AGENT_CLUSTER = "agent"
STATUS_PORT = 15021
PROMETHEUS_PORT = 15090
SDS_SOCKET = "socket"
"""In the directory for the agent's state."""
CERTIFICATE = "default"
ROOTS = "ROOTCA"
_PREFIXES = ("reporter=", "cluster_manager", "listener_manager", "server", "component", "istio", "workload_discovery")


def _any(message: Any) -> AnyMessage:
    return AnyMessage.pack(message)


def _address(host: str, port: int) -> Address:
    return Address(socket_address=SocketAddress(address=host, port_value=port))


def _endpoint(cluster: str, address: Address) -> ClusterLoadAssignment:
    host = LbEndpoint(endpoint=Endpoint(address=address))
    return ClusterLoadAssignment(cluster_name=cluster, endpoints=[LocalityLbEndpoints(lb_endpoints=[host])])


def _http2() -> dict[str, AnyMessage]:
    explicit = HttpProtocolOptionsExplicitHttpConfig(
        http2_protocol_options=Http2ProtocolOptions(
            connection_keepalive=KeepaliveSettings(interval=timedelta(seconds=30), timeout=timedelta(seconds=10))
        )
    )
    options = UpstreamHttpOptions(explicit_http_config=explicit)
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": _any(options)}


def _sds(name: str) -> SdsSecretConfig:
    service = GrpcService(envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=SDS_CLUSTER))
    source = ApiConfigSource(
        api_type=ApiConfigSourceApiType.GRPC,
        transport_api_version=ApiVersion.V3,
        grpc_services=[service],
        set_node_on_first_message_only=True,
    )
    config = ConfigSource(
        api_config_source=source, resource_api_version=ApiVersion.V3, initial_fetch_timeout=timedelta(0)
    )
    return SdsSecretConfig(name=name, sds_config=config)


def _mutual_tls(server_name: str) -> TransportSocket:
    """To the control plane: our certificate, and theirs by that name under the mesh's roots."""
    names = SubjectAltNameMatcher(san_type=SubjectAltNameMatcherSanType.DNS, matcher=StringMatcher(exact=server_name))
    validation = CommonTlsContextCombinedCertificateValidationContext(
        default_validation_context=CertificateValidationContext(match_typed_subject_alt_names=[names]),
        validation_context_sds_secret_config=_sds(ROOTS),
    )
    common = CommonTlsContext(
        alpn_protocols=["h2"],
        tls_certificate_sds_secret_configs=[_sds(CERTIFICATE)],
        combined_validation_context=validation,
    )
    context = UpstreamTlsContext(common_tls_context=common, sni=server_name)
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=_any(context))


def _family(settings: AgentSettings) -> ClusterDnsLookupFamily:
    """That of the pod: by itself Envoy takes IPv6 first."""
    is_v6 = ":" in settings.addresses[0]
    return ClusterDnsLookupFamily.AUTO if is_v6 else ClusterDnsLookupFamily.V4_PREFERRED


def _xds_cluster(settings: AgentSettings) -> Cluster:
    host, _, port = settings.config.discovery_address.rpartition(":")
    return Cluster(
        name=XDS_CLUSTER,
        type=ClusterDiscoveryType.STRICT_DNS,
        connect_timeout=timedelta(seconds=1),
        respect_dns_ttl=True,
        dns_lookup_family=_family(settings),
        dns_refresh_rate=timedelta(seconds=5),
        load_assignment=_endpoint(XDS_CLUSTER, _address(host.strip("[]"), int(port))),
        transport_socket=_mutual_tls(settings.control_plane_name),
        typed_extension_protocol_options=_http2(),
        upstream_connection_options=UpstreamConnectionOptions(tcp_keepalive=TcpKeepalive(keepalive_time=300)),
    )


def _sds_cluster(settings: AgentSettings) -> Cluster:
    socket = Address(pipe=Pipe(path=str(settings.state / SDS_SOCKET)))
    return Cluster(
        name=SDS_CLUSTER,
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=timedelta(seconds=1),
        load_assignment=_endpoint(SDS_CLUSTER, socket),
        typed_extension_protocol_options=_http2(),
    )


def _local_cluster(name: str, port: int) -> Cluster:
    return Cluster(
        name=name,
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=timedelta(milliseconds=250),
        load_assignment=_endpoint(name, _address("127.0.0.1", port)),
    )


def _passed_on(port: int, prefix: str, cluster: str) -> Listener:
    """A port of the pod's whose requests go to a local cluster; whatever the mesh demands, probes get an answer."""
    route = Route(match=RouteMatch(prefix=prefix), route=RouteAction(cluster=cluster))
    routes = RouteConfiguration(virtual_hosts=[VirtualHost(name="backend", domains=["*"], routes=[route])])
    manager = HttpConnectionManager(
        stat_prefix=cluster,
        route_config=routes,
        http_filters=[HttpFilter(name="envoy.filters.http.router", typed_config=_any(Router()))],
        common_http_protocol_options=HttpProtocolOptions(idle_timeout=timedelta(hours=1)),
    )
    chain = FilterChain(
        filters=[Filter(name="envoy.filters.network.http_connection_manager", typed_config=_any(manager))]
    )
    return Listener(name=f"static_{port}", address=_address("0.0.0.0", port), filter_chains=[chain])  # noqa: S104


def _stats(settings: AgentSettings) -> StatsConfig:
    config = settings.config
    patterns = [StringMatcher(prefix=p) for p in dict.fromkeys((*_PREFIXES, *config.inclusion_prefixes))]
    patterns += [StringMatcher(suffix=s) for s in config.inclusion_suffixes]
    patterns += [StringMatcher(safe_regex=RegexMatcher(regex=r)) for r in config.inclusion_regexps]
    return StatsConfig(
        use_all_default_tags=False, stats_matcher=StatsMatcher(inclusion_list=ListStringMatcher(patterns=patterns))
    )


def _dynamic() -> BootstrapDynamicResources:
    ads = ConfigSource(
        ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3, initial_fetch_timeout=timedelta(0)
    )
    api = ApiConfigSource(
        api_type=ApiConfigSourceApiType.DELTA_GRPC,
        transport_api_version=ApiVersion.V3,
        set_node_on_first_message_only=True,
        grpc_services=[GrpcService(envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=XDS_CLUSTER))],
    )
    return BootstrapDynamicResources(lds_config=ads, cds_config=ads, ads_config=api)


def bootstrap(settings: AgentSettings, node: NodeIdentity) -> dict[str, Any]:
    """The bootstrap in the JSON form of protobuf."""
    inner = TypedExtensionConfig(name="envoy.bootstrap.internal_listener", typed_config=_any(InternalListener()))
    made = Bootstrap(
        node=Node(id=node.id, cluster=node.cluster, locality=Locality(node.region, node.zone, node.sub_zone)),
        admin=Admin(address=_address("127.0.0.1", settings.config.admin_port)),
        dynamic_resources=_dynamic(),
        static_resources=StaticResources(
            clusters=[
                _xds_cluster(settings),
                _sds_cluster(settings),
                _local_cluster(ADMIN_CLUSTER, settings.config.admin_port),
                _local_cluster(AGENT_CLUSTER, settings.config.status_port),
            ],
            listeners=[
                _passed_on(STATUS_PORT, "/healthz/ready", AGENT_CLUSTER),
                _passed_on(PROMETHEUS_PORT, "/stats/prometheus", ADMIN_CLUSTER),
            ],
        ),
        stats_config=_stats(settings),
        bootstrap_extensions=[inner],
    )
    data: dict[str, Any] = made.to_dict()
    # A Struct is plain JSON in this form, which the message library does not make of plain data.
    data["node"]["metadata"] = dict(node.metadata)
    return data
