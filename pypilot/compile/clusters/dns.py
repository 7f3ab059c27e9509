"""Clusters that resolve names: inline endpoints, resolver settings, names that the caller gives (DR-014, SE-019)."""

from datetime import timedelta
from functools import cache

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.extensions.clusters.dynamic_forward_proxy.v3 import cluster_pb2 as dynamic_cluster_pb2
from envoy.extensions.network.dns_resolver.cares.v3 import cares_dns_resolver_pb2

from pypilot.compile.clusters.draft import ClusterDraft
from pypilot.compile.clusters.traits import Traits
from pypilot.compile.destination_rules import Selection
from pypilot.compile.endpoints.assignment import localities_of
from pypilot.compile.messages import duration, pack
from pypilot.compile.place import Place
from pypilot.world.model import MeshPort, MeshService
from pypilot.world.reader import Reader

_UDP_MAX_QUERIES = 100
_JITTER = timedelta(milliseconds=100)


def lookup_family(traits: Traits) -> "cluster_pb2.Cluster.DnsLookupFamily":
    """The address family that the proxy itself has; IPv4 where it has both."""
    return cluster_pb2.Cluster.V4_ONLY if traits.ipv4 or not traits.ipv6 else cluster_pb2.Cluster.V6_ONLY


@cache
def _resolver() -> extension_pb2.TypedExtensionConfig:
    config = cares_dns_resolver_pb2.CaresDnsResolverConfig()
    config.udp_max_queries.value = _UDP_MAX_QUERIES
    return extension_pb2.TypedExtensionConfig(name="envoy.network.dns_resolver.cares", typed_config=pack(config))


def apply_dns(
    draft: ClusterDraft,
    reader: Reader,
    service: MeshService,
    port: MeshPort,
    subset: str,
    selection: Selection,
    traits: Traits,
    place: Place,
) -> bool:
    """Resolver settings and the endpoints. False if there are none: such a cluster is not sent (DR-015)."""
    cluster = draft.cluster
    localities = localities_of(reader, service, port, subset, selection, traits.hbone, place)
    if not localities:
        return False
    cluster.load_assignment.cluster_name = cluster.name
    cluster.load_assignment.endpoints.extend(localities)
    cluster.dns_lookup_family = cluster_pb2.Cluster.ALL if service.races_addresses else lookup_family(traits)
    cluster.typed_dns_resolver_config.CopyFrom(_resolver())
    cluster.dns_jitter.FromTimedelta(_JITTER)
    cluster.dns_refresh_rate.CopyFrom(duration(reader.mesh().dns_refresh_rate))
    cluster.respect_dns_ttl = True
    return True


def dynamic_dns_draft(name: str, hostname: str, traits: Traits) -> ClusterDraft:
    """A dynamic forward proxy: each request's own host is resolved when it comes."""
    cluster = cluster_pb2.Cluster(name=name, lb_policy=cluster_pb2.Cluster.CLUSTER_PROVIDED)
    config = dynamic_cluster_pb2.ClusterConfig()
    config.dns_cache_config.name = dns_cache_name(hostname)
    config.dns_cache_config.dns_lookup_family = lookup_family(traits)
    cluster.cluster_type.name = "envoy.clusters.dynamic_forward_proxy"
    cluster.cluster_type.typed_config.CopyFrom(pack(config))
    return ClusterDraft(cluster, dynamic_dns=True)


def allow_insecure(draft: ClusterDraft) -> None:
    """Envoy refuses a dynamic forward proxy whose TLS does not follow the request's host, unless told otherwise."""
    config = dynamic_cluster_pb2.ClusterConfig()
    draft.cluster.cluster_type.typed_config.Unpack(config)
    config.allow_insecure_cluster_options = True
    draft.cluster.cluster_type.typed_config.CopyFrom(pack(config))


def dns_cache_name(hostname: str) -> str:
    """The DNS cache that the cluster and its filter share."""
    return hostname + "_dfp_dns_cache"
