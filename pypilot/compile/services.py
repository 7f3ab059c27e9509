"""Which services a proxy sees, with which ports, and which definition of a hostname it uses (KSVC-021, SE-021, SC-004).

Without a Sidecar all proxies of a namespace see the same. What a Sidecar imports is found by the namespaces and hosts
that it names, so that a service that it does not name changes nothing here.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from pypilot.compile.routes.virtual_services import ResolvedVirtualService, resolved
from pypilot.compile.scope import (
    ALL,
    ANY_NAMESPACE,
    Scope,
    Scoped,
    egress_listeners,
    imports_of,
    mesh_rules,
    wanted_port,
)
from pypilot.kinds.base import Ref
from pypilot.kinds.virtual_service import Destination
from pypilot.world.model import MeshService, ServiceKey
from pypilot.world.reader import Reader


class Imported(NamedTuple):
    """A service that a Sidecar imports."""

    key: ServiceKey
    ports: tuple[int, ...] = ()
    """The numbers of those of its ports that are seen; empty for all."""


def _rank(service: MeshService, namespace: str) -> tuple[bool, bool, tuple[str, str, str]]:
    """Smaller wins: own namespace, then Kubernetes services, then age."""
    return (service.namespace != namespace, not service.kubernetes, service.age_key)


def _best(services: Iterable[MeshService], namespace: str) -> list[MeshService]:
    """One of each hostname, oldest first."""
    chosen: dict[str, MeshService] = {}
    for service in services:
        rival = chosen.get(service.hostname)
        if rival is None or _rank(service, namespace) < _rank(rival, namespace):
            chosen[service.hostname] = service
    return sorted(chosen.values(), key=lambda s: s.age_key)


def _choose(reader: Reader, namespace: str) -> tuple[ServiceKey, ...]:
    found = map(reader.service, (*reader.public_services(), *reader.private_services(namespace)))
    return tuple(s.key for s in _best((s for s in found if s is not None), namespace))


def is_visible(reader: Reader, service: MeshService, namespace: str) -> bool:
    """True if the service is exported to a namespace (KSVC-012)."""
    exported = service.export_to
    if exported is None:
        exported = frozenset(reader.mesh().default_service_export_to)
    return bool(exported & {"*", namespace}) or ("." in exported and service.namespace == namespace)


# -- what one egress listener imports ---------------------------------------------------------------------------------


def _candidates(reader: Reader, scope: Scope) -> Iterator[ServiceKey]:
    """Visible services of the namespaces and hosts that a listener names, not yet those alone."""
    imports = imports_of(reader, scope).by_namespace
    anywhere = imports.get(ANY_NAMESPACE)
    if anywhere is not None and anywhere.wildcard:
        yield from (*reader.public_services(), *reader.private_services(scope.namespace))
        return
    wanted: dict[ServiceKey, None] = {}
    for hostname in sorted(anywhere.exact) if anywhere is not None else ():
        wanted.update(dict.fromkeys(reader.services_of(hostname)))
    for owner, hosts in sorted(imports.items()):
        if hosts.wildcard:
            yield from reader.public_services(owner)
            yield from (key for key in reader.private_services(scope.namespace) if key.namespace == owner)
        wanted.update((ServiceKey(hostname, owner), None) for hostname in sorted(hosts.exact))
    for key in wanted:
        service = reader.service(key)
        if service is not None and is_visible(reader, service, scope.namespace):
            yield key


def _ports_of(service: MeshService, wanted: Iterable[int]) -> tuple[int, ...] | None:
    """The wanted ones of a service's ports: the empty tuple for all, None for none (SC-004)."""
    wanted = frozenset(wanted)
    if not wanted:
        return ()
    found = tuple(port.number for port in service.ports if port.number in wanted)
    if len(found) == len(service.ports):
        return ()
    return found or None


def _named(reader: Reader, scope: Scope) -> tuple[Imported, ...]:
    """What one listener imports by its hosts, oldest first."""
    imports = imports_of(reader, scope)
    port = wanted_port(egress_listeners(reader, scope)[scope.listener])
    ports: dict[ServiceKey, tuple[int, ...]] = {}
    services: list[MeshService] = []
    for key in dict.fromkeys(_candidates(reader, scope)):
        if imports.selecting(key.namespace, key.hostname) is None:
            continue
        service = reader.service(key)
        seen = _ports_of(service, (port,) if port else ()) if service is not None else None
        if service is not None and seen is not None:
            ports[key] = seen
            services.append(service)
    return tuple(Imported(s.key, ports[s.key]) for s in _best(services, scope.namespace))


# -- what the imported rules lead to ----------------------------------------------------------------------------------


def _leads_to(found: ResolvedVirtualService, namespace: str) -> Iterator[Destination]:
    """The destinations of a VirtualService that clients of a namespace may be sent to."""
    for http in found.http:
        sources = {match.source_namespace for match in http.match if match.source_namespace}
        if sources and namespace not in sources:
            continue
        yield from (route.destination for route in http.route)
        yield from (http.mirror,) if http.mirror is not None else ()
        yield from (mirror.destination for mirror in http.mirrors)
    yield from (route.destination for tcp in found.tcp for route in tcp.route)
    yield from (route.destination for tls in found.tls for route in tls.route)


