"""`virtualInbound`: where a sidecar takes what is sent to its workload (LIS-022, LIS-023, LIS-027, LIS-031).

Per port of a service a set of chains, then the same for all ports that no service names.
"""

from collections.abc import Iterator
from typing import NamedTuple

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2 as components
from envoy.config.listener.v3 import listener_pb2

from pypilot.compile.ingress import IngressTarget, ingress_targets
from pypilot.compile.listeners.access_log import listener_access_logs
from pypilot.compile.listeners.inbound_chains import UNNAMED, VIRTUAL_INBOUND, Serving, serving_chains, serving_of
from pypilot.compile.listeners.inspectors import inspectors
from pypilot.compile.listeners.listener_filters import original_destination, original_source
from pypilot.compile.listeners.network_filters import cluster_filters, metadata_exchange
from pypilot.compile.listeners.traits import HttpTraits, is_port
from pypilot.compile.messages import duration, socket_address
from pypilot.compile.naming import BLACK_HOLE_CLUSTER
from pypilot.compile.policies.selection import (
    NO_POLICIES,
    MutualTls,
    PolicySet,
    mutual_tls,
    policy_set,
)
from pypilot.compile.scope import ingress_listeners, sidecar_of
from pypilot.compile.targets import ServiceTarget, service_targets, workload_labels
from pypilot.kinds.peer_authentication import MutualTLSMode
from pypilot.wire.node import Proxy
from pypilot.wire.resource import Resource
from pypilot.wire.types import LISTENER
from pypilot.world.reader import Reader


class InboundKey(NamedTuple):
    """What a workload serves, and how its traffic is captured: equal for all replicas."""

    targets: tuple[ServiceTarget | IngressTarget, ...]
    """One a port, in order of port."""
    mutual_tls: MutualTls
    transparent: bool
    certified: bool = True
    """The proxy has mesh certificates."""
    policies: PolicySet = NO_POLICIES

    def possible(self, mode: MutualTLSMode) -> MutualTLSMode | None:
        """What can be served of a mode; None for nothing."""
        if self.certified:
            return mode
        return "DISABLE" if mode != "STRICT" else None

    @property
    def captured(self) -> tuple[ServiceTarget | IngressTarget, ...]:
        """The ports to which traffic is captured."""
        return tuple(t for t in self.targets if not (isinstance(t, IngressTarget) and t.bound))

    @property
    def bound(self) -> tuple[IngressTarget, ...]:
        """The ports that are listeners of their own."""
        return tuple(t for t in self.targets if isinstance(t, IngressTarget) and t.bound)


def inbound_key(reader: Reader, proxy: Proxy, mesh_tls: bool) -> InboundKey:
    """Of several services on a port the oldest decides (LIS-027); the proxy's own ports are not served (LIS-015).

    A Sidecar's ingress listeners stand in place of services (SC-013). Where nothing is captured only they are served:
    the ports of services are the workload's own (NODE-015).
    """
    modes = mutual_tls(reader, proxy.namespace, workload_labels(reader, proxy))
    made = InboundKey((), modes, proxy.interception_mode == "TPROXY", mesh_tls, policy_set(reader, proxy))
    if ingress_listeners(reader, sidecar_of(reader, proxy)):
        return made._replace(targets=ingress_targets(reader, proxy))
    if proxy.interception_mode == "NONE":
        return made
    mesh = reader.mesh()
    reserved = {*proxy.own_ports, mesh.proxy_listen_port, mesh.proxy_inbound_listen_port}
    by_port: dict[int, ServiceTarget] = {}
    for target in service_targets(reader, proxy):
        if is_port(target.target) and target.target not in reserved:
            by_port.setdefault(target.target, target)
    return made._replace(targets=tuple(target for _, target in sorted(by_port.items())))


def _loop(reader: Reader, port: int, traits: HttpTraits) -> components.FilterChain:
    """Whoever addresses the proxy's own port would go round in circles (LIS-023)."""
    chain = components.FilterChain(name=f"{VIRTUAL_INBOUND}-blackhole")
    chain.filter_chain_match.destination_port.value = port
    if traits.tcp.istio_build:
        chain.filters.append(metadata_exchange())
    chain.filters.extend(cluster_filters(reader, BLACK_HOLE_CLUSTER, traits.tcp, logged=False))
    return chain


def served_ports(reader: Reader, key: InboundKey, wildcard: str) -> Iterator[tuple[Serving, MutualTLSMode]]:
    """What is served in which mode. Without certificates only plain text can be: nothing, where that is refused."""
    for serving, demanded in _demanded(reader, key, wildcard):
        mode = key.possible(demanded)
        if mode is not None:
            yield serving, mode


def _demanded(reader: Reader, key: InboundKey, wildcard: str) -> Iterator[tuple[Serving, MutualTLSMode]]:
    """Ports that no service names, those of them with a mode of their own, then those of services (PA-014)."""
    modes = key.mutual_tls
    yield UNNAMED, modes.default
    named = {target.target for target in key.targets}
    yield from ((UNNAMED._replace(port=port), mode) for port, mode in modes.ports if port not in named)
    for target in key.captured:
        yield serving_of(reader, target, wildcard), modes.of(target.target)


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
    if traits.inbound_exact_balance:
        listener.connection_balance_config.exact_balance.SetInParent()
    if key.transparent:
        listener.transparent.value = True
    listener.filter_chains.append(_loop(reader, port, traits))
    for serving, mode in served_ports(reader, key, traits.tcp.wildcard):
        listener.filter_chains.extend(serving_chains(reader, serving, traits, mode, key.policies))
    listener.listener_filters.append(original_destination())
    if key.transparent:
        listener.listener_filters.append(original_source())
    listener.listener_filters.extend(inspectors(listener.filter_chains))
    listener.listener_filters_timeout.CopyFrom(duration(mesh.protocol_detection_timeout))
    listener.access_log.extend(listener_access_logs(reader))
    return Resource.of(listener.name, LISTENER, listener.SerializeToString(deterministic=True))


def bound_inbound(
    reader: Reader, target: IngressTarget, mode: MutualTLSMode, policies: PolicySet, traits: HttpTraits
) -> Resource:
    """A listener that a Sidecar opens at a real port of the workload (SC-013)."""
    listener = listener_pb2.Listener(
        name=f"{target.bind}_{target.target}",
        address=socket_address(target.bind, target.target),
        traffic_direction=base_pb2.TrafficDirection.INBOUND,
        continue_on_listener_filters_timeout=True,
    )
    listener.max_connections_to_accept_per_socket_event.value = 1
    if traits.inbound_exact_balance:
        listener.connection_balance_config.exact_balance.SetInParent()
    serving = serving_of(reader, target, traits.tcp.wildcard)
    listener.filter_chains.extend(serving_chains(reader, serving, traits, mode, policies))
    listener.listener_filters.extend(inspectors(listener.filter_chains))
    listener.listener_filters_timeout.CopyFrom(duration(reader.mesh().protocol_detection_timeout))
    listener.access_log.extend(listener_access_logs(reader))
    return Resource.of(listener.name, LISTENER, listener.SerializeToString(deterministic=True))
