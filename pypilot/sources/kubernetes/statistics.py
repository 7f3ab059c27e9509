"""What `/debug/kinds` shows of a cluster: per kind, what is served and how watching it goes. Plain data."""

from collections.abc import Sequence
from dataclasses import dataclass

from pypilot.kinds.base import Kind
from pypilot.sources.kubernetes.plan import Plan
from pypilot.sources.kubernetes.reflector import Reflector


@dataclass(frozen=True, slots=True)
class KindStatistics:
    """One kind."""

    kind: str
    group: str
    version: str
    """In which it is read; empty if it is not."""
    state: str
    """`synced`, `syncing`, `not served`, `not read` (cluster-scoped, where only namespaces are read), `unknown`."""
    objects: int = 0
    revision: str = ""
    """The resourceVersion up to which it was read; the lowest, where namespaces are read one by one."""
    lists: int = 0
    relists: int = 0
    """Lists after the first, because the watch could not go on."""
    watches: int = 0
    error: str = ""
    """Why it cannot be watched at the moment."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """All of them."""

    kinds: tuple[KindStatistics, ...]
    discovery_error: str = ""


def describe(kind: Kind, plan: Plan, reflectors: Sequence[Reflector], is_discovered: bool) -> KindStatistics:
    """The figures of one kind, over all namespaces that are read one by one."""
    if not reflectors:
        known = "not read" if not plan.resources(kind, "") else "not served" if is_discovered else "unknown"
        return KindStatistics(kind.name, kind.group, "", known)
    progress = [r.progress for r in reflectors]
    return KindStatistics(
        kind.name,
        kind.group,
        reflectors[0].resource.version,
        "synced" if all(p.is_synced for p in progress) else "syncing",
        sum(len(r.store) for r in reflectors),
        min((p.revision for p in progress), key=lambda v: (len(v), v)),
        sum(p.lists for p in progress),
        sum(max(0, p.lists - 1) for p in progress),
        sum(p.watches for p in progress),
        next((p.error for p in progress if p.error), ""),
    )
