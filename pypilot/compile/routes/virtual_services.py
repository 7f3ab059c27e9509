"""Which VirtualServices a namespace sees for `mesh` or a gateway, and what each of them says in absolute names.

Selection (VS-002…005) follows visibility and age. `resolved` makes host and gateway names absolute (VS-001, VS-017) and
puts delegates in their place (VS-011…016). Must not know proxies, ports or Envoy.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from msgspec.structs import replace

from pypilot.compile.naming import resolve_host
from pypilot.compile.routes.delegates import merge_delegate
from pypilot.kinds.base import Ref
from pypilot.kinds.virtual_service import (
    MESH,
    Destination,
    HTTPMatchRequest,
    HTTPRoute,
    HTTPRouteDestination,
    L4MatchAttributes,
    RouteDestination,
    TCPRoute,
    TLSMatchAttributes,
    TLSRoute,
    VirtualService,
    gateway_name,
)
from pypilot.world.reader import Reader

"""The reserved gateway name that stands for all sidecars (VS-002)."""

SEMANTICS = "internal.istio.io/route-semantics"
"""Annotation on VirtualServices that were translated from other kinds of routes."""
Semantics = Literal["", "ingress", "gateway"]

M = TypeVar("M", HTTPMatchRequest, TLSMatchAttributes, L4MatchAttributes)
D = TypeVar("D", HTTPRouteDestination, RouteDestination)


@dataclass(frozen=True, slots=True)
class ResolvedVirtualService:
    """A VirtualService with absolute names and without delegates."""

    ref: Ref
    api_version: str
    hosts: tuple[str, ...]
    gateways: tuple[str, ...]
    http: tuple[HTTPRoute, ...] = ()
    tls: tuple[TLSRoute, ...] = ()
    tcp: tuple[TCPRoute, ...] = ()
    semantics: Semantics = ""
    """`ingress` and `gateway`: translated from an Ingress or a Gateway API route, whose prefixes end at a `/`."""

    @property
    def name(self) -> str:
        return self.ref.name

    @property
    def namespace(self) -> str:
        return self.ref.namespace


# -- visibility -------------------------------------------------------------------------------------------------------


def _exported_to(service: VirtualService, default: Iterable[str]) -> frozenset[str]:
    """Namespaces or `*`; `.` is the VirtualService's own namespace (VS-003)."""
    words = service.spec.export_to or default
    return frozenset(service.namespace if word == "." else word for word in words)


def semantics_of(service: VirtualService) -> Semantics:
    """What kind of route the VirtualService was translated from; empty for one that a user wrote."""
    match service.metadata.annotations.get(SEMANTICS, ""):
        case "ingress":
            return "ingress"
        case "gateway":
            return "gateway"
    return ""


def _select(reader: Reader, namespace: str, gateway: str) -> tuple[Ref, ...]:
    default = reader.mesh().default_virtual_service_export_to
    private: list[Ref] = []
    exported: list[Ref] = []
    public: list[Ref] = []
    own_routes: list[Ref] = []
    for service in reader.virtual_services(gateway):
        shown_to = _exported_to(service, default)
        if "*" in shown_to:
            # A consumer's own Gateway API routes override the producer's.
            own = service.namespace == namespace and semantics_of(service) == "gateway"
            (own_routes if own else public).append(service.ref)
        elif namespace in shown_to and "~" not in shown_to:
            (private if service.namespace == namespace else exported).append(service.ref)
    return (*private, *exported, *own_routes, *public)


def virtual_services_for(reader: Reader, namespace: str, gateway: str) -> tuple[Ref, ...]:
    """VirtualServices that proxies of a namespace see for `mesh` or for a gateway `namespace/name`.

    Private ones first, then those exported to the namespace, then public ones; each oldest first (VS-005).
    """
    return reader.call(_select, namespace, gateway)


# -- absolute names ---------------------------------------------------------------------------------------------------


class _Names:
    """Makes the names of one VirtualService absolute."""

    def __init__(self, namespace: str, domain: str) -> None:
        self.namespace = namespace
        self.domain = domain

    def host(self, host: str) -> str:
        return host if not host or ":" in host else resolve_host(host, self.namespace, self.domain)

    def destination(self, destination: Destination) -> Destination:
        host = self.host(destination.host)
        return destination if host == destination.host else replace(destination, host=host)

    def destinations(self, routes: Sequence[D]) -> tuple[D, ...]:
        return tuple(replace(route, destination=self.destination(route.destination)) for route in routes)

    def matches(self, matches: Sequence[M]) -> tuple[M, ...]:
        return tuple(
            replace(m, gateways=tuple(gateway_name(g, self.namespace) for g in m.gateways)) if m.gateways else m
            for m in matches
        )

    def http(self, route: HTTPRoute) -> HTTPRoute:
        return replace(
            route,
            match=self.matches(route.match),
            route=self.destinations(route.route),
            mirror=self.destination(route.mirror) if route.mirror is not None else None,
            mirrors=tuple(replace(m, destination=self.destination(m.destination)) for m in route.mirrors),
        )


def _delegate_rules(reader: Reader, root: VirtualService, rule: HTTPRoute) -> tuple[HTTPRoute, ...]:
    """The rules of the delegate that `rule` names; none if it does not exist or is not shown to the root (VS-012)."""
    assert rule.delegate is not None
    ref = Ref(VirtualService.KIND, rule.delegate.namespace or root.namespace, rule.delegate.name)
    found = reader.virtual_service(ref)
    if found is None or found.spec.hosts:
        return ()
    shown_to = _exported_to(found, reader.mesh().default_virtual_service_export_to)
    if not shown_to & {"*", root.namespace}:
        return ()
    names = _Names(found.namespace, reader.constants.domain)
    return merge_delegate(rule, tuple(names.http(own) for own in found.spec.http))


def _resolve(reader: Reader, ref: Ref) -> ResolvedVirtualService | None:
    found = reader.virtual_service(ref)
    if found is None:
        return None
    spec, names = found.spec, _Names(found.namespace, reader.constants.domain)
    semantics = semantics_of(found)
    if semantics == "gateway":  # translated with absolute names
        return ResolvedVirtualService(
            ref, found.api_version, spec.hosts, spec.gateways or (MESH,), spec.http, spec.tls, spec.tcp, semantics
        )
    http: list[HTTPRoute] = []
    for rule in spec.http:
        absolute = names.http(rule)
        http.extend((absolute,) if rule.delegate is None else _delegate_rules(reader, found, absolute))
    return ResolvedVirtualService(
        ref=ref,
        api_version=found.api_version,
        hosts=tuple(names.host(host) for host in spec.hosts),
        gateways=tuple(gateway_name(g, found.namespace) for g in spec.gateways) or (MESH,),
        http=tuple(http),
        tls=tuple(replace(r, match=names.matches(r.match), route=names.destinations(r.route)) for r in spec.tls),
        tcp=tuple(replace(r, match=names.matches(r.match), route=names.destinations(r.route)) for r in spec.tcp),
        semantics=semantics,
    )


def resolved(reader: Reader, ref: Ref) -> ResolvedVirtualService | None:
    """The VirtualService with absolute names and its delegates' rules in place; None if it is gone."""
    return reader.call(_resolve, ref)
