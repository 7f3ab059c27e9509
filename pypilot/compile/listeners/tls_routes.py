"""Chains for a service port that speaks TLS: by server name, unopened (VS-075…078). A resolve step."""

from collections.abc import Iterable

from pypilot.compile.listeners.chains import ChainMatch, TcpChain
from pypilot.compile.listeners.l4_routes import (
    holds,
    provenance_of,
    route_destination,
    service_destination,
    services_for_host,
)
from pypilot.compile.routes.aliases import aliases_in
from pypilot.compile.routes.domains import short_forms
from pypilot.compile.view import ProxyView
from pypilot.world.model import MeshPort, MeshService
from pypilot.world.reader import Reader


def _own_names(reader: Reader, view: ProxyView, service: MeshService) -> tuple[str, ...]:
    """The service's host and the names of its aliases."""
    names = [service.hostname]
    for alias in aliases_in(reader, view).get(service.hostname, ()):
        names += [alias.hostname, *short_forms(alias.hostname, view.dns_domain)]
    return tuple(names)


def tls_chains(
    reader: Reader,
    view: ProxyView,
    service: MeshService,
    port: MeshPort,
    cidrs: tuple[str, ...],
    needs_name: bool,
) -> Iterable[TcpChain]:
    """What the VirtualServices of the host say about the port, else one chain to the service itself.

    Args:
        cidrs: addresses of the service that are ranges.
        needs_name: on the service's listener nothing but the server name tells which service is meant (VS-078).
    """
    handled: set[tuple[tuple[str, ...], tuple[str, ...]]] = set()
    for virtual_service in services_for_host(reader, view.scope, service.hostname):
        for rule in virtual_service.tls:
            destination = None
            for match in rule.match:
                if not holds(match, view, port.number):
                    continue
                cidrs = match.destination_subnets or cidrs
                predicates = (match.sni_hosts, match.destination_subnets)
                if predicates in handled:
                    continue
                destination = destination or route_destination(reader, view, virtual_service, rule.route, port)
                if destination is None:
                    break
                handled.add(predicates)
                yield TcpChain(ChainMatch(match.sni_hosts, cidrs), destination, provenance_of(virtual_service))
    if not handled:
        destination = service_destination(reader, view, service, port)
        named = needs_name or bool(cidrs) or bool(destination.dynamic_host)
        names = _own_names(reader, view, service) if named else ()
        yield TcpChain(ChainMatch(names, cidrs), destination)
