"""The services that a sidecar's clients can call on one port, and by which names. Resolve steps: no Envoy messages.

What comes from services alone is kept apart from what VirtualServices add, for these change far more often.
"""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from types import MappingProxyType
from typing import NamedTuple, Protocol

from pypilot.compile.destination_rules import Selection, destination_rule_for, subsets_of, traffic_policy
from pypilot.compile.features.text import is_sendable
from pypilot.compile.routes.aliases import Aliases, aliases_in
from pypilot.compile.routes.domains import Domains, service_domains, usable_addresses
from pypilot.compile.scope import Scope
from pypilot.compile.services import seen_service, visible_services
from pypilot.compile.view import ProxyView
from pypilot.kinds.destination_rule import TrafficPolicy
from pypilot.wire.node import CertificateFiles
from pypilot.world.model import WILDCARD_ADDRESS, MeshPort, MeshService, Resolution, ServiceKey
from pypilot.world.reader import Reader


def routing_view(view: ProxyView) -> ProxyView:
    """The view without what routes cannot depend on, so that more proxies share them."""
    return replace(
        view,
        cluster_id="",
        network="",
        istio_build=True,
        mesh_tls=True,
        certificates_over_ads=False,
        hbone=False,
        client_files=CertificateFiles(),
        credential_socket=False,
    )


class SeenService(NamedTuple):
    """One service on one port."""

    key: ServiceKey
    hostname: str
    """In lower case: hosts are compared without case."""
    port: MeshPort
    alias: bool
    domains: Domains

    @property
    def is_http(self) -> bool:
        """True where requests may be routed: HTTP, or a protocol that is detected (KSVC-010)."""
        return self.port.protocol.is_http or self.port.protocol.is_unsupported


def _by_port(reader: Reader, scope: Scope) -> Mapping[int, tuple[ServiceKey, ...]]:
    found: dict[int, list[ServiceKey]] = {}
    for key in visible_services(reader, scope):
        service = seen_service(reader, scope, key)
        for number in dict.fromkeys(p.number for p in service.ports) if service is not None else ():
            found.setdefault(number, []).append(key)
    return MappingProxyType({number: tuple(keys) for number, keys in found.items()})


class AddressView(Protocol):
    """What of a view says which addresses it uses."""

    @property
    def ipv4(self) -> bool: ...

    @property
    def ipv6(self) -> bool: ...

    @property
    def dns_vips(self) -> bool: ...


def addresses_of(service: MeshService, view: AddressView) -> tuple[str, ...]:
    """The virtual addresses that proxies of a view use (SE-017). A Service's are filtered by address family."""
    addresses = service.addresses or (service.auto_addresses if view.dns_vips else ())
    if service.kubernetes or not service.addresses:
        addresses = usable_addresses(addresses, view.ipv4, view.ipv6)
    return tuple(a for a in addresses if a != WILDCARD_ADDRESS)


def called_addresses(service: MeshService, view: AddressView) -> tuple[str, ...]:
    """The addresses by which clients mean the service: of those that were allocated the first, IPv4 before IPv6."""
    addresses = addresses_of(service, view)
    return addresses if service.addresses else addresses[:1]


