"""Which requests read a kind: of the whole cluster, or namespace by namespace. Pure.

Secrets of Helm releases are left out by the server. ConfigMaps are all listed, because `configmap://` names any of
them, but only those few keys of them are kept that pypilot reads (see `slimming`).
"""

from dataclasses import dataclass

from pypilot.kinds.base import Kind
from pypilot.sources.kubernetes.reflector import Resource

FIELD_SELECTORS = {"Secret": "type!=helm.sh/release.v1"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What part of a cluster is read."""

    root_namespace: str
    namespaces: tuple[str, ...] = ()
    """Empty: all."""

    @property
    def is_namespaced(self) -> bool:
        """True if only what Roles can allow is read."""
        return bool(self.namespaces)

    def resources(self, kind: Kind, version: str) -> tuple[Resource, ...]:
        """What to list and watch for a kind; nothing for cluster-scoped kinds where only namespaces are read."""
        selector = FIELD_SELECTORS.get(kind.name, "") if not kind.group else ""
        if not self.is_namespaced:
            return (Resource(kind, version, field_selector=selector),)
        if not kind.namespaced:
            return ()
        names = dict.fromkeys((self.root_namespace, *self.namespaces))
        return tuple(Resource(kind, version, name, selector) for name in names)
