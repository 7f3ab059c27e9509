"""Objects that stand for others: the Gateways and VirtualServices of Ingresses, beside what users wrote.

A part of `advance`. A user's object wins where the name is the same.
"""

from collections.abc import Callable, Iterator
from typing import Any, cast

from pypilot.kinds.base import Object, Ref
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.world.draft import Draft
from pypilot.world.ingress import SOURCES, Surroundings, convert_ingresses
from pypilot.world.world import Constants, Table

_TABLES: dict[str, Table] = {"Gateway": "gateway", "VirtualService": "virtual_service"}


def may_convert(draft: Draft, ref: Ref) -> bool:
    """Whether a change of the object can change what is converted, or hide or show it."""
    return ref.kind in SOURCES or ref in draft.tables.get("converted", {})


def surroundings(find: Callable[[str, str, str], Any], mesh: MeshConfig, constants: Constants) -> Surroundings:
    """What the meaning of an Ingress depends on; `find` gives an object by kind, namespace and name."""
    return Surroundings(
        mesh=mesh,
        root_namespace=constants.root_namespace,
        domain=constants.domain,
        class_named=lambda name: find("IngressClass", "", name),
        service=lambda namespace, name: find("Service", namespace, name),
    )


def rebuild_converted(draft: Draft, mesh: MeshConfig, constants: Constants) -> Iterator[Object]:
    """Convert all Ingresses; gives what was there before and is now, where these differ or somebody else decides."""
    found = convert_ingresses(draft.objects_of("Ingress"), surroundings(draft.object, mesh, constants))
    draft.put("problems", "ingresses", found.problems)
    before = cast("dict[Ref, Object]", dict(draft.tables.get("converted", {})))
    for ref in {*before, *found.objects}:
        new = found.objects.get(ref)
        written = draft.object(*ref)
        shown = draft.put(_TABLES[ref.kind], ref, written or new)
        if draft.put("converted", ref, new) or shown or written is not None:
            yield from (obj for obj in (before.get(ref), new) if obj is not None)


def all_of(draft: Draft, kind: str) -> Iterator[Any]:
    """All objects of a kind: what users wrote, and what was converted to it."""
    yield from draft.objects_of(kind)
    for ref, obj in draft.tables.get("converted", {}).items():
        if kind == obj.KIND and draft.object(*cast(Ref, ref)) is None:
            yield obj
