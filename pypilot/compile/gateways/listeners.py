"""The listeners of a gateway proxy: one for each port and address that its Gateways name (GW-007…010, GW-020…025).

*Resolve*: servers and the VirtualServices bound to them become chains, as plain data. *Compile* takes those and the
traits of the proxy, so that the replicas of a gateway share the bytes.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from envoy.config.listener.v3 import listener_pb2

from pypilot.compile.connection_settings import at_the_edge
from pypilot.compile.external_credentials import external_server
from pypilot.compile.gateways.auto_passthrough import auto_passthrough_chains
from pypilot.compile.gateways.downstream_tls import (
    CredentialSources,
    TransportSocket,
    UnservableTLS,
    server_tls_context,
    tls_socket,
)
from pypilot.compile.gateways.merge import MergedServer, ServerPort, is_passthrough, merged_servers, server_of
from pypilot.compile.listeners.access_log import listener_access_logs
from pypilot.compile.listeners.chains import Chain, ChainMatch, HttpChain, TcpChain, build_match, without_overlaps
from pypilot.compile.listeners.connect_originate import connect_originate
from pypilot.compile.listeners.l4_routes import route_destination
from pypilot.compile.listeners.listener_filters import proxy_protocol, tls_inspector
from pypilot.compile.listeners.outbound_listener import (
    ACCEPTED_AT_ONCE,
    CONNECT_TIMEOUT,
    begin_listener,
    chain_filters,
    finish,
)
from pypilot.compile.listeners.traits import HttpTraits, http_traits
from pypilot.compile.messages import duration
from pypilot.compile.policies.selection import NO_POLICIES, PolicySet, policy_set
from pypilot.compile.routes.hosts import for_namespace, overlaps
from pypilot.compile.routes.virtual_services import ResolvedVirtualService, resolved, virtual_services_for
from pypilot.compile.view import ProxyView
from pypilot.kinds.gateway import Server
from pypilot.kinds.names import is_address
from pypilot.kinds.virtual_service import L4MatchAttributes, TLSMatchAttributes
from pypilot.wire.node import Proxy
from pypilot.wire.resource import Chunk, Resource, ResourceSet
from pypilot.world.model import WILDCARD_ADDRESS, MeshPort, Protocol
from pypilot.world.reader import Reader

_PRIVILEGED = 1024


class GatewayListener(NamedTuple):
    """One listener: the key of its compile step."""

    bind: str
    port: int
    chains: tuple[Chain, ...]


# -- resolve ----------------------------------------------------------------------------------------------------------


def _bound(reader: Reader, view: ProxyView, merged: MergedServer) -> Iterator[ResolvedVirtualService]:
    """The VirtualServices that name the Gateway and share a host with the server (GW-012, GW-026)."""
    gateway = f"{merged.gateway.namespace}/{merged.gateway.name}"
    for ref in virtual_services_for(reader, view.namespace, gateway):
        found = resolved(reader, ref)
        if found is None:
            continue
        hosts = for_namespace(merged.hosts, found.namespace)
        if any(overlaps(host, own) for host in hosts for own in found.hosts):
            yield found


def _holds(match: L4MatchAttributes | TLSMatchAttributes, merged: MergedServer) -> bool:
    """Port and gateways; a gateway's clients have no labels (VS-085)."""
    gateway = f"{merged.gateway.namespace}/{merged.gateway.name}"
    return match.port in (0, merged.number) and (not match.gateways or gateway in match.gateways)


def _port_of(merged: MergedServer, server: Server) -> MeshPort:
    return MeshPort(merged.number, server.port.name, merged.protocol)


def _names(merged: MergedServer) -> tuple[str, ...]:
    """The server's hosts without namespaces, as server names."""
    return tuple(sorted({host.rpartition("/")[2] for host in merged.hosts}))


def _tcp(reader: Reader, view: ProxyView, merged: MergedServer, server: Server) -> Iterator[Chain]:
    """The first rule that matches of the first VirtualService that has one (GW-023…025, SEEN-020)."""
    for service in _bound(reader, view, merged):
        for rule in service.tcp:
            if rule.match and not any(_holds(match, merged) for match in rule.match):
                continue
            destination = route_destination(reader, view, service, rule.route, _port_of(merged, server))
            if destination is None:
                continue
            if server.tls is None:
                yield TcpChain(ChainMatch(), destination)
                return
            exchanges = server.tls.mode == "ISTIO_MUTUAL"
            yield TcpChain(
                ChainMatch(sni=_names(merged)),
                destination._replace(exchanges_metadata=exchanges),
                server=(merged.gateway, merged.position),
            )
            return


def _passed_through(
    reader: Reader, view: ProxyView, merged: MergedServer, server: Server, taken: dict[str, str]
) -> Iterator[Chain]:
    """By server name, unopened; a rule one of whose names is taken on the port is left out (GW-022, VS-079)."""
    for service in _bound(reader, view, merged):
        for rule in service.tls:
            for match in rule.match:
                if not _holds(match, merged) or any(taken.get(name) == server.bind for name in match.sni_hosts):
                    continue
                destination = route_destination(reader, view, service, rule.route, _port_of(merged, server))
                if destination is not None:
                    taken.update(dict.fromkeys(match.sni_hosts, server.bind))
                    yield TcpChain(ChainMatch(sni=match.sni_hosts), destination)


