"""One outbound listener from its resolved form: the compile step (LIS-002, LIS-007, LIS-008, LIS-016).

Of bytes alone it depends on `TcpTraits`, which most proxies share; with a connection manager on the workload, too.
"""

from envoy.config.core.v3 import address_pb2, base_pb2
from envoy.config.listener.v3 import listener_components_pb2 as components
from envoy.config.listener.v3 import listener_pb2

from pypilot.compile.listeners.chains import Chain, HttpChain, build_match
from pypilot.compile.listeners.http_connection_manager import manager_filter
from pypilot.compile.listeners.listener_filters import http_inspector, tls_inspector
from pypilot.compile.listeners.manager_spec import ManagerSpec
from pypilot.compile.listeners.network_filters import tcp_filters
from pypilot.compile.listeners.outbound import OutboundListener
from pypilot.compile.listeners.traits import HttpTraits, TcpTraits
from pypilot.compile.listeners.virtual_outbound import catch_all_filters
from pypilot.compile.messages import duration, istio_metadata, listening_address
from pypilot.compile.naming import stat_name
from pypilot.compile.policies.selection import NO_POLICIES, PolicySet
from pypilot.kinds.base import Duration
from pypilot.wire.resource import Resource
from pypilot.wire.types import LISTENER
from pypilot.world.reader import Reader

CONNECT_TIMEOUT = Duration(15_000_000_000)
"""For a handshake, so that a slow client cannot hold memory for ever (GW-048)."""
ACCEPTED_AT_ONCE = 1
"""`max_connections_to_accept_per_socket_event` (LIS-033)."""


def listener_name(bind: str, port: int) -> str:
    """`ADDRESS_PORT` (LIS-005)."""
    return f"{bind}_{port}"


def begin_listener(bind: str, port: int, traits: TcpTraits) -> listener_pb2.Listener:
    """An outbound listener with name and address."""
    address: address_pb2.Address = listening_address(bind, port)
    listener = listener_pb2.Listener(
        name=listener_name(bind, port), address=address, traffic_direction=base_pb2.TrafficDirection.OUTBOUND
    )
    if traits.exact_balance:
        listener.connection_balance_config.exact_balance.SetInParent()
    return listener


def finish(listener: listener_pb2.Listener) -> Resource:
    """The listener, serialised."""
    return Resource.of(listener.name, LISTENER, listener.SerializeToString(deterministic=True))


def chain_filters(
    reader: Reader,
    chain: Chain,
    name: str,
    side: str,
    traits: TcpTraits,
    http: HttpTraits | None,
    policies: PolicySet = NO_POLICIES,
) -> list[components.Filter]:
    """The network filters of a chain of an outbound or a gateway's listener of that name."""
    if not isinstance(chain, HttpChain):
        return tcp_filters(reader, chain.destination, traits, policies)
    assert http is not None, "a listener with a connection manager needs HttpTraits"
    spec = ManagerSpec(
        side="gateway" if side == "gateway" else "outbound",
        stat_prefix=chain.stat_prefix or stat_name(f"outbound_{name}"),
        routes=chain.route_name,
        traits=http,
        grpc_web=chain.grpc_web,
        dynamic_host=chain.dynamic_host,
        absolute_urls=chain.absolute_urls,
        policies=policies,
        resolves_any_host=side != "gateway" and traits.policy.resolves_any_host,
    )
    return [manager_filter(reader, spec)]


def _apply_inspectors(reader: Reader, listener: listener_pb2.Listener, chains: tuple[Chain, ...]) -> None:
    dynamic = any(not isinstance(chain, HttpChain) and chain.destination.dynamic_host for chain in chains)
    if dynamic or any(chain.match.sni for chain in chains):
        listener.listener_filters.append(tls_inspector())
    timeout = Duration(0)
    if any(chain.match.alpn for chain in chains):
        listener.listener_filters.append(http_inspector())
        timeout = reader.mesh().protocol_detection_timeout
    listener.listener_filters_timeout.CopyFrom(duration(timeout))


def _build(reader: Reader, key: OutboundListener, traits: TcpTraits, http: HttpTraits | None) -> Resource:
    listener = begin_listener(key.bind, key.port, traits)
    listener.continue_on_listener_filters_timeout = True
    if key.bound:
        listener.max_connections_to_accept_per_socket_event.value = ACCEPTED_AT_ONCE
    else:
        listener.bind_to_port.value = False
    _apply_inspectors(reader, listener, key.chains)
    for chain in key.chains:
        # The one that takes all must be the default: else Envoy might never come back to it (LIS-008).
        default = chain.match.takes_all and len(key.chains) > 1
        made = listener.default_filter_chain if default else listener.filter_chains.add()
        made.filters.extend(chain_filters(reader, chain, listener.name, "outbound", traits, http))
        made.transport_socket_connect_timeout.CopyFrom(duration(CONNECT_TIMEOUT))
        match = build_match(chain.match)
        if match is not None:
            made.filter_chain_match.CopyFrom(match)
        if not isinstance(chain, HttpChain) and chain.config:
            made.metadata.CopyFrom(istio_metadata({"config": chain.config}))
    if not any(chain.match.takes_all for chain in key.chains):
        fallback = listener.default_filter_chain
        fallback.name = "PassthroughFilterChain"
        fallback.filter_chain_match.SetInParent()
        fallback.filters.extend(catch_all_filters(reader, traits))
    return finish(listener)


def tcp_listener(reader: Reader, key: OutboundListener, traits: TcpTraits) -> Resource:
    """A listener that only carries bytes."""
    return _build(reader, key, traits, None)


def http_listener(reader: Reader, key: OutboundListener, traits: HttpTraits) -> Resource:
    """A listener with a connection manager."""
    return _build(reader, key, traits.tcp, traits)
