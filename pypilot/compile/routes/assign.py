"""Who speaks for which host on one port of a sidecar, and under which domains (VS-007…009, RDS-009, RDS-016).

VirtualServices come in their order, then the services that none of them speaks for. A domain belongs to the first that
claims it: Envoy rejects a configuration in which two virtual hosts share one. A resolve step: no Envoy messages.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from pypilot.compile.destination_rules import Selection
from pypilot.compile.features.text import is_sendable
from pypilot.compile.proxy_settings import RouteHeaders
from pypilot.compile.routes.domains import Domains, authority, host_port
from pypilot.compile.routes.hosts import is_wildcard, most_specific, overlaps
from pypilot.compile.routes.match import Source
from pypilot.compile.routes.seen import SeenService, hashed_services, services_on_port
from pypilot.compile.routes.virtual_hosts import HostKey, ServicePart
from pypilot.compile.routes.virtual_service_routes import RoutesKey, compile_routes_of, routes_key
from pypilot.compile.routes.virtual_services import resolved
from pypilot.compile.scope import Scope, mesh_rules
from pypilot.compile.services import visible_services
from pypilot.compile.view import ProxyView
from pypilot.kinds.base import Ref
from pypilot.kinds.virtual_service import MESH
from pypilot.world.model import MeshService
from pypilot.world.reader import Reader

DEFAULT_HTTP_PORT = 80
"""Where VirtualServices for hosts that no registry knows are served, too (VS-008)."""


class Bound(NamedTuple):
    """What a VirtualService binds to."""

    hosts: tuple[str, ...]
    from_gateway_api: bool


class _Claim(NamedTuple):
    """Someone who wants to answer for a host."""

    host: str
    domains: Domains
    part: RoutesKey | ServicePart
    registered: bool


def bound_to(reader: Reader, ref: Ref) -> Bound:
    """The hosts of a VirtualService in lower case: a change of its rules ends here."""
    found = resolved(reader, ref)
    if found is None:
        return Bound((), False)
    hosts = tuple(host.lower() for host in found.hosts if host and is_sendable(host))
    return Bound(hosts, found.semantics == "gateway")


def has_routes(reader: Reader, key: RoutesKey) -> bool:
    """False for a VirtualService whose rules hold for none of the viewer's requests (VS-018)."""
    return bool(reader.call(compile_routes_of, key))


def _wildcard_owners(reader: Reader, scope: Scope) -> Mapping[str, Ref]:
    """Service -> the VirtualService whose host is closest to it, for services that some wildcard matches (VS-007)."""
    owners: dict[str, Ref] = {}
    for ref in mesh_rules(reader, scope):
        for host in reader.call(bound_to, ref).hosts:
            owners.setdefault(host, ref)
    wildcards = [host for host in owners if is_wildcard(host)]
    found: dict[str, Ref] = {}
    for key in visible_services(reader, scope) if wildcards else ():
        hostname = key.hostname.lower()
        pattern = most_specific(hostname, wildcards)
        if pattern is not None:
            found[hostname] = owners.get(hostname) or owners[pattern]
    return MappingProxyType(found)


def _claimed_services(
    reader: Reader, view: ProxyView, ref: Ref, bound: Bound, services: Mapping[str, SeenService]
) -> tuple[list[str], list[SeenService]]:
    """The hosts of a VirtualService that are no services of the port, and the services that it speaks for."""
    unknown: list[str] = []
    claimed: dict[str, SeenService] = {}
    for host in sorted(bound.hosts, key=is_wildcard):
        if not is_wildcard(host):
            service = services.get(host)
            if service is None:
                unknown.append(host)
            else:
                claimed.setdefault(host, service)
            continue
        # A host below a service's wildcard is no unknown host either, though nobody speaks for that service by it.
        matching = () if bound.from_gateway_api else [name for name in services if overlaps(name, host)]
        if not matching:
            unknown.append(host)
            continue
        owners = reader.call(_wildcard_owners, view.scope)
        claimed.update((name, services[name]) for name in matching if owners.get(name) == ref)
    if bound.from_gateway_api:
        # Such a route counts for its own namespace's clients, or for its own namespace's services.
        allowed = {n: s for n, s in claimed.items() if ref.namespace in (view.namespace, s.key.namespace)}
        return (unknown, list(allowed.values())) if allowed else ([], [])
    return unknown, list(claimed.values())


def _claims(reader: Reader, view: ProxyView, port: int, headers: RouteHeaders) -> Iterator[_Claim]:
    services = services_on_port(reader, view, port)
    hashed = hashed_services(reader, view)
    source = Source(port, MESH, view.namespace, view.labels)
    taken: set[str] = set()

    def service_of(host: str) -> MeshService | None:
        # Only an alias means something else than the host at the listener's port (VS-038, SEEN-018).
        seen = services.get(host)
        return reader.service(seen.key) if seen is not None and seen.alias else None

    def hash_of(host: str) -> Selection | None:
        return hashed.get(host)

    for ref in mesh_rules(reader, view):
        unknown, claimed = _claimed_services(reader, view, ref, reader.call(bound_to, ref), services)
        claimed = [service for service in claimed if service.is_http]
        if not claimed and not (port == DEFAULT_HTTP_PORT and unknown):
            continue
        key = routes_key(reader, ref, source, service_of, hash_of, forwarded_host=headers.forwarded_host)
        if not reader.call(has_routes, key):
            continue
        yield from (_Claim(host, Domains((authority(host),)), key, registered=False) for host in unknown)
        yield from (_Claim(service.hostname, service.domains, key, registered=True) for service in claimed)
        taken.update(service.hostname for service in claimed)
    for service in services.values():
        if service.is_http and not service.alias and service.hostname not in taken:
            hashed_by = hashed.get(service.key.hostname, ())
            part = ServicePart(service.key.hostname, port, hashed_by)
            yield _Claim(service.hostname, service.domains, part, registered=True)


def _settle(claims: Iterable[_Claim], port: int, headers: RouteHeaders) -> Iterator[HostKey]:
    """The first claim of a host or a domain holds. A short form never takes a known host (RDS-009)."""
    claimed = tuple(claims)
    known = {claim.host for claim in claimed if claim.registered}
    names: set[str] = set()
    taken = {"*"}  # belongs to the virtual host for unknown hosts
    for claim in claimed:
        name = host_port(claim.host, port)
        if name in names:
            continue
        names.add(name)
        domains: list[str] = []
        for domain in claim.domains.names:
            folded = domain.lower()
            if folded not in taken and not (domain in known and domain in claim.domains.short):
                taken.add(folded)
                domains.append(domain)
        if domains:
            # The tuple as it was, where nothing is missing: equal keys are found faster if they are the same object.
            whole = len(domains) == len(claim.domains.names)
            kept = claim.domains.names if whole else tuple(domains)
            yield HostKey(name, kept, (claim.part,), headers.attempt_count)


def _assign(reader: Reader, view: ProxyView, port: int, headers: RouteHeaders) -> tuple[HostKey, ...]:
    settled = _settle(_claims(reader, view, port, headers), port, headers)
    return tuple(sorted(settled, key=lambda host: host.name))


def virtual_hosts_on_port(reader: Reader, view: ProxyView, port: int, headers: RouteHeaders) -> tuple[HostKey, ...]:
    """The virtual hosts of a sidecar's port by name, without the one for unknown hosts (RDS-003)."""
    return reader.call(_assign, view, port, headers)
