"""`virtualInbound`: where a sidecar takes what is sent to its workload (LIS-022, LIS-023, LIS-027, LIS-031).

Per port of a service a set of chains, then the same for all ports that no service names. Mutual TLS and plain text are
both accepted.
"""

from typing import NamedTuple

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2 as components
from envoy.config.listener.v3 import listener_pb2

from pypilot.compile.listeners.access_log import listener_access_logs
from pypilot.compile.listeners.inbound_chains import UNNAMED, VIRTUAL_INBOUND, service_serving, serving_chains
from pypilot.compile.listeners.inspectors import inspectors
from pypilot.compile.listeners.listener_filters import original_destination, original_source
from pypilot.compile.listeners.network_filters import cluster_filters, metadata_exchange
from pypilot.compile.listeners.traits import HttpTraits, is_port
from pypilot.compile.messages import duration, socket_address
from pypilot.compile.naming import BLACK_HOLE_CLUSTER
from pypilot.compile.targets import ServiceTarget, service_targets
from pypilot.wire.node import Proxy
from pypilot.wire.resource import Resource
from pypilot.wire.types import LISTENER
from pypilot.world.reader import Reader


class InboundKey(NamedTuple):
    """What a workload serves, and how its traffic is captured: equal for all replicas."""

    targets: tuple[ServiceTarget, ...]
    """One a port, in order of port."""
    mesh_tls: bool
    transparent: bool


def inbound_key(reader: Reader, proxy: Proxy, mesh_tls: bool) -> InboundKey:
    """Of several services on a port the oldest decides (LIS-027); the proxy's own ports are not served (LIS-015)."""
    mesh = reader.mesh()
    reserved = {proxy.status_port, proxy.prometheus_port, mesh.proxy_listen_port, mesh.proxy_inbound_listen_port}
    by_port: dict[int, ServiceTarget] = {}
    for target in service_targets(reader, proxy):
        if is_port(target.target) and target.target not in reserved:
            by_port.setdefault(target.target, target)
    targets = tuple(target for _, target in sorted(by_port.items()))
    return InboundKey(targets, mesh_tls, proxy.interception_mode == "TPROXY")


def _loop(reader: Reader, port: int, traits: HttpTraits) -> components.FilterChain:
    """Whoever addresses the proxy's own port would go round in circles (LIS-023)."""
    chain = components.FilterChain(name=f"{VIRTUAL_INBOUND}-blackhole")
    chain.filter_chain_match.destination_port.value = port
    if traits.tcp.istio_build:
        chain.filters.append(metadata_exchange())
    chain.filters.extend(cluster_filters(reader, BLACK_HOLE_CLUSTER, traits.tcp, logged=False))
    return chain


def virtual_inbound(reader: Reader, key: InboundKey, traits: HttpTraits) -> Resource:
    """The listener of a workload."""
    mesh = reader.mesh()
    port = mesh.proxy_inbound_listen_port
    listener = listener_pb2.Listener(
        name=VIRTUAL_INBOUND,
        address=socket_address(traits.tcp.wildcard, port),
        traffic_direction=base_pb2.TrafficDirection.INBOUND,
        continue_on_listener_filters_timeout=True,
    )
    listener.max_connections_to_accept_per_socket_event.value = 1
    if key.transparent:
        listener.transparent.value = True
    listener.filter_chains.append(_loop(reader, port, traits))
    for serving in (UNNAMED, *(service_serving(reader, target, traits.tcp.wildcard) for target in key.targets)):
        listener.filter_chains.extend(serving_chains(reader, serving, traits, key.mesh_tls))
    listener.listener_filters.append(original_destination())
    if key.transparent:
        listener.listener_filters.append(original_source())
    listener.listener_filters.extend(inspectors(listener.filter_chains))
    listener.listener_filters_timeout.CopyFrom(duration(mesh.protocol_detection_timeout))
    listener.access_log.extend(listener_access_logs(reader))
    return Resource.of(listener.name, LISTENER, listener.SerializeToString(deterministic=True))
