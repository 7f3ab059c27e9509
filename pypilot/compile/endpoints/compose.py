"""All load assignments that a proxy could ask for: one shared chunk for all proxies that see the same."""

from collections.abc import Callable
from typing import TypeAlias

from pypilot.compile.endpoints.assignment import (
    REPLICA_LABELS,
    Workload,
    own_assignment,
    service_assignments,
    sni_assignments,
)
from pypilot.compile.parts import Part, endpoint_parts, forwards_by_sni, place_in
from pypilot.compile.place import Needs, Place, place_of
from pypilot.compile.targets import service_targets, workload_labels
from pypilot.compile.view import ProxyView, view_of
from pypilot.wire.node import Proxy
from pypilot.wire.resource import Chunk, Resource, ResourceSet
from pypilot.world.reader import Reader

_Compile: TypeAlias = Callable[..., tuple[Resource, ...]]


def _assignments(
    reader: Reader, compilers: tuple[_Compile, ...], parts: tuple[Part, ...], is_router: bool, hbone: bool
) -> ResourceSet:
    chunks = []
    for compile_part in compilers:
        made = (
            resource
            for part in parts
            for resource in reader.call(
                compile_part, part.service, part.selection, is_router, hbone, part.place, part.ports
            )
        )
        chunks.append(Chunk(made))
    return ResourceSet(tuple(chunks))


def _seen_from(reader: Reader, view: ProxyView, place: Place, by_sni: bool) -> ResourceSet:
    parts = endpoint_parts(reader, view, place)
    compilers: tuple[_Compile, ...] = (service_assignments, sni_assignments) if by_sni else (service_assignments,)
    return reader.call(_assignments, compilers, parts, view.is_router, view.hbone)


def _own(reader: Reader, proxy: Proxy, hbone: bool) -> Chunk:
    """Of the services that the workload serves the oldest counts."""
    target = next(iter(service_targets(reader, proxy)), None)
    whole = place_of(reader, proxy)
    place = Needs(locality=True, node=True, network=bool(reader.network_gateways())).of(whole)
    labels = dict(workload_labels(reader, proxy))
    workload = Workload(proxy.workload_name, tuple((label, labels.get(label, "")) for label in REPLICA_LABELS))
    return Chunk((reader.call(own_assignment, target, workload, hbone, place),))


def compile_endpoints(reader: Reader, proxy: Proxy) -> ResourceSet:
    """The load assignments of every EDS cluster of the proxy (EDS-001)."""
    view = reader.call(view_of, proxy)
    seen = reader.call(_seen_from, view, place_in(reader, view, proxy), forwards_by_sni(reader, proxy))
    if not proxy.self_discovery:
        return seen
    return ResourceSet((*seen.chunks, reader.call(_own, proxy, view.hbone)))
