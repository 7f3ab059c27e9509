"""What TLS and TCP routes share: which VirtualServices speak for a host, which matches hold, where routes lead.

VS-075…082. Resolve steps: no Envoy messages.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from pypilot.compile.clusters.stat_names import fill_stat_pattern
from pypilot.compile.destination_rules import Selection, destination_rule_for
from pypilot.compile.listeners.chains import TcpDestination
from pypilot.compile.naming import config_path, outbound_cluster
from pypilot.compile.routes.destination import destination_cluster
from pypilot.compile.routes.hosts import is_wildcard, overlaps
from pypilot.compile.routes.virtual_services import ResolvedVirtualService, resolved
from pypilot.compile.scope import Scope, mesh_rules
from pypilot.compile.services import service_for
from pypilot.compile.view import ProxyView
from pypilot.kinds.base import Ref
from pypilot.kinds.names import is_network
from pypilot.kinds.virtual_service import MESH, L4MatchAttributes, RouteDestination, TLSMatchAttributes
from pypilot.world.model import MeshPort, MeshService, Protocol, Resolution
from pypilot.world.reader import Reader

_MAX_WEIGHT = 2**32 - 1
"""Of all destinations together: Envoy's limit."""


class _Index(NamedTuple):
    """The VirtualServices of the mesh that have TLS or TCP routes, by host."""

    order: tuple[Ref, ...]
    exact: Mapping[str, tuple[int, ...]]
    wildcard: Mapping[str, tuple[int, ...]]
    """Host -> positions in `order`."""


def _index(reader: Reader, scope: Scope) -> _Index:
    order: list[Ref] = []
    hosts: dict[str, list[int]] = {}
    for ref in mesh_rules(reader, scope):
        found = resolved(reader, ref)
        if found is None or not (found.tls or found.tcp):
            continue
        for host in dict.fromkeys(found.hosts):
            hosts.setdefault(host, []).append(len(order))
        order.append(ref)
    exact = {host: tuple(at) for host, at in hosts.items() if not is_wildcard(host)}
    wildcard = {host: tuple(at) for host, at in hosts.items() if is_wildcard(host)}
    return _Index(tuple(order), MappingProxyType(exact), MappingProxyType(wildcard))


def services_for_host(reader: Reader, scope: Scope, hostname: str) -> list[ResolvedVirtualService]:
    """The VirtualServices with TLS or TCP routes whose hosts overlap a service's, in order of precedence (VS-005)."""
    index = reader.call(_index, scope)
    if not index.order:
        return []
    positions = set(index.exact.get(hostname, ()))
    candidates = {**index.exact, **index.wildcard} if is_wildcard(hostname) else index.wildcard
    for host, at in candidates.items():
        if overlaps(host, hostname):
            positions.update(at)
    found = (resolved(reader, index.order[position]) for position in sorted(positions))
    return [service for service in found if service is not None]


def holds(match: TLSMatchAttributes | L4MatchAttributes, view: ProxyView, port: int) -> bool:
    """The part of a match that a sidecar's place decides: port, gateways, labels and namespace (VS-076, VS-080).

    Subnets none of which can be read match nothing.
    """
    return (
        (not match.destination_subnets or any(map(is_network, match.destination_subnets)))
        and (not match.gateways or MESH in match.gateways)
        and view.matches(match.source_labels)
        and match.port in (0, port)
        and match.source_namespace in ("", view.namespace)
    )


def provenance_of(service: ResolvedVirtualService) -> str:
    """The path of a VirtualService (DOC-001)."""
    return config_path(service.ref, service.api_version)


def _selection(reader: Reader, view: ProxyView, service: MeshService | None) -> Selection:
    return (destination_rule_for(reader, view, service) or ()) if service is not None else ()


def _single(reader: Reader, view: ProxyView, route: RouteDestination, port: MeshPort) -> TcpDestination:
    service = service_for(reader, view, route.destination.host)
    cluster = destination_cluster(reader, view, route.destination, port.number)
    pattern = reader.mesh().outbound_cluster_stat_name
    subset = route.destination.subset
    return TcpDestination(
        stat_prefix=fill_stat_pattern(pattern, service, port, subset) if pattern and service is not None else cluster,
        clusters=((cluster, 0),),
        protocol=port.protocol,
        selection=_selection(reader, view, service),
        subset=subset,
    )


def _weighted(
    reader: Reader,
    view: ProxyView,
    service: ResolvedVirtualService,
    routes: Sequence[RouteDestination],
    port: MeshPort,
) -> TcpDestination | None:
    clusters = tuple(
        (destination_cluster(reader, view, route.destination, port.number), route.weight)
        for route in routes
        if route.weight > 0
    )
    if not 0 < sum(weight for _, weight in clusters) <= _MAX_WEIGHT:
        return None
    first = service_for(reader, view, routes[0].destination.host)
    return TcpDestination(
        stat_prefix=f"{service.name}.{service.namespace}",
        clusters=clusters,
        protocol=port.protocol,
        selection=_selection(reader, view, first),
    )


def route_destination(
    reader: Reader,
    view: ProxyView,
    service: ResolvedVirtualService,
    routes: Sequence[RouteDestination],
    port: MeshPort,
) -> TcpDestination | None:
    """Where the routes of one rule lead (VS-081); None if they lead nowhere."""
    if len(routes) == 1:
        return _single(reader, view, routes[0], port)
    return _weighted(reader, view, service, routes, port) if routes else None


def service_destination(reader: Reader, view: ProxyView, service: MeshService, port: MeshPort) -> TcpDestination:
    """To the service itself, where no rule speaks for it."""
    number = service.ports[0].number if len(service.ports) == 1 else port.number
    cluster = outbound_cluster(number, "", service.hostname)
    pattern = reader.mesh().outbound_cluster_stat_name
    unnamed = MeshPort(number, "", Protocol.TCP)
    dynamic = service.resolution is Resolution.DYNAMIC_DNS and is_wildcard(service.hostname)
    return TcpDestination(
        stat_prefix=fill_stat_pattern(pattern, service, unnamed) if pattern else cluster,
        clusters=((cluster, 0),),
        protocol=port.protocol,
        selection=_selection(reader, view, service),
        dynamic_host=service.hostname if dynamic else "",
        port=port.number,
    )
