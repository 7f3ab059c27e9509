"""How a sidecar takes HBONE tunnels: `connect_terminate` ends them, `main_internal` serves what is inside (LIS-030)."""

from functools import cache
from typing import NamedTuple

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.http.set_filter_state.v3 import set_filter_state_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2

from pypilot.compile.gateways.downstream_tls import tunnel_tls_socket
from pypilot.compile.listeners.access_log import listener_access_logs, tunnel_end_access_logs
from pypilot.compile.listeners.http_connection_manager import apply_headers
from pypilot.compile.listeners.inbound import InboundKey
from pypilot.compile.listeners.inbound_chains import UNNAMED, serving_chains, serving_of
from pypilot.compile.listeners.inspectors import inspectors
from pypilot.compile.listeners.listener_filters import original_destination
from pypilot.compile.listeners.manager_spec import ManagerSpec
from pypilot.compile.listeners.network_filters import network_filter
from pypilot.compile.listeners.traits import HttpTraits
from pypilot.compile.messages import duration, pack, pack_struct, socket_address
from pypilot.compile.naming import MAIN_INTERNAL
from pypilot.compile.policies.selection import inside_tunnel
from pypilot.kinds.base import Duration
from pypilot.wire.resource import Resource
from pypilot.wire.types import LISTENER
from pypilot.world.reader import Reader

CONNECT_TERMINATE = "connect_terminate"
TUNNEL_PORT = 15008
_STREAMS = 100
_KEEPALIVE_INTERVAL = Duration(10_000_000_000)
_KEEPALIVE_TIMEOUT = Duration(20_000_000_000)
_PEER_METADATA = "type.googleapis.com/io.istio.http.peer_metadata.Config"
_STATE = (
    ("envoy.filters.listener.original_dst.local_ip", "%REQ(:AUTHORITY)%", ""),
    ("io.istio.connect_authority", "%REQ(:AUTHORITY)%", "istio.hashable_string"),
    ("envoy.filters.listener.original_dst.remote_ip", "%DOWNSTREAM_REMOTE_ADDRESS%", ""),
    ("io.istio.peer_principal", "%DOWNSTREAM_PEER_URI_SAN%", "istio.hashable_string"),
    ("io.istio.local_principal", "%DOWNSTREAM_LOCAL_URI_SAN%", "istio.hashable_string"),
)
"""What the tunnel knows and the listener inside needs: filter state key, value, how it is kept."""


class TunnelKey(NamedTuple):
    """What a workload serves through tunnels."""

    inbound: InboundKey
    addresses: tuple[str, ...]
    """The workload's own: nothing else is reached through it."""


@cache
def _peer() -> hcm_pb2.HttpFilter:
    value = {"downstream_discovery": [{"workload_discovery": {}}], "shared_with_upstream": True}
    return hcm_pb2.HttpFilter(name="waypoint_downstream_peer_metadata", typed_config=pack_struct(_PEER_METADATA, value))


@cache
def _authority() -> hcm_pb2.HttpFilter:
    config = set_filter_state_pb2.Config()
    for key, value, factory in _STATE:
        state = config.on_request_headers.add(object_key=key, factory_key=factory)
        state.format_string.text_format_source.inline_string = value
        state.shared_with_upstream = value_pb2.FilterStateValue.ONCE
    return hcm_pb2.HttpFilter(name="connect_authority", typed_config=pack(config))


@cache
def _routes() -> route_pb2.RouteConfiguration:
    route = route_components_pb2.Route()
    route.match.connect_matcher.SetInParent()
    route.route.cluster = MAIN_INTERNAL
    route.route.upgrade_configs.add(upgrade_type="CONNECT").connect_config.SetInParent()
    host = route_components_pb2.VirtualHost(name="default", domains=["*"], routes=[route])
    return route_pb2.RouteConfiguration(name="default", virtual_hosts=[host])


def _manager(reader: Reader, traits: HttpTraits) -> hcm_pb2.HttpConnectionManager:
    manager = hcm_pb2.HttpConnectionManager(stat_prefix=CONNECT_TERMINATE, route_config=_routes())
    apply_headers(manager, ManagerSpec("inbound", CONNECT_TERMINATE, _routes(), traits))
    manager.stream_idle_timeout.CopyFrom(duration(Duration(0)))
    manager.upgrade_configs.add(upgrade_type="CONNECT")
    http2 = manager.http2_protocol_options
    http2.allow_connect = True
    http2.max_concurrent_streams.value = _STREAMS
    http2.connection_keepalive.interval.CopyFrom(duration(_KEEPALIVE_INTERVAL))
    http2.connection_keepalive.timeout.CopyFrom(duration(_KEEPALIVE_TIMEOUT))
    router = router_pb2.Router(suppress_envoy_headers=not traits.settings.headers.debug_headers)
    manager.http_filters.extend([_peer(), _authority()])
    manager.http_filters.add(name="envoy.filters.http.router", typed_config=pack(router))
    manager.access_log.extend(tunnel_end_access_logs(reader))
    return manager


def connect_terminate(reader: Reader, traits: HttpTraits) -> Resource:
    """Port 15008: HTTP/2 CONNECT over mutual TLS. A few long connections, so they are spread over all workers."""
    listener = listener_pb2.Listener(name=CONNECT_TERMINATE, address=socket_address(traits.tcp.wildcard, TUNNEL_PORT))
    listener.connection_balance_config.exact_balance.SetInParent()
    chain = listener.filter_chains.add(name="default")
    chain.transport_socket.CopyFrom(reader.call(tunnel_tls_socket, traits.server_files))
    manager = _manager(reader, traits)
    chain.filters.append(network_filter("envoy.filters.network.http_connection_manager", manager))
    listener.access_log.extend(listener_access_logs(reader))
    return Resource.of(listener.name, LISTENER, listener.SerializeToString(deterministic=True))


def main_internal(reader: Reader, key: TunnelKey, traits: HttpTraits) -> Resource:
    """What is served inside tunnels: as `virtualInbound`, without TLS, and at the workload's own addresses alone."""
    listener = listener_pb2.Listener(
        name=MAIN_INTERNAL,
        traffic_direction=base_pb2.TrafficDirection.INBOUND,
        continue_on_listener_filters_timeout=True,
    )
    listener.internal_listener.SetInParent()
    policies = inside_tunnel(key.inbound.policies)
    for serving in (*(serving_of(reader, t, traits.tcp.wildcard) for t in key.inbound.targets), UNNAMED):
        for chain in serving_chains(reader, serving, traits, "DISABLE", policies, tunnelled=True):
            for address in key.addresses:
                prefix = chain.filter_chain_match.prefix_ranges.add(address_prefix=address)
                prefix.prefix_len.value = 128 if ":" in address else 32
            listener.filter_chains.append(chain)
    listener.listener_filters.append(original_destination())
    listener.listener_filters.extend(inspectors(listener.filter_chains))
    listener.access_log.extend(listener_access_logs(reader))
    return Resource.of(listener.name, LISTENER, listener.SerializeToString(deterministic=True))
