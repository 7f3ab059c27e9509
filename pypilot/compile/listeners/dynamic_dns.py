"""Names that the proxy itself resolves when they come: wildcard hosts of DYNAMIC_DNS, and any host (SE-019, LIS-019).

A cluster of that kind and the filters before it must state the same DNS cache.
"""

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.common.dynamic_forward_proxy.v3 import dns_cache_pb2
from envoy.extensions.filters.http.dynamic_forward_proxy.v3 import dynamic_forward_proxy_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3 import sni_dynamic_forward_proxy_pb2
from envoy.extensions.network.dns_resolver.cares.v3 import cares_dns_resolver_pb2

from pypilot.compile.clusters.dns import dns_cache_name
from pypilot.compile.listeners.traits import TcpTraits
from pypilot.compile.messages import pack, socket_address

_ANY_HOST_CACHE = "allow_any_dfp_dns_cache"
_ANY_HOST_LIMIT = 1024


def _cache(name: str, traits: TcpTraits) -> dns_cache_pb2.DnsCacheConfig:
    family = cluster_pb2.Cluster.V4_ONLY if traits.ipv4 else cluster_pb2.Cluster.V6_ONLY
    return dns_cache_pb2.DnsCacheConfig(name=name, dns_lookup_family=family)


def _any_host_cache(traits: TcpTraits) -> dns_cache_pb2.DnsCacheConfig:
    cache = _cache(_ANY_HOST_CACHE, traits)
    cache.max_hosts.value = _ANY_HOST_LIMIT
    if traits.dns_resolver is not None:
        resolver = cares_dns_resolver_pb2.CaresDnsResolverConfig(resolvers=[socket_address(*traits.dns_resolver)])
        cache.typed_dns_resolver_config.name = "envoy.network.dns_resolver.cares"
        cache.typed_dns_resolver_config.typed_config.CopyFrom(pack(resolver))
    return cache


def _http_filter(cache: dns_cache_pb2.DnsCacheConfig) -> hcm_pb2.HttpFilter:
    config = dynamic_forward_proxy_pb2.FilterConfig(dns_cache_config=cache)
    return hcm_pb2.HttpFilter(name="envoy.filters.http.dynamic_forward_proxy", typed_config=pack(config))


def wildcard_host_filter(hostname: str, traits: TcpTraits) -> hcm_pb2.HttpFilter:
    """For requests to a wildcard host of DYNAMIC_DNS."""
    return _http_filter(_cache(dns_cache_name(hostname), traits))


def any_host_filter(traits: TcpTraits) -> hcm_pb2.HttpFilter:
    """For requests to hosts that nobody registered (ALLOW_ANY_DYNAMIC_DNS)."""
    return _http_filter(_any_host_cache(traits))


def wildcard_name_config(hostname: str, port: int, traits: TcpTraits) -> sni_dynamic_forward_proxy_pb2.FilterConfig:
    """For TLS to a wildcard host of DYNAMIC_DNS: the server name is resolved."""
    return sni_dynamic_forward_proxy_pb2.FilterConfig(
        dns_cache_config=_cache(dns_cache_name(hostname), traits), port_value=port
    )
