"""ExternalName Services as other names of the services they stand for (KSVC-005, RDS-008)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

from pypilot.compile.services import visible_services
from pypilot.world.model import Resolution, ServiceKey
from pypilot.world.reader import Reader

Aliases: TypeAlias = Mapping[str, tuple[ServiceKey, ...]]


def _concrete(targets: Mapping[str, str], host: str) -> str | None:
    """What an alias stands for in the end; None if the names run in a circle."""
    seen = {host}
    while (target := targets.get(host)) is not None:
        if target in seen:
            return None
        seen.add(target)
        host = target
    return host


def _aliases(reader: Reader, namespace: str) -> Aliases:
    found: dict[ServiceKey, str] = {}
    for key in visible_services(reader, namespace):
        service = reader.service(key)
        if service is not None and service.resolution is Resolution.ALIAS:
            found[key] = service.external_name
    targets = {key.hostname: target for key, target in found.items()}
    by_host: dict[str, list[ServiceKey]] = {}
    for key in found:
        concrete = _concrete(targets, key.hostname)
        if concrete is not None:
            by_host.setdefault(concrete, []).append(key)
    return MappingProxyType(
        {host: tuple(sorted(keys, key=lambda k: (k.namespace, k.hostname))) for host, keys in by_host.items()}
    )


def aliases_in(reader: Reader, namespace: str) -> Aliases:
    """Hostname -> the ExternalName Services, visible in a namespace, that stand for it (through others, too)."""
    return reader.call(_aliases, namespace)
