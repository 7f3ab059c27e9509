"""Everything of one type for one proxy, patched: the generators that stand before those of the other packages.

Beside what `resources.py` does, whole resources are added here; a name that is taken stays whose it is (DR-018).
"""

from collections.abc import Iterable
from typing import NamedTuple

from pypilot.compile.clusters import compile_clusters
from pypilot.compile.clusters.inbound import inbound_parts
from pypilot.compile.envoy_filters.matching import ServicePorts, gateway_port
from pypilot.compile.envoy_filters.model import NOTHING_DONE, Patch, PatchKey, PatchKeys, Report, all_of
from pypilot.compile.envoy_filters.resources import (
    Hosts,
    PatchedChunk,
    patched_clusters,
    patched_listeners,
    patched_routes,
)
from pypilot.compile.envoy_filters.selection import patches_of
from pypilot.compile.envoy_filters.values import patches_named
from pypilot.compile.gateways.merge import merged_servers
from pypilot.compile.listeners import compile_listeners
from pypilot.compile.naming import inbound_cluster
from pypilot.compile.routes.compose import compile_routes
from pypilot.wire import types
from pypilot.wire.node import Proxy
from pypilot.wire.resource import EMPTY, Chunk, Resource, ResourceSet
from pypilot.world.reader import Reader


class PatchedSet(NamedTuple):
    """What a proxy gets, and what patches did to it."""

    resources: ResourceSet
    report: Report = NOTHING_DONE


def _added(patches: Iterable[Patch], type_url: str) -> Iterable[tuple[PatchKey, Resource]]:
    """What ADD brings: for context ANY once, with the outbound side or the gateway's (EF-009, EF-021)."""
    for patch in patches:
        if patch.operation != "ADD" or not patch.value.name:
            continue
        if patch.apply_to in ("LISTENER", "CLUSTER", "EXTENSION_CONFIG"):
            body = patch.value.SerializeToString(deterministic=True)
            yield patch.key, Resource.of(patch.value.name, type_url, body)


def _together(parts: Iterable[PatchedChunk], added: Iterable[tuple[PatchKey, Resource]]) -> PatchedSet:
    """The chunks with what is added; a second resource of a name is left out."""
    parts = tuple(parts)
    names: set[str] = set()
    chunks: list[Chunk] = []
    for part in parts:
        free = [resource for name, resource in part.chunk.resources.items() if name not in names]
        chunks.append(part.chunk if len(free) == len(part.chunk.resources) else Chunk(free))
        names |= part.chunk.names
    new: list[Resource] = []
    used: set[PatchKey] = set()
    notes: list[tuple[PatchKey, str]] = []
    for key, resource in added:
        if resource.name in names:
            notes.append((key, f"{resource.name!r} is there already"))
            continue
        names.add(resource.name)
        used.add(key)
        new.append(resource)
    chunks += [Chunk(new)] if new else []
    report = all_of((*(part.report for part in parts), Report(frozenset(used), tuple(notes))))
    return PatchedSet(ResourceSet(tuple(chunks)), report)


# -- listeners --------------------------------------------------------------------------------------------------------


def _listeners(reader: Reader, chunks: tuple[Chunk, ...], keys: PatchKeys, is_router: bool) -> PatchedSet:
    parts = (reader.call(patched_listeners, chunk, keys, is_router) for chunk in chunks)
    return _together(parts, _added(patches_named(reader, keys), types.LISTENER))


def listeners_of(reader: Reader, proxy: Proxy) -> PatchedSet:
    """LDS, with the report."""
    made = compile_listeners(reader, proxy)
    keys = patches_of(reader, proxy).listeners
    return reader.call(_listeners, made.chunks, keys, proxy.type == "router") if keys else PatchedSet(made)


# -- routes -----------------------------------------------------------------------------------------------------------


def _service_ports(reader: Reader, proxy: Proxy) -> ServicePorts:
    """Which servers' ports stand behind the port in a route's name."""
    found: dict[int, set[int]] = {}
    for name, servers in merged_servers(reader, proxy).routes if proxy.type == "router" else ():
        found.setdefault(gateway_port(name), set()).update(server.number for server in servers)
    return tuple((port, tuple(sorted(numbers))) for port, numbers in sorted(found.items()))


def _routes(
    reader: Reader, chunks: tuple[Chunk, ...], keys: PatchKeys, is_router: bool, ports: ServicePorts
) -> PatchedSet:
    return _together((reader.call(patched_routes, chunk, keys, is_router, ports) for chunk in chunks), ())


def routes_of(reader: Reader, proxy: Proxy) -> PatchedSet:
    """RDS, with the report."""
    made = compile_routes(reader, proxy)
    keys = patches_of(reader, proxy).routes
    if not keys:
        return PatchedSet(made)
    return reader.call(_routes, made.chunks, keys, proxy.type == "router", _service_ports(reader, proxy))


# -- clusters ---------------------------------------------------------------------------------------------------------


def _clusters(reader: Reader, chunks: tuple[Chunk, ...], keys: PatchKeys, is_router: bool, hosts: Hosts) -> PatchedSet:
    parts = (reader.call(patched_clusters, chunk, keys, is_router, hosts) for chunk in chunks)
    return _together(parts, _added(patches_named(reader, keys), types.CLUSTER))


def _hosts(reader: Reader, proxy: Proxy, keys: PatchKeys) -> Hosts:
    """Only if a patch asks for the services behind inbound clusters."""
    if all(p.match.cluster is None or not p.match.cluster.service for p in patches_named(reader, keys)):
        return ()
    return tuple(
        (inbound_cluster(part.targets[0].target), tuple(target.service.hostname for target in part.targets))
        for part in inbound_parts(reader, proxy)
    )


def clusters_of(reader: Reader, proxy: Proxy) -> PatchedSet:
    """CDS, with the report."""
    made = compile_clusters(reader, proxy)
    keys = patches_of(reader, proxy).clusters
    if not keys:
        return PatchedSet(made)
    return reader.call(_clusters, made.chunks, keys, proxy.type == "router", _hosts(reader, proxy, keys))


# -- extensions -------------------------------------------------------------------------------------------------------


def _extensions(reader: Reader, keys: PatchKeys) -> PatchedSet:
    return _together((), _added(patches_named(reader, keys), types.EXTENSION_CONFIG))


def extensions_of(reader: Reader, proxy: Proxy) -> PatchedSet:
    """ECDS, with the report (EF-022, NDS-007)."""
    keys = patches_of(reader, proxy).extensions
    return reader.call(_extensions, keys) if keys else PatchedSet(EMPTY)


# -- generators -------------------------------------------------------------------------------------------------------


def generate_listeners(reader: Reader, proxy: Proxy) -> ResourceSet:
    """Everything that a proxy gets over LDS."""
    return listeners_of(reader, proxy).resources


def generate_routes(reader: Reader, proxy: Proxy) -> ResourceSet:
    """Every RouteConfiguration that a proxy's listeners may name."""
    return routes_of(reader, proxy).resources


def generate_clusters(reader: Reader, proxy: Proxy) -> ResourceSet:
    """Everything that a proxy gets over CDS."""
    return clusters_of(reader, proxy).resources


def generate_extensions(reader: Reader, proxy: Proxy) -> ResourceSet:
    """The filter configurations that a proxy's filters may name."""
    return extensions_of(reader, proxy).resources