def _destinations(reader: Reader, ref: Ref, namespace: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Hostname -> ports that a VirtualService refers to; no ports where it refers to all (SC-004)."""
    found = resolved(reader, ref)
    ports: dict[str, set[int]] = {}
    for destination in _leads_to(found, namespace) if found is not None else ():
        ports.setdefault(destination.host, set()).add(destination.port.number)
    return tuple((host, () if 0 in numbers else tuple(sorted(numbers))) for host, numbers in ports.items())


def _definition(reader: Reader, scope: Scope, hostname: str) -> MeshService | None:
    """The service that a rule's destination means: the own namespace's, a Kubernetes Service, the oldest."""
    own = reader.service(ServiceKey(hostname, scope.namespace))
    if own is not None:
        return own
    found = map(reader.service, reader.services_of(hostname))
    visible = [s for s in found if s is not None and is_visible(reader, s, scope.namespace)]
    return min(visible, key=lambda s: _rank(s, scope.namespace), default=None)


def _led_to(reader: Reader, scope: Scope) -> Iterator[Imported]:
    """What one listener imports because a VirtualService that it imports leads there."""
    port = wanted_port(egress_listeners(reader, scope)[scope.listener])
    for ref in mesh_rules(reader, scope):
        for hostname, numbers in reader.call(_destinations, ref, scope.namespace):
            service = _definition(reader, scope, hostname)
            ports = _ports_of(service, (port,) if port else numbers) if service is not None else None
            if service is not None and ports is not None:
                yield Imported(service.key, ports)


# -- all together -----------------------------------------------------------------------------------------------------


def _together(reader: Reader, known: Imported, more: Imported) -> Imported:
    """Two imports of one hostname: the first holds, unless only the second is a Kubernetes Service (SC-002)."""
    if known.key == more.key:
        ports = tuple(dict.fromkeys((*known.ports, *more.ports))) if known.ports and more.ports else ()
        return Imported(known.key, ports)
    one, other = reader.service(known.key), reader.service(more.key)
    displaces = one is not None and other is not None and other.kubernetes and not one.kubernetes
    return more if displaces else known


def _imported(reader: Reader, scope: Scope) -> tuple[Imported, ...]:
    if scope.listener != ALL:
        return _named(reader, scope)
    found: dict[str, Imported] = {}
    for i in range(len(egress_listeners(reader, scope))):
        part = scope._replace(listener=i)
        for more in (*reader.call(_imported, part), *_led_to(reader, part)):
            known = found.get(more.key.hostname)
            found[more.key.hostname] = _together(reader, known, more) if known is not None else more
    return tuple(found.values())


def _imported_keys(reader: Reader, scope: Scope) -> tuple[ServiceKey, ...]:
    return tuple(found.key for found in reader.call(_imported, scope))


def visible_services(reader: Reader, scoped: Scoped) -> tuple[ServiceKey, ...]:
    """The services that a view or a scope sees, one per hostname, oldest first. ALIAS services are among them."""
    scope = scoped.scope
    if scope.sidecar is None:
        return reader.call(_choose, scope.namespace)
    return reader.call(_imported_keys, scope)


def _listed(reader: Reader, scope: Scope) -> tuple[ServiceKey, ...]:
    parts = (scope._replace(listener=i) for i in range(len(egress_listeners(reader, scope))))
    return tuple(dict.fromkeys(key for part in parts for key in reader.call(_imported_keys, part)))


def listed_services(reader: Reader, scoped: Scoped) -> tuple[ServiceKey, ...]:
    """Those of the visible services that the Sidecar names itself: not what its VirtualServices lead to (NDS-001)."""
    scope = scoped.scope
    return visible_services(reader, scope) if scope.sidecar is None else reader.call(_listed, scope.whole)


def _limits(reader: Reader, scope: Scope) -> Mapping[ServiceKey, tuple[int, ...]]:
    return MappingProxyType({found.key: found.ports for found in reader.call(_imported, scope) if found.ports})


def seen_ports(reader: Reader, scoped: Scoped, key: ServiceKey) -> tuple[int, ...]:
    """The numbers of the ports of a visible service that are seen; empty for all."""
    scope = scoped.scope
    return reader.call(_limits, scope).get(key, ()) if scope.sidecar is not None else ()


def _cut(reader: Reader, key: ServiceKey, ports: tuple[int, ...]) -> MeshService | None:
    service = reader.service(key)
    return replace(service, ports=tuple(p for p in service.ports if p.number in ports)) if service is not None else None


def cut_service(reader: Reader, key: ServiceKey, ports: tuple[int, ...]) -> MeshService | None:
    """A service with these of its ports alone; with all if the tuple is empty."""
    return reader.call(_cut, key, ports) if ports else reader.service(key)


def seen_service(reader: Reader, scoped: Scoped, key: ServiceKey) -> MeshService | None:
    """A visible service as it is seen: with the imported ports alone."""
    return cut_service(reader, key, seen_ports(reader, scoped, key))


def _by_hostname(reader: Reader, scope: Scope) -> Mapping[str, ServiceKey]:
    return MappingProxyType({key.hostname: key for key in visible_services(reader, scope)})


def service_for(reader: Reader, scoped: Scoped, hostname: str) -> MeshService | None:
    """The service that a hostname means, whichever listener imported it, or None."""
    scope = scoped.scope.whole
    key = reader.call(_by_hostname, scope).get(hostname)
    return seen_service(reader, scope, key) if key is not None else None
