"""Chains for a service port that carries bytes: by address at most (VS-080…082). A resolve step."""

from collections.abc import Iterable, Iterator

from pypilot.compile.listeners.chains import ChainMatch, TcpChain, TcpDestination
from pypilot.compile.listeners.l4_routes import (
    holds,
    provenance_of,
    route_destination,
    service_destination,
    services_for_host,
)
from pypilot.compile.routes.virtual_services import ResolvedVirtualService
from pypilot.compile.view import ProxyView
from pypilot.kinds.virtual_service import TCPRoute
from pypilot.world.model import MeshPort, MeshService
from pypilot.world.reader import Reader


def _subnets(rule: TCPRoute, view: ProxyView, port: int) -> tuple[str, ...] | None:
    """The subnets to which a rule is limited: none for all of them; None if the rule is not for this place."""
    if not rule.match:
        return ()
    subnets: list[str] = []
    for match in rule.match:
        if holds(match, view, port):
            if not match.destination_subnets:
                return ()
            subnets.extend(match.destination_subnets)
    return tuple(subnets) or None


def _rules(
    reader: Reader, view: ProxyView, service: MeshService, port: MeshPort
) -> Iterator[tuple[ResolvedVirtualService, tuple[str, ...], TcpDestination]]:
    """The rules for this place in order, with their subnets."""
    for virtual_service in services_for_host(reader, view.scope, service.hostname):
        for rule in virtual_service.tcp:
            subnets = _subnets(rule, view, port.number)
            if subnets is None:
                continue
            destination = route_destination(reader, view, virtual_service, rule.route, port)
            if destination is not None:
                yield virtual_service, subnets, destination


def tcp_chains(
    reader: Reader, view: ProxyView, service: MeshService, port: MeshPort, cidrs: tuple[str, ...]
) -> Iterable[TcpChain]:
    """Rules with subnets get chains of their own; the first one without ends the search, else the service takes all."""
    replaced = False
    for virtual_service, subnets, destination in _rules(reader, view, service, port):
        if not subnets:
            yield TcpChain(ChainMatch(cidrs=cidrs), destination, provenance_of(virtual_service))
            return
        yield TcpChain(ChainMatch(cidrs=subnets), destination)
        replaced = replaced or sorted(subnets) == sorted(cidrs)
    if not replaced:
        yield TcpChain(ChainMatch(cidrs=cidrs), service_destination(reader, view, service, port))
