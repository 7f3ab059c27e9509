"""ExternalName Services as other names of the services they stand for (KSVC-005, RDS-008)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

from pypilot.compile.scope import ALL, Scope, Scoped, imports_of
from pypilot.compile.services import is_visible, visible_services
from pypilot.world.model import ServiceKey
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
    for key in reader.alias_services():
        service = reader.service(key)
        if service is not None and is_visible(reader, service, namespace):
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


def _imported(reader: Reader, scope: Scope) -> Aliases:
    """Those that are imported as the service is for which they stand."""
    found: dict[str, tuple[ServiceKey, ...]] = {}
    aliases = reader.call(_aliases, scope.namespace)
    for key in visible_services(reader, scope) if aliases else ():
        hosts = imports_of(reader, scope).selecting(key.namespace, key.hostname)
        known = aliases.get(key.hostname, ())
        kept = tuple(alias for alias in known if hosts is not None and hosts.selects(alias.hostname))
        if kept:
            found[key.hostname] = kept
    return MappingProxyType(found)


def aliases_in(reader: Reader, scoped: Scoped) -> Aliases:
    """Hostname -> the ExternalName Services that stand for it (through others, too), as a view sees them."""
    scope = scoped.scope
    limited = scope.sidecar is not None and scope.listener != ALL
    return reader.call(_imported, scope) if limited else reader.call(_aliases, scope.namespace)