def _server_chains(reader: Reader, view: ProxyView, merged: MergedServer, taken: dict[str, str]) -> Iterable[Chain]:
    server = server_of(reader, merged)
    if server is None:
        return ()
    if server.tls is None:
        return _tcp(reader, view, merged, server)
    if not is_passthrough(server):
        if merged.protocol is not Protocol.HTTPS:
            return _tcp(reader, view, merged, server)
        match = ChainMatch(sni=_names(merged))
        at = (merged.gateway, merged.position)
        return (HttpChain(match, merged.route_name, stat_prefix=server.name, server=at),)
    if server.tls.mode == "AUTO_PASSTHROUGH":
        return auto_passthrough_chains(reader, view, _names(merged))
    return _passed_through(reader, view, merged, server, taken)


def _port_chains(reader: Reader, view: ProxyView, port: ServerPort, taken: dict[str, str]) -> Iterator[Chain]:
    if port.protocol.is_http:
        # One connection manager for all plain HTTP servers of the port (GW-020).
        yield HttpChain(ChainMatch(), port.servers[0].route_name, port.protocol is Protocol.GRPC_WEB)
        return
    for merged in port.servers:
        yield from _server_chains(reader, view, merged, taken)


def _resolve(
    reader: Reader, view: ProxyView, ports: tuple[ServerPort, ...], unprivileged: bool
) -> tuple[GatewayListener, ...]:
    wildcard = WILDCARD_ADDRESS if view.ipv4 or not view.ipv6 else "::"
    chains: dict[tuple[str, int], list[Chain]] = {}
    taken: dict[int, dict[str, str]] = {}
    for port in ports:
        if (unprivileged and port.number < _PRIVILEGED) or (port.bind and not is_address(port.bind)):
            continue
        found = _port_chains(reader, view, port, taken.setdefault(port.number, {}))
        chains.setdefault((port.bind or wildcard, port.number), []).extend(found)
    made = (GatewayListener(bind, number, without_overlaps(found)) for (bind, number), found in chains.items())
    return tuple(listener for listener in made if listener.chains)


# -- compile ----------------------------------------------------------------------------------------------------------


def _terminates(reader: Reader, chain: Chain, traits: HttpTraits, mesh_tls: bool) -> TransportSocket | None:
    """The TLS of a chain's server; None where it has none to open."""
    if chain.server is None:
        return None
    ref, position = chain.server
    gateway = reader.gateway(ref)
    server = gateway.spec.servers[position] if gateway is not None else None
    if server is None or server.tls is None:
        raise UnservableTLS
    tcp = not isinstance(chain, HttpChain)
    sources = CredentialSources(
        mesh_tls,
        external_server(reader, traits.credential_socket),
        traits.server_files,
        traits.certificates_over_ads,
    )
    return tls_socket(reader, server_tls_context(server.tls, reader.mesh(), tcp, traits.tcp.istio_build, sources))


def _add_chain(
    reader: Reader,
    listener: listener_pb2.Listener,
    chain: Chain,
    traits: HttpTraits,
    mesh_tls: bool,
    policies: PolicySet,
) -> None:
    try:
        socket = _terminates(reader, chain, traits, mesh_tls)
    except UnservableTLS:
        return
    made = listener.filter_chains.add()
    match = build_match(chain.match)
    if match is not None:
        made.filter_chain_match.CopyFrom(match)
    made.filters.extend(chain_filters(reader, chain, listener.name, "gateway", traits.tcp, traits, policies))
    made.transport_socket_connect_timeout.CopyFrom(duration(CONNECT_TIMEOUT))
    if socket is not None:
        made.transport_socket.CopyFrom(socket)


def gateway_listener(
    reader: Reader, key: GatewayListener, traits: HttpTraits, mesh_tls: bool, policies: PolicySet = NO_POLICIES
) -> Resource | None:
    """The listener; None if none of its servers can be served."""
    listener = begin_listener(key.bind, key.port, traits.tcp)
    listener.max_connections_to_accept_per_socket_event.value = ACCEPTED_AT_ONCE
    for chain in key.chains:
        _add_chain(reader, listener, chain, traits, mesh_tls, policies)
    if not listener.filter_chains:
        return None
    limit = at_the_edge(traits.settings.connection).buffer_limit
    if limit is not None:
        listener.per_connection_buffer_limit_bytes.value = limit
    if traits.settings.topology.proxy_protocol:
        listener.listener_filters.append(proxy_protocol())
    terminates = any(chain.HasField("transport_socket") for chain in listener.filter_chains)
    # Also for the name `*`, which is no condition of the chain.
    if terminates or any(chain.match.sni for chain in key.chains):
        listener.listener_filters.append(tls_inspector())
    listener.access_log.extend(listener_access_logs(reader))
    return finish(listener)


def _chunk(
    reader: Reader, keys: tuple[GatewayListener, ...], traits: HttpTraits, view: ProxyView, policies: PolicySet
) -> Chunk:
    made = [reader.call(gateway_listener, key, traits, view.mesh_tls, policies) for key in keys]
    tunnel = [reader.call(connect_originate)] if view.hbone else []
    return Chunk([*(resource for resource in made if resource is not None), *tunnel])


def router_listeners(reader: Reader, view: ProxyView, proxy: Proxy) -> ResourceSet:
    """Everything that a gateway proxy gets over LDS. Without a Gateway nothing is listened to (GW-010)."""
    ports = merged_servers(reader, proxy).ports
    keys = reader.call(_resolve, view, ports, proxy.unprivileged)
    return ResourceSet((reader.call(_chunk, keys, http_traits(reader, view, proxy), view, policy_set(reader, proxy)),))
