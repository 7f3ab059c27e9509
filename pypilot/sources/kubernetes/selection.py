"""Which namespaces count: `discoverySelectors` of MeshConfig (MESH-036), applied to a stream of deltas.

Pure. Objects of other namespaces are withheld, not forgotten: a label or a selector that changes brings them in, or
takes them out, at once. Without selectors every namespace counts. Cluster-scoped kinds and the mesh's own ConfigMap
always pass; the root namespace has to be selected like any other, as with Istio.
"""

from collections.abc import Iterable, Mapping

import msgspec

from pypilot.kinds.base import Object, Origin, Ref, Spec
from pypilot.kinds.config_map import ConfigMap
from pypilot.kinds.parse import convert
from pypilot.kinds.yaml_data import YamlError, load_document
from pypilot.world.advance import MESH_CONFIG_MAP
from pypilot.world.delta import Delta


class Requirement(Spec, frozen=True):
    """`matchExpressions[]`."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """An operator that does not exist matches nothing."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels
        return False


class NamespaceSelector(Spec, frozen=True):
    """`discoverySelectors[]`: a Kubernetes label selector; all of it must match."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """True if a namespace with these labels is meant."""
        wanted = self.match_labels.items()
        return all(labels.get(k) == v for k, v in wanted) and all(r.matches(labels) for r in self.match_expressions)


class _Mesh(Spec, frozen=True):
    discovery_selectors: tuple[NamespaceSelector, ...] = ()


def read_selectors(mesh_config: str) -> tuple[NamespaceSelector, ...] | None:
    """The selectors in the text of a MeshConfig; None if the text cannot be read (reported where it is parsed)."""
    try:
        data, _ = load_document(mesh_config)
        selectors = data.get("discoverySelectors") if isinstance(data, Mapping) else None
        return convert({"discoverySelectors": selectors or []}, _Mesh).discovery_selectors
    except (YamlError, msgspec.ValidationError):
        return None


class NamespaceSelection:
    """Withholds what is in namespaces that do not count."""

    def __init__(self, root_namespace: str) -> None:
        self._mesh_ref = Ref("ConfigMap", root_namespace, MESH_CONFIG_MAP)
        self._given: tuple[NamespaceSelector, ...] | None = None
        self._read: tuple[NamespaceSelector, ...] = ()
        self._labels: dict[str, Mapping[str, str]] = {}
        self._objects: dict[str, dict[Ref, tuple[Object, Origin | None]]] = {}
        """By namespace, everything known; Namespaces are in the namespace that they are."""

    def use_mesh_config(self, text: str | None) -> Delta:
        """A MeshConfig given apart from the ConfigMap, which then does not count (None: it does). What that changes."""
        before = self._selected(self._objects)
        selectors = read_selectors(text) if text is not None else None
        self._given = self._given if text is not None and selectors is None else selectors
        return self._moved(before)

    def admit(self, delta: Delta) -> Delta:
        """The delta that may pass, with what its Namespaces and its MeshConfig bring in or take out."""
        before = self._selected({*self._objects, *(_home(ref) for ref in delta.removals)})
        for ref in delta.removals:
            self._store(ref, None, None)
        for obj in delta.upserts:
            self._store(obj.ref, obj, delta.origins.get(obj.ref))
        moved = self._moved(before)
        now = self._selected({_home(ref) for ref in (*delta.removals, *(o.ref for o in delta.upserts))})
        upserts = {obj.ref: obj for obj in delta.upserts if self._passes(obj.ref, now)}
        upserts.update((obj.ref, obj) for obj in moved.upserts)
        # What is removed from a namespace that does not count was never let in, or has just been taken out again.
        removals = {ref for ref in delta.removals if self._passes(ref, before | now)}.union(moved.removals)
        origins = {**{r: o for r, o in delta.origins.items() if r in upserts}, **moved.origins}
        return Delta(tuple(upserts.values()), tuple(sorted(removals)), origins, delta.mesh)

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
            text = obj.data.get("mesh", "") if isinstance(obj, ConfigMap) else ""
            selectors = read_selectors(text)
            self._read = self._read if selectors is None else selectors

    def _selected(self, namespaces: Iterable[str]) -> frozenset[str]:
        selectors = self._read if self._given is None else self._given
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
