"""Which service a host means to a namespace, found without listing what each namespace sees (IST0101).

A wildcard host of a ServiceEntry counts as a service for every name that it covers. Must not compile anything.
"""

from collections.abc import Iterable

from pypilot.compile.routes.hosts import is_subset, is_wildcard
from pypilot.world.model import MeshService, ServiceKey
from pypilot.world.reader import Reader


def _is_visible(reader: Reader, service: MeshService, namespace: str) -> bool:
    exported = service.export_to
    if exported is None:
        exported = frozenset(reader.mesh().default_service_export_to)
    return bool(exported & {"*", namespace}) or ("." in exported and service.namespace == namespace)


def _known(reader: Reader, namespace: str, host: str) -> MeshService | None:
    services = [s for key in reader.services_of(host) if (s := reader.service(key)) is not None]
    visible = [s for s in services if _is_visible(reader, s, namespace)]
    return min(visible, key=lambda s: (s.namespace != namespace, not s.kubernetes, s.age_key), default=None)


def known_service(reader: Reader, namespace: str, host: str) -> MeshService | None:
    """The service of exactly that hostname that proxies of a namespace see, or None."""
    return reader.call(_known, namespace, host)


def _wildcards(keys: Iterable[ServiceKey]) -> frozenset[str]:
    return frozenset(key.hostname for key in keys if is_wildcard(key.hostname))


def _public_wildcards(reader: Reader) -> frozenset[str]:
    return _wildcards(reader.public_services())


def is_covered(reader: Reader, namespace: str, host: str) -> bool:
    """True if a wildcard host that the namespace sees covers the host."""
    patterns = reader.call(_public_wildcards) | _wildcards(reader.private_services(namespace))
    return any(is_subset(host, pattern) for pattern in patterns)
