"""Clusters that every proxy has, whatever the configuration (DR-019, DR-077, SEEN-007)."""

from datetime import timedelta

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.clusters.dynamic_forward_proxy.v3 import cluster_pb2 as dynamic_cluster_pb2
from envoy.extensions.network.dns_resolver.cares.v3 import cares_dns_resolver_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2

from pypilot.compile.clusters.connection_pool import apply_connection_pool
from pypilot.compile.clusters.dns import lookup_family
from pypilot.compile.clusters.draft import ClusterDraft
from pypilot.compile.clusters.metadata_exchange import apply_metadata_exchange
from pypilot.compile.clusters.protocol import keep_case, use_downstream_protocol, use_http2
from pypilot.compile.clusters.traits import Traits
from pypilot.compile.clusters.transport import tunnel_end
from pypilot.compile.clusters.upstream_tls import OwnTLS, apply_upstream_tls
from pypilot.compile.compliance import comply
from pypilot.compile.external_credentials import SOCKET, SOCKET_CLUSTER
from pypilot.compile.messages import duration, pack, sds_config_source, socket_address
from pypilot.compile.naming import (
    BLACK_HOLE_CLUSTER,
    CONNECT_ORIGINATE,
    INBOUND_PASSTHROUGH_CLUSTER,
    MAIN_INTERNAL,
    PASSTHROUGH_CLUSTER,
    stat_name,
)
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.settings import CompliancePolicy
from pypilot.wire.resource import Chunk, Resource
from pypilot.world.reader import Reader

ALLOW_ANY_DYNAMIC_DNS_CLUSTER = "AllowAnyDynamicDNSCluster"
HBONE_PORT = 15008
BIND_V4 = "127.0.0.6"
BIND_V6 = "::6"
"""Source addresses that the traffic capture lets through to the workload (DR-082)."""

_Cluster = cluster_pb2.Cluster
_PASSTHROUGH_IDLE = timedelta(minutes=5)
_HBONE_CLEANUP = timedelta(minutes=1)
_DYNAMIC_DNS_CACHE = "allow_any_dfp_dns_cache"
_DYNAMIC_DNS_MAX_HOSTS = 1024


def black_hole(mesh: MeshConfig) -> ClusterDraft:
    """No hosts: whatever is sent here fails."""
    cluster = _Cluster(name=BLACK_HOLE_CLUSTER, type=_Cluster.STATIC, lb_policy=_Cluster.ROUND_ROBIN)
    cluster.alt_stat_name = stat_name(BLACK_HOLE_CLUSTER)
    cluster.connect_timeout.CopyFrom(duration(mesh.connect_timeout))
    return ClusterDraft(cluster)


def _passing_through(mesh: MeshConfig, draft: ClusterDraft, keeps_case: bool = False) -> ClusterDraft:
    if keeps_case:
        keep_case(draft)
    use_downstream_protocol(draft)
    draft.http_options().common_http_protocol_options.idle_timeout.FromTimedelta(_PASSTHROUGH_IDLE)
    apply_connection_pool(draft, mesh)
    return draft


def passthrough(mesh: MeshConfig, traits: Traits) -> ClusterDraft:
    """To wherever the caller meant to go."""
    cluster = _Cluster(name=PASSTHROUGH_CLUSTER, type=_Cluster.ORIGINAL_DST, lb_policy=_Cluster.CLUSTER_PROVIDED)
    cluster.alt_stat_name = stat_name(PASSTHROUGH_CLUSTER)
    pool = mesh.default_traffic_policy.connection_pool
    draft = _passing_through(mesh, ClusterDraft(cluster), traits.keeps_case)
    if pool is not None:
        # Limits and connection timeouts only (MESH-029): as in Istio, the HTTP options stay those of passing through.
        del cluster.circuit_breakers.thresholds[:]
        apply_connection_pool(ClusterDraft(cluster), mesh, pool)
    apply_metadata_exchange(cluster, traits)
    return draft


def inbound_passthrough(mesh: MeshConfig, traits: Traits) -> ClusterDraft:
    """To the workload, on ports that no service names. It shares its statistics with the outbound one."""
    cluster = _Cluster(
        name=INBOUND_PASSTHROUGH_CLUSTER, type=_Cluster.ORIGINAL_DST, lb_policy=_Cluster.CLUSTER_PROVIDED
    )
    cluster.alt_stat_name = stat_name(PASSTHROUGH_CLUSTER)
    bind = cluster.upstream_bind_config
    bind.source_address.address = BIND_V4 if traits.ipv4 else BIND_V6
    bind.source_address.port_value = 0
    if traits.ipv4 and traits.ipv6:
        extra = bind.extra_source_addresses.add()
        extra.address.address = BIND_V6
        extra.address.port_value = 0
    return _passing_through(mesh, ClusterDraft(cluster), traits.keeps_case)


