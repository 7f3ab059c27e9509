"""The network filters of a chain of bytes, in order (FILT-006, FILT-007). The last one is always the TCP proxy."""

from functools import cache

from envoy.config.listener.v3 import listener_components_pb2 as components
from envoy.extensions.filters.network.mongo_proxy.v3 import mongo_proxy_pb2
from google.protobuf.message import Message

from pypilot.compile.listeners.chains import TcpDestination
from pypilot.compile.listeners.dynamic_dns import wildcard_name_config
from pypilot.compile.listeners.tcp_proxy import plain_tcp_proxy, tcp_proxy
from pypilot.compile.listeners.traits import TcpTraits
from pypilot.compile.messages import pack, pack_struct
from pypilot.compile.policies.filters import tcp_policy_filters
from pypilot.compile.policies.selection import NO_POLICIES, PolicySet
from pypilot.world.model import Protocol
from pypilot.world.reader import Reader

_EXCHANGE_TYPE = "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange"
TCP_PROXY = "envoy.filters.network.tcp_proxy"


def network_filter(name: str, config: Message) -> components.Filter:
    """One filter."""
    return components.Filter(name=name, typed_config=pack(config))


@cache
def metadata_exchange() -> components.Filter:
    """Istio's own: tells both ends of a connection who the other is. Callers must not change it."""
    value = {"enable_discovery": True, "protocol": "istio-peer-exchange"}
    return components.Filter(name="istio.metadata_exchange", typed_config=pack_struct(_EXCHANGE_TYPE, value))


def _exchange(destination: TcpDestination, traits: TcpTraits) -> components.Filter | None:
    return metadata_exchange() if destination.exchanges_metadata and traits.istio_build else None


def _dynamic_host(destination: TcpDestination, traits: TcpTraits) -> components.Filter | None:
    if not destination.dynamic_host:
        return None
    config = wildcard_name_config(destination.dynamic_host, destination.port, traits)
    return network_filter("envoy.filters.network.sni_dynamic_forward_proxy", config)


def _protocol(destination: TcpDestination, traits: TcpTraits) -> components.Filter | None:
    """Only Mongo has a filter that is on by default (FILT-007)."""
    del traits
    if destination.protocol is not Protocol.MONGO:
        return None
    config = mongo_proxy_pb2.MongoProxy(stat_prefix=destination.stat_prefix)
    return network_filter("envoy.filters.network.mongo_proxy", config)


_BEFORE_POLICIES = (_exchange,)
_BEFORE_PROXY = (_dynamic_host, _protocol)


def tcp_filters(
    reader: Reader, destination: TcpDestination, traits: TcpTraits, policies: PolicySet = NO_POLICIES
) -> list[components.Filter]:
    """All filters of a chain to a destination; `policies` hold for who connects."""
    first = [build(destination, traits) for build in _BEFORE_POLICIES]
    then = [build(destination, traits) for build in _BEFORE_PROXY]
    proxy = network_filter(TCP_PROXY, tcp_proxy(reader, destination, traits))
    governing = tcp_policy_filters(reader, policies) if destination.governed else ()
    return [f for f in (*first, *governing, *then, proxy) if f is not None]


def cluster_filters(reader: Reader, cluster: str, traits: TcpTraits, logged: bool = True) -> list[components.Filter]:
    """To one of the built-in clusters."""
    return [network_filter(TCP_PROXY, plain_tcp_proxy(reader, cluster, traits, logged))]
