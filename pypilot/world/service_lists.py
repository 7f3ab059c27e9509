"""The lists of all services: who may see which, and which are only other names. A part of `advance`."""

from collections.abc import Iterable

from pypilot.world.draft import Draft
from pypilot.world.model import MeshService, Resolution
from pypilot.world.world import Table

_Lists = dict[str, list[MeshService]]


def standing(service: MeshService | None) -> object:
    """What decides in which lists a service stands, and where."""
    return (service.export_to, service.age_key, service.resolution is Resolution.ALIAS) if service is not None else None


def rebuild_lists(draft: Draft, default: Iterable[str]) -> None:
    """List the services anew, each list oldest first; `default` holds for services that do not say who may see them."""
    public: _Lists = {}
    private: _Lists = {}
    aliases: _Lists = {}
    usual = frozenset(default)
    for service in draft.tables.get("services", {}).values():
        if service.resolution is Resolution.ALIAS:
            aliases.setdefault("", []).append(service)
        exported = service.export_to if service.export_to is not None else usual
        if "*" in exported:
            public.setdefault("", []).append(service)
            public.setdefault(service.namespace, []).append(service)
            continue
        for namespace in exported - {"~"}:
            private.setdefault(service.namespace if namespace == "." else namespace, []).append(service)
    _store(draft, "public_services", public)
    _store(draft, "private_services", private)
    _store(draft, "alias_services", aliases)


def _store(draft: Draft, table: Table, lists: _Lists) -> None:
    for name in set(draft.tables.get(table, {})) - set(lists):
        draft.put(table, name, None)
    for name, services in lists.items():
        draft.put(table, name, tuple(dict.fromkeys(s.key for s in sorted(services, key=lambda s: s.age_key))))