def connect_originate(mesh: MeshConfig, compliance: CompliancePolicy = "none") -> ClusterDraft:
    """The HBONE leg: HTTP/2 CONNECT over mutual TLS to port 15008 of the destination, or of its waypoint."""
    cluster = _Cluster(name=CONNECT_ORIGINATE, type=_Cluster.ORIGINAL_DST, lb_policy=_Cluster.CLUSTER_PROVIDED)
    cluster.alt_stat_name = stat_name(CONNECT_ORIGINATE)
    cluster.cleanup_interval.FromTimedelta(_HBONE_CLEANUP)
    destination = cluster.original_dst_lb_config
    destination.upstream_port_override.value = HBONE_PORT
    destination.metadata_key.key = "envoy.filters.listener.original_dst"
    destination.metadata_key.path.add(key="waypoint")
    draft = ClusterDraft(cluster)
    options = draft.http_options()
    options.common_http_protocol_options.idle_timeout.CopyFrom(duration(mesh.hbone_idle_timeout))
    options.explicit_http_config.http2_protocol_options.allow_connect = True
    apply_connection_pool(draft, MeshConfig(connect_timeout=mesh.connect_timeout))
    context = tls_pb2.UpstreamTlsContext()
    common = context.common_tls_context
    common.tls_params.tls_minimum_protocol_version = common_pb2.TlsParameters.TLSv1_3
    common.tls_params.tls_maximum_protocol_version = common_pb2.TlsParameters.TLSv1_3
    common.alpn_protocols.append("h2")
    common.tls_certificate_sds_secret_configs.add(name="default", sds_config=sds_config_source())
    validation = common.combined_validation_context
    validation.validation_context_sds_secret_config.name = "ROOTCA"
    validation.validation_context_sds_secret_config.sds_config.CopyFrom(sds_config_source())
    for domain in mesh.trusted_domains:
        matcher = validation.default_validation_context.match_typed_subject_alt_names.add()
        matcher.san_type = common_pb2.SubjectAltNameMatcher.URI
        matcher.matcher.prefix = f"spiffe://{domain}/"
    comply(common, compliance)
    cluster.transport_socket.name = "tls"
    cluster.transport_socket.typed_config.CopyFrom(pack(context))
    return draft


def main_internal(mesh: MeshConfig) -> ClusterDraft:
    """To the internal listener that serves what comes through tunnels (LIS-030)."""
    cluster = _Cluster(name=MAIN_INTERNAL, type=_Cluster.STATIC, transport_socket=tunnel_end())
    cluster.alt_stat_name = stat_name(MAIN_INTERNAL)
    cluster.load_assignment.cluster_name = MAIN_INTERNAL
    endpoint = cluster.load_assignment.endpoints.add().lb_endpoints.add().endpoint
    endpoint.address.envoy_internal_address.server_listener_name = MAIN_INTERNAL
    draft = _passing_through(mesh, ClusterDraft(cluster))
    cluster.ClearField("connect_timeout")
    return draft


def allow_any_dynamic_dns(mesh: MeshConfig, traits: Traits, resolver_at: tuple[str, int] | None) -> ClusterDraft:
    """To whatever host the request names, over TLS if the mesh says so (MESH-003, MESH-004, ALLOW_ANY_DYNAMIC_DNS).

    `resolver_at`: where an agent answers the proxy's DNS queries (NODE-020).
    """
    cluster = _Cluster(name=ALLOW_ANY_DYNAMIC_DNS_CLUSTER, lb_policy=_Cluster.CLUSTER_PROVIDED)
    cluster.alt_stat_name = stat_name(ALLOW_ANY_DYNAMIC_DNS_CLUSTER)
    tls = mesh.outbound_traffic_policy.tls
    is_plain = tls is None or tls.mode == "DISABLE"
    config = dynamic_cluster_pb2.ClusterConfig(allow_insecure_cluster_options=is_plain)
    cache = config.dns_cache_config
    cache.name = _DYNAMIC_DNS_CACHE
    cache.max_hosts.value = _DYNAMIC_DNS_MAX_HOSTS
    cache.dns_lookup_family = lookup_family(traits)
    if resolver_at is not None:
        resolver = cares_dns_resolver_pb2.CaresDnsResolverConfig(resolvers=[socket_address(*resolver_at)])
        cache.typed_dns_resolver_config.name = "envoy.network.dns_resolver.cares"
        cache.typed_dns_resolver_config.typed_config.CopyFrom(pack(resolver))
    cluster.cluster_type.name = "envoy.clusters.dynamic_forward_proxy"
    cluster.cluster_type.typed_config.CopyFrom(pack(config))
    draft = _passing_through(mesh, ClusterDraft(cluster, dynamic_dns=True), traits.keeps_case)
    if tls is not None and not is_plain:
        draft.http = None  # HTTP/1.1: there is no telling what else the server would agree to
        apply_upstream_tls(draft, OwnTLS(tls, (), may_use_secrets=False), traits._replace(hbone=False), mesh)
    apply_metadata_exchange(cluster, traits)
    return draft


def credential_server(mesh: MeshConfig) -> ClusterDraft:
    """To the socket beside the proxy that serves credentials (NODE-029)."""
    cluster = _Cluster(name=SOCKET_CLUSTER, type=_Cluster.STATIC, alt_stat_name=stat_name(SOCKET_CLUSTER))
    cluster.connect_timeout.CopyFrom(duration(mesh.connect_timeout))
    cluster.load_assignment.cluster_name = SOCKET_CLUSTER
    endpoint = cluster.load_assignment.endpoints.add().lb_endpoints.add().endpoint
    endpoint.address.pipe.path = SOCKET
    draft = ClusterDraft(cluster)
    use_http2(draft)
    return draft


def builtin_clusters(
    reader: Reader, traits: Traits, resolver_at: tuple[str, int] | None, tunnels: bool, any_host: bool
) -> Chunk:
    """The built-in clusters of one kind of proxy."""
    mesh = reader.mesh()
    drafts = [black_hole(mesh)]
    if traits.type == "sidecar":
        drafts += [passthrough(mesh, traits), inbound_passthrough(mesh, traits)]
        if any_host:
            drafts.append(allow_any_dynamic_dns(mesh, traits, resolver_at))
    if traits.hbone:
        drafts.append(connect_originate(mesh, traits.compliance))
    if tunnels:
        drafts.append(main_internal(mesh))
    if traits.credential_socket:
        drafts.append(credential_server(mesh))
    made: list[Resource] = [draft.resource() for draft in drafts]
    return Chunk(made)
