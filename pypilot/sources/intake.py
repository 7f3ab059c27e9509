"""What several sources say, made one: whose object counts, of which revision, in which namespaces.

Pure. Three steps, in this order: objects of Istio's that belong to another revision are as good as absent; of an object
that two sources have, that of the source named first counts; namespaces that discoverySelectors do not select are
withheld. Each step takes back what it let through when that no longer holds.
"""

from collections.abc import Sequence
from dataclasses import replace

from pypilot.kinds.base import Object, Origin, Ref
from pypilot.sources.selection import NamespaceSelection
from pypilot.world.delta import Delta, Problem
from pypilot.world.world import Constants

REVISION_LABEL = "istio.io/rev"
_ISTIO = ".istio.io"


class Intake:
    """Turns the deltas of the sources, each known by its name, into those of the world."""

    def __init__(self, constants: Constants, sources: Sequence[str], selects_namespaces: bool = True) -> None:
        """`sources`: those that win first. `selects_namespaces`: False where Namespaces cannot be read."""
        self._revision = constants.revision
        self._selection = NamespaceSelection(constants.mesh_config_map) if selects_namespaces else None
        self._ranks = {name: rank for rank, name in enumerate(sources)}
        self._names = tuple(sources)
        self._held: dict[Ref, dict[int, tuple[Object, Origin | None]]] = {}
        """Everything that any source has, by rank; not kept for a single source."""
        self._doubled: set[Ref] = set()

    def admit(self, source: str, delta: Delta) -> Delta:
        """The change of the world that a change of one source makes."""
        delta = self._of_revision(delta)
        if len(self._names) > 1:
            delta = self._of_rank(self._ranks[source], delta)
        return self._selection.admit(delta) if self._selection is not None else delta

    def problems(self) -> tuple[Problem, ...]:
        """Objects that are in several sources: who wrote the one that does not count should know."""
        return tuple(
            Problem(
                f"is also in {self._names[min(holders)]}, which wins",
                "warning",
                "shadowed",
                ref,
                origin=holders[max(holders)][1],
            )
            for ref in sorted(self._doubled)
            for holders in (self._held[ref],)
        )

    def _of_revision(self, delta: Delta) -> Delta:
        foreign = {obj.ref for obj in delta.upserts if self._is_foreign(obj)}
        if not foreign:
            return delta
        return replace(
            delta,
            upserts=tuple(obj for obj in delta.upserts if obj.ref not in foreign),
            removals=(*delta.removals, *sorted(foreign)),
            origins={ref: origin for ref, origin in delta.origins.items() if ref not in foreign},
        )

    def _is_foreign(self, obj: Object) -> bool:
        """Istio's `istio.io/rev` on Istio's own kinds; without it an object is everybody's."""
        revision = obj.metadata.labels.get(REVISION_LABEL, "")
        return bool(revision) and revision != self._revision and obj.api_version.partition("/")[0].endswith(_ISTIO)

    def _of_rank(self, rank: int, delta: Delta) -> Delta:
        upserts: list[Object] = []
        origins: dict[Ref, Origin] = {}
        removals: list[Ref] = []
        for ref, origin in delta.origins.items():  # also of objects that only moved within their file
            holders = self._held.get(ref, {})
            if rank in holders:
                holders[rank] = (holders[rank][0], origin)
                if min(holders) == rank:
                    origins[ref] = origin
        for ref in delta.removals:
            holders = self._held.get(ref, {})
            if holders.pop(rank, None) is None:
                continue
            if len(holders) < 2:
                self._doubled.discard(ref)
            if not holders:
                del self._held[ref]
                removals.append(ref)
            elif rank < min(holders):
                self._show(ref, upserts, origins)
        for obj in delta.upserts:
            holders = self._held.setdefault(obj.ref, {})
            known = holders.get(rank, (None, None))[1]
            holders[rank] = (obj, delta.origins.get(obj.ref, known))
            if len(holders) > 1:
                self._doubled.add(obj.ref)
            if min(holders) == rank:
                self._show(obj.ref, upserts, origins)
        return Delta(tuple(upserts), tuple(removals), origins, delta.mesh)

    def _show(self, ref: Ref, upserts: list[Object], origins: dict[Ref, Origin]) -> None:
        obj, origin = self._held[ref][min(self._held[ref])]
        upserts.append(obj)
        if origin is not None:
            origins[ref] = origin
