"""`virtualOutbound`: where captured connections arrive, and what becomes of those for which there is no listener.

LIS-018…020, OUT-002, OUT-003.
"""

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2 as components
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2

from pypilot.compile.features.direct_response import MAX_BODY_BYTES
from pypilot.compile.listeners.access_log import listener_access_logs
from pypilot.compile.listeners.chains import PLAIN_HTTP
from pypilot.compile.listeners.http_connection_manager import manager_filter
from pypilot.compile.listeners.listener_filters import http_inspector
from pypilot.compile.listeners.manager_spec import ManagerSpec
from pypilot.compile.listeners.network_filters import cluster_filters
from pypilot.compile.listeners.traits import HttpTraits, TcpTraits
from pypilot.compile.messages import socket_address
from pypilot.compile.naming import BLACK_HOLE_CLUSTER, stat_name
from pypilot.compile.outbound_policy import RESOLVE_ANY_HOST
from pypilot.compile.routes.default_routes import ALLOW_ANY_DYNAMIC_DNS, catch_all_host
from pypilot.wire.resource import Resource
from pypilot.wire.types import LISTENER
from pypilot.world.reader import Reader

VIRTUAL_OUTBOUND = "virtualOutbound"


def catch_all_filters(reader: Reader, traits: TcpTraits) -> list[components.Filter]:
    """For connections to where nobody knows: passed through, or dropped (MESH-003, SC-012)."""
    return cluster_filters(reader, traits.policy.cluster, traits)


def _any_host_chain(reader: Reader, traits: HttpTraits) -> components.FilterChain:
    """Plain HTTP on ports that nobody declared (LIS-019)."""
    headers = traits.settings.headers.routes
    host = catch_all_host(RESOLVE_ANY_HOST, headers.attempt_count, headers.forwarded_host)
    routes = route_pb2.RouteConfiguration(
        name=ALLOW_ANY_DYNAMIC_DNS, virtual_hosts=[host], ignore_port_in_host_matching=True
    )
    routes.validate_clusters.value = False
    routes.max_direct_response_body_size_bytes.value = MAX_BODY_BYTES
    spec = ManagerSpec(
        side="outbound",
        stat_prefix=stat_name(f"outbound_{VIRTUAL_OUTBOUND}_{ALLOW_ANY_DYNAMIC_DNS}"),
        routes=routes,
        traits=traits,
        resolves_any_host=True,
    )
    chain = components.FilterChain(name=f"{VIRTUAL_OUTBOUND}-catchall-tcp-http")
    chain.filter_chain_match.application_protocols.extend(PLAIN_HTTP)
    chain.filters.append(manager_filter(reader, spec))
    return chain


def virtual_outbound(reader: Reader, traits: TcpTraits, transparent: bool, http: HttpTraits | None = None) -> Resource:
    """The listener.

    Args:
        transparent: the capture is TPROXY.
        http: given where unknown hosts are resolved.
    """
    port = reader.mesh().proxy_listen_port
    listener = listener_pb2.Listener(
        name=VIRTUAL_OUTBOUND,
        address=socket_address(traits.wildcard, port),
        traffic_direction=base_pb2.TrafficDirection.OUTBOUND,
    )
    listener.use_original_dst.value = True
    listener.max_connections_to_accept_per_socket_event.value = 1
    if transparent:
        listener.transparent.value = True
    # A connection to the proxy's own port would otherwise be passed through to itself.
    loop = listener.filter_chains.add(name=f"{VIRTUAL_OUTBOUND}-blackhole")
    loop.filter_chain_match.destination_port.value = port
    loop.filters.extend(cluster_filters(reader, BLACK_HOLE_CLUSTER, traits, logged=False))
    if http is not None:
        listener.filter_chains.append(_any_host_chain(reader, http))
        listener.listener_filters.append(http_inspector())
    rest = listener.filter_chains.add(name=f"{VIRTUAL_OUTBOUND}-catchall-tcp")
    rest.filters.extend(catch_all_filters(reader, traits))
    listener.access_log.extend(listener_access_logs(reader))
    return Resource.of(listener.name, LISTENER, listener.SerializeToString(deterministic=True))
