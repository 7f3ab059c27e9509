"""All load assignments that a proxy could ask for, in chunks that proxies which see the same share."""

from pypilot.compile.endpoints.assignment import (
    REPLICA_LABELS,
    Workload,
    own_assignment,
    service_assignments,
    sni_assignments,
)
from pypilot.compile.groups import CompilePart, PartGroup, group_chunks, grouped, shared_set
from pypilot.compile.parts import endpoint_parts, forwards_by_sni, place_in
from pypilot.compile.place import Needs, Place, place_of
from pypilot.compile.targets import service_targets, workload_labels
from pypilot.compile.view import ProxyView, view_of
from pypilot.wire.node import Proxy
from pypilot.wire.resource import Chunk, ResourceSet
from pypilot.world.reader import Reader


def _groups(reader: Reader, view: ProxyView, place: Place) -> tuple[PartGroup, ...]:
    return grouped(endpoint_parts(reader, view, place))


def _seen_from(reader: Reader, view: ProxyView, place: Place, by_sni: bool) -> ResourceSet:
    compilers: tuple[CompilePart, ...] = (service_assignments, sni_assignments) if by_sni else (service_assignments,)
    groups = reader.call(_groups, view, place)
    return shared_set(reader, group_chunks(reader, compilers, groups, view.is_router, view.hbone))


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
