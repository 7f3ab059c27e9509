"""The names that Istio's agent answers to DNS queries of its workload: `NameTable` (NDS-001…004, NDS-006, NDS-009).

Only agents that capture DNS ask for it. A service's own part is remembered for itself, so that a change of one pod
behind a headless service makes nothing else anew.
"""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple

from google.protobuf import message_factory

from pypilot.compile.routes.seen import addresses_of
from pypilot.compile.services import listed_services
from pypilot.compile.view import ProxyView, view_of
from pypilot.wire.istio_messages import find_istio_message
from pypilot.wire.node import Proxy
from pypilot.wire.resource import Chunk, Resource, ResourceSet, length_delimited
from pypilot.wire.types import NAME_TABLE
from pypilot.world.model import Endpoint, MeshService, Resolution, ServiceKey
from pypilot.world.reader import Reader

KUBERNETES = "Kubernetes"
EXTERNAL = "External"
_TABLE_TAG = 0x0A
_KEY_TAG = 0x0A
_VALUE_TAG = 0x12


class Viewpoint(NamedTuple):
    """The part of a view on which the entries of a service depend."""

    cluster_id: str
    network: str
    ipv4: bool
    ipv6: bool
    dns_vips: bool


class NameEntry(NamedTuple):
    """One name."""

    host: str
    ips: tuple[str, ...]
    registry: str = EXTERNAL
    short_name: str = ""
    """With `namespace`, what an agent makes the shorter names of."""
    namespace: str = ""


def _same(one: str, other: str) -> bool:
    return not one or not other or one == other


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _resolved(reader: Reader, service: MeshService, view: Viewpoint) -> Iterator[Endpoint]:
    """The endpoints whose addresses a headless service's names mean (NDS-003, KSVC-015)."""
    for endpoint in reader.endpoints(service.key):
        healthy = service.publish_not_ready or endpoint.health == "HEALTHY"
        if healthy and _is_ip(endpoint.address) and _same(endpoint.network, view.network):
            yield endpoint


def _headless(reader: Reader, service: MeshService, view: Viewpoint) -> Iterator[NameEntry]:
    """Each pod with a subdomain by its own name, where those of the proxy's cluster win; then all by the service's."""
    registry = KUBERNETES if service.kubernetes else EXTERNAL
    addresses: list[str] = []
    local: dict[str, list[str]] = {}
    remote: dict[str, list[str]] = {}
    for endpoint in _resolved(reader, service, view):
        addresses.append(endpoint.address)
        if endpoint.hostname and endpoint.subdomain:
            pods = local if _same(endpoint.cluster_id, view.cluster_id) else remote
            pods.setdefault(f"{endpoint.hostname}.{endpoint.subdomain}", []).append(endpoint.address)
    _, _, domain = service.hostname.partition(".")
    for name, ips in {**remote, **local}.items():
        yield NameEntry(f"{name}.{domain}", tuple(ips), registry, name, service.namespace)
    if addresses:
        yield _own_entry(service, tuple(addresses))


def _own_entry(service: MeshService, ips: tuple[str, ...]) -> NameEntry:
    if service.kubernetes:
        return NameEntry(service.hostname, ips, KUBERNETES, service.name, service.namespace)
    return NameEntry(service.hostname, ips)


def _entries(reader: Reader, key: ServiceKey, view: Viewpoint) -> tuple[NameEntry, ...]:
    """The names of one service; none if it has no address (NDS-002)."""
    service = reader.service(key)
    if service is None or service.resolution is Resolution.ALIAS:
        return ()
    addresses = addresses_of(service, view)
    if not addresses:
        is_headless = service.resolution is Resolution.PASSTHROUGH and bool(service.ports)
        return tuple(_headless(reader, service, view)) if is_headless else ()
    ips = tuple(address for address in addresses if "/" not in address)  # no name can mean a whole network
    return (_own_entry(service, ips),) if ips else ()


def _frame(entry: NameEntry) -> bytes:
    """An entry of `NameTable.table`, a map: each entry is a field of its own on the wire."""
    descriptor = find_istio_message("istio.networking.nds.v1.NameTable.NameInfo")
    assert descriptor is not None
    info = message_factory.GetMessageClass(descriptor)(
        ips=entry.ips, registry=entry.registry, shortname=entry.short_name, namespace=entry.namespace
    )
    value = length_delimited(_VALUE_TAG, info.SerializeToString(deterministic=True))
    return length_delimited(_TABLE_TAG, length_delimited(_KEY_TAG, entry.host.encode()) + value)


def _joined(one: NameEntry, other: NameEntry) -> NameEntry:
    """What two services of one name come to: a Kubernetes Service wins, other addresses are joined (NDS-004)."""
    if one.registry == KUBERNETES:
        return one
    if other.registry == KUBERNETES:
        return other
    return one._replace(ips=one.ips + other.ips)


def _table(reader: Reader, view: ProxyView) -> ResourceSet:
    found: dict[str, NameEntry] = {}
    if view.is_sidecar:  # nobody asks a gateway for names
        seen_from = Viewpoint(view.cluster_id, view.network, view.ipv4, view.ipv6, view.dns_vips)
        for key in listed_services(reader, view):
            for entry in reader.call(_entries, key, seen_from):
                rival = found.get(entry.host)
                found[entry.host] = _joined(rival, entry) if rival is not None else entry
    body = b"".join(_frame(found[host]) for host in sorted(found))
    return ResourceSet((Chunk((Resource.of("", NAME_TABLE, body),)),))


def compile_name_table(reader: Reader, proxy: Proxy) -> ResourceSet:
    """The name table of a proxy: one resource without a name, empty for a gateway."""
    return reader.call(_table, reader.call(view_of, proxy))
