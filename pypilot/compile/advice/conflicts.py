"""VirtualServices that speak for one host to the same sidecars: only the first counts (VS-005, IST0109)."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from pypilot.compile.naming import resolve_host
from pypilot.kinds.base import Finding, Ref
from pypilot.kinds.virtual_service import MESH, VirtualService
from pypilot.world.reader import Reader


def _by_host(reader: Reader) -> Mapping[str, tuple[Ref, ...]]:
    """The VirtualServices of the mesh by absolute host, oldest first; hosts of just one are left out."""
    found: dict[str, list[Ref]] = {}
    for service in reader.virtual_services(MESH):
        for host in dict.fromkeys(service.spec.hosts):
            found.setdefault(resolve_host(host, service.namespace, reader.constants.domain), []).append(service.ref)
    return MappingProxyType({host: tuple(refs) for host, refs in found.items() if len(refs) > 1})


def _rivals(reader: Reader, host: str) -> tuple[Ref, ...]:
    return reader.call(_by_host).get(host, ())


def _audience(reader: Reader, service: VirtualService) -> frozenset[str]:
    words = service.spec.export_to or reader.mesh().default_virtual_service_export_to
    return frozenset(service.namespace if word == "." else word for word in words)


def host_conflicts(reader: Reader, service: VirtualService) -> Iterator[Finding]:
    """A warning for each host for which an older VirtualService that the same sidecars see gives routes, too."""
    own = _audience(reader, service)
    for i, host in enumerate(service.spec.hosts):
        rivals = reader.call(_rivals, resolve_host(host, service.namespace, reader.constants.domain))
        for ref in rivals[: rivals.index(service.ref)] if service.ref in rivals else ():
            other = reader.virtual_service(ref)
            if other is None or not _kinds_in_common(other, service):
                continue
            theirs = _audience(reader, other)
            if own & theirs or "*" in own | theirs:
                message = f"{ref} is older and gives routes for {host!r} to sidecars, too; only one of them counts"
                yield Finding(f"spec.hosts[{i}]", message, "warning", "conflicting-hosts")
                break


def _kinds_in_common(one: VirtualService, other: VirtualService) -> bool:
    """HTTP, TLS and TCP routes do not get into each other's way."""
    return bool(one.spec.http and other.spec.http)
