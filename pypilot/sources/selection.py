"""Which namespaces count: MeshConfig's `discoverySelectors` over namespace labels (MESH-036), applied to deltas.

Pure. Objects of other namespaces are withheld, not forgotten: a label or a selector that changes brings them in, or
takes them out, at once. Without selectors every namespace counts. Cluster-scoped kinds and the mesh's own ConfigMap
always pass; the root namespace has to be selected like any other, as with Istio.
"""

from collections.abc import Iterable, Mapping

from pypilot.kinds.base import Object, Origin, Ref
from pypilot.kinds.config_map import ConfigMap
from pypilot.kinds.mesh_config import MeshConfig, NamespaceSelector
from pypilot.kinds.mesh_config_parse import parse_mesh_config
from pypilot.world.delta import Delta

_NO_MESH = MeshConfig()


class NamespaceSelection:
    """Withholds what is in namespaces that do not count."""

    def __init__(self, mesh_config_map: Ref) -> None:
        self._mesh_ref = mesh_config_map
        self._given: MeshConfig | None = None
        """A MeshConfig given apart from the ConfigMap: it wins."""
        self._read = _NO_MESH
        self._labels: dict[str, Mapping[str, str]] = {}
        self._objects: dict[str, dict[Ref, tuple[Object, Origin | None]]] = {}
        """By namespace, everything known; Namespaces are in the namespace that they are."""

    @property
    def _selectors(self) -> tuple[NamespaceSelector, ...]:
        return (self._given or self._read).discovery_selectors

    def admit(self, delta: Delta) -> Delta:
        """The delta that may pass, with what its Namespaces and its MeshConfig bring in or take out."""
        had_selectors = bool(self._selectors)
        before = self._selected({*self._objects, *(_home(ref) for ref in delta.removals)})
        if delta.mesh is not None:
            self._given = delta.mesh
        for ref in delta.removals:
            self._store(ref, None, None)
        for obj in delta.upserts:
            self._store(obj.ref, obj, delta.origins.get(obj.ref))
        if not had_selectors and not self._selectors:
            return delta
        moved = self._moved(before)
        now = self._selected(_home(ref) for ref in (*delta.removals, *delta.origins, *(o.ref for o in delta.upserts)))
        upserts = {obj.ref: obj for obj in delta.upserts if self._passes(obj.ref, now)}
        upserts.update((obj.ref, obj) for obj in moved.upserts)
        # What is removed from a namespace that does not count was never let in, or has just been taken out again.
        removals = {ref for ref in delta.removals if self._passes(ref, before | now)}.union(moved.removals)
        # Origins also come alone, when lines have moved.
        origins = {ref: origin for ref, origin in delta.origins.items() if self._passes(ref, now)}
        return Delta(tuple(upserts.values()), tuple(sorted(removals)), {**origins, **moved.origins}, delta.mesh)

    def _store(self, ref: Ref, obj: Object | None, origin: Origin | None) -> None:
        home = _home(ref)
        known = self._objects.setdefault(home, {})
        if obj is None:
            known.pop(ref, None)
            if not known:
                del self._objects[home]
        else:
            known[ref] = (obj, origin or known.get(ref, (None, None))[1])
        if ref.kind == "Namespace":
            if obj is None:
                self._labels.pop(ref.name, None)
            else:
                self._labels[ref.name] = obj.metadata.labels
        elif ref == self._mesh_ref:
            self._read_mesh(obj)

    def _read_mesh(self, config_map: Object | None) -> None:
        """A text that cannot be used leaves the last selectors in force (MESH-002); it is reported by the world."""
        text = config_map.data.get("mesh", "") if isinstance(config_map, ConfigMap) else ""
        mesh, _ = parse_mesh_config(text)
        self._read = mesh or self._read

    def _selected(self, namespaces: Iterable[str]) -> frozenset[str]:
        selectors = self._selectors
        if not selectors:
            return frozenset(namespaces)
        return frozenset(
            name for name in namespaces if not name or any(s.matches(self._labels.get(name, {})) for s in selectors)
        )

    def _passes(self, ref: Ref, selected: frozenset[str]) -> bool:
        return ref == self._mesh_ref or _home(ref) in selected

    def _moved(self, before: frozenset[str]) -> Delta:
        """What comes in or goes out because the selected namespaces are no longer those of `before`."""
        now = self._selected(self._objects)
        upserts: list[Object] = []
        origins: dict[Ref, Origin] = {}
        removals: list[Ref] = []
        for name in sorted(now - before):
            for ref, (obj, origin) in self._objects[name].items():
                upserts.append(obj)
                if origin is not None:
                    origins[ref] = origin
        for name in sorted(before - now):
            removals.extend(ref for ref in self._objects.get(name, ()) if ref != self._mesh_ref)
        return Delta(tuple(upserts), tuple(removals), origins)


def _home(ref: Ref) -> str:
    return ref.name if ref.kind == "Namespace" else ref.namespace
