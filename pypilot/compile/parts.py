"""Resolve: the services that a view sees, each with the DestinationRules that hold for it. The cheap step.

Clusters and endpoints are then compiled from these keys alone, so views that resolve alike share their bytes.
"""

from typing import NamedTuple

from pypilot.compile.destination_rules import Selection, destination_rule_for
from pypilot.compile.discovery import discovery_of
from pypilot.compile.gateways.selection import gateways_for
from pypilot.compile.place import NOWHERE, Needs, Place, place_needs, place_of
from pypilot.compile.services import seen_ports, visible_services
from pypilot.compile.view import ProxyView
from pypilot.wire.node import Proxy
from pypilot.world.model import Resolution, ServiceKey
from pypilot.world.reader import Reader


class Part(NamedTuple):
    """One service as one place sees it: the key of a compile call."""

    service: ServiceKey
    selection: Selection
    place: Place
    ports: tuple[int, ...] = ()
    """The numbers of the ports that are seen; empty for all."""


class _Seen(NamedTuple):
    service: ServiceKey
    selection: Selection
    needs: Needs
    is_dns: bool
    ports: tuple[int, ...]


def _seen(reader: Reader, view: ProxyView) -> tuple[_Seen, ...]:
    found = []
    for key in visible_services(reader, view):
        service = reader.service(key)
        if service is None or service.resolution is Resolution.ALIAS:
            continue
        selection = destination_rule_for(reader, view, service) or ()
        is_dns = discovery_of(service, view.is_router).is_dns
        needs = reader.call(place_needs, key, selection)
        found.append(_Seen(key, selection, needs, is_dns, seen_ports(reader, view, key)))
    return tuple(found)


def view_selections(reader: Reader, view: ProxyView) -> tuple[tuple[ServiceKey, Selection], ...]:
    """The services that a view sees, with the DestinationRules that hold for each."""
    return tuple((s.service, s.selection) for s in reader.call(_seen, view))


def _needs(reader: Reader, view: ProxyView) -> Needs:
    needs = Needs()
    for seen in reader.call(_seen, view):
        needs |= seen.needs
    return needs


def place_in(reader: Reader, view: ProxyView, proxy: Proxy) -> Place:
    """The proxy's place, as far as it matters to anything the view sees."""
    needs = reader.call(_needs, view)
    return needs.of(place_of(reader, proxy)) if needs != Needs() or proxy.network_view else NOWHERE


def endpoint_parts(reader: Reader, view: ProxyView, place: Place) -> tuple[Part, ...]:
    """The keys of the view's load assignments."""
    return tuple(
        Part(s.service, s.selection, s.needs.of(place), s.ports) for s in reader.call(_seen, view) if not s.is_dns
    )


def cluster_parts(reader: Reader, view: ProxyView, place: Place) -> tuple[Part, ...]:
    """The keys of the view's outbound clusters. Only those with inline endpoints depend on the place."""
    return tuple(
        Part(s.service, s.selection, s.needs.of(place) if s.is_dns else NOWHERE, s.ports)
        for s in reader.call(_seen, view)
    )


def forwards_by_sni(reader: Reader, proxy: Proxy) -> bool:
    """A router with an AUTO_PASSTHROUGH server forwards mutual TLS to whatever service the SNI names (GW-039)."""
    if proxy.type != "router":
        return False
    for ref in gateways_for(reader, proxy):
        gateway = reader.gateway(ref)
        servers = gateway.spec.servers if gateway is not None else ()
        if any(server.tls is not None and server.tls.mode == "AUTO_PASSTHROUGH" for server in servers):
            return True
    return False