def is_address(text: str) -> bool:
    """True for an IP address; hosts of other services may be names or CIDRs."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def met_pods(
    reader: Reader, service: MeshService, addresses: tuple[str, ...], port: MeshPort
) -> tuple[str, ...] | None:
    """The pods that clients call by their own addresses, so that each has a listener; None if they do not (LIS-013).

    A headless Service without pods has no listener at all; a ServiceEntry that could have no pods, one for any address.
    """
    if service.resolution is not Resolution.PASSTHROUGH or addresses or port.protocol.is_http:
        return None
    found = (e.address for e in reader.endpoints(service.key) if e.port(port.name) is not None)
    pods = tuple(address for address in dict.fromkeys(found) if is_address(address))
    return pods if pods or service.kubernetes or service.selector else None


def _domains(view: ProxyView, service: MeshService, aliases: Aliases) -> Domains:
    hosts = (service.hostname, *(alias.hostname for alias in aliases.get(service.hostname, ())))
    names = (host.lower() for host in hosts if is_sendable(host))
    pods_have_names = service.kubernetes and service.resolution is Resolution.PASSTHROUGH
    return service_domains(names, called_addresses(service, view), view.dns_domain, pods_have_names)


def _on_port(reader: Reader, view: ProxyView, number: int) -> Mapping[str, SeenService]:
    found: dict[str, SeenService] = {}
    aliases = aliases_in(reader, view)
    for key in reader.call(_by_port, view.scope).get(number, ()):
        service = seen_service(reader, view, key)
        port = service.port(number) if service is not None else None
        if service is None or port is None:
            continue
        hostname = service.hostname.lower()
        alias = service.resolution is Resolution.ALIAS
        found.setdefault(hostname, SeenService(key, hostname, port, alias, _domains(view, service, aliases)))
    return MappingProxyType(found)


def services_on_port(reader: Reader, view: ProxyView, number: int) -> Mapping[str, SeenService]:
    """Lower-case hostname -> service, for every visible service with that port, oldest first; aliases, too."""
    return reader.call(_on_port, view, number)


class SniffedName(NamedTuple):
    """A configuration for one port of one service, whose protocol is detected (RDS-001)."""

    hostname: str
    port: int
    pods: tuple[str, ...] = ()
    """The pods that are called by their own addresses: one that is alone needs none for itself (LIS-013)."""


class RouteNames(NamedTuple):
    """The RouteConfigurations that a sidecar's listeners may name."""

    ports: tuple[int, ...]
    sniffed: tuple[SniffedName, ...]
    """Services on ports of undeclared protocol with a listener of their own (RDS-001)."""
    http: tuple[int, ...]
    """All ports on which requests may be routed."""


def _names(reader: Reader, view: ProxyView, bound: bool) -> RouteNames:
    ports: set[int] = set()
    sniffed: dict[tuple[str, int], SniffedName] = {}
    http: set[int] = set()
    for key in visible_services(reader, view):
        service = seen_service(reader, view, key)
        if service is None or service.resolution is Resolution.ALIAS:
            continue
        addresses = addresses_of(service, view)
        own_listener = bound or any("/" not in a for a in addresses)
        shared_listener = not bound and (not addresses or any("/" in a for a in addresses))
        for port in service.ports:
            if port.protocol.is_http:
                ports.add(port.number)
            if not port.protocol.is_unsupported:
                continue
            http.add(port.number)
            pods = met_pods(reader, service, addresses, port) if not bound else None
            if shared_listener and pods is None:
                ports.add(port.number)
            if own_listener or pods:
                name = SniffedName(service.hostname, port.number, pods or ())
                sniffed.setdefault((name.hostname, name.port), name)
    return RouteNames(tuple(sorted(ports)), tuple(sniffed.values()), tuple(sorted(ports | http)))


def route_names(reader: Reader, view: ProxyView, bound: bool = False) -> RouteNames:
    """All names of listeners at the services' ports, whether or not one came out of each in the end.

    Args:
        bound: each service has a listener of its own at an address that is not the service's (SC-009, PC-004).
    """
    return reader.call(_names, view, bound)


def _hashes(policy: TrafficPolicy | None) -> bool:
    if policy is None:
        return False
    balancers = (policy.load_balancer, *(entry.load_balancer for entry in policy.port_level_settings))
    return any(balancer is not None and balancer.consistent_hash is not None for balancer in balancers)


def _uses_hash(reader: Reader, selection: Selection) -> bool:
    subsets = subsets_of(reader, selection)
    return _hashes(traffic_policy(reader, selection)) or any(_hashes(subset.traffic_policy) for subset in subsets)


def _hashed(reader: Reader, view: ProxyView) -> Mapping[str, Selection]:
    found: dict[str, Selection] = {}
    for key in visible_services(reader, view):
        service = reader.service(key)
        selection = destination_rule_for(reader, view, service) if service is not None else None
        if selection and reader.call(_uses_hash, selection):
            found[key.hostname] = selection
    return MappingProxyType(found)


def hashed_services(reader: Reader, view: ProxyView) -> Mapping[str, Selection]:
    """Hostname -> DestinationRules, for the services that a view's requests reach by consistent hash (VS-043)."""
    return reader.call(_hashed, view.whole)
