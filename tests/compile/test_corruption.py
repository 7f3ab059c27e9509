"""One wrong field of one object in a world of many: nothing raises, and what does not depend on it keeps every byte."""

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.archive import extract
from pypilot.compile.generators import GENERATORS
from pypilot.engine.memo import Memo
from pypilot.kinds import KINDS
from pypilot.kinds.base import Kind, Object, Ref
from pypilot.kinds.mesh_config_parse import parse_mesh_config
from pypilot.kinds.parse import parse_object
from pypilot.wire.node import Proxy, parse_node
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.world import World
from tests.corruption import ABSENT, VALUES, Document, Position, corrupted, json_documents, kind_for, places

NODES = {
    "bookinfo": ["reviews-v1"],
    "destinationrule-circuit-breaker": [],
    "destinationrule-loadbalancer": ["edge-v1"],
    "egress-gateway-mtls": ["istio-egressgateway"],
    "envoyfilter-http": ["api-v1"],
    "gateway-tls-mutual": ["istio-ingressgateway"],
    "headless-statefulset": [],
    "serviceentry-static": ["ledger-v1"],
    "sidecar-scope": ["cart-v1"],
    "tcp-mysql": [],
    "virtualservice-matching": [],
    "workloadentry": ["web-v1"],
}
"""Scenarios whose worlds are put together, and the proxies that are looked at."""

Compiled = dict[tuple[str, str, str], str]
"""Proxy, type, name -> version, which is a hash of the bytes."""


class Mesh:
    """The world, with one object at a time another than it was."""

    def __init__(self, documents: list[Document], proxies: list[Proxy], mesh: str) -> None:
        self.documents: dict[Ref, Document] = {}
        self.objects: dict[Ref, Object] = {}
        self.proxies = proxies
        for document in documents:
            kind = kind_for(document)
            parsed = parse_object(kind, document) if kind else None
            if parsed is not None and parsed.object is not None and parsed.clean:
                self.documents[parsed.object.ref] = document
                self.objects[parsed.object.ref] = parsed.object
        self.world = advance(World(), Delta(upserts=tuple(self.objects.values()), mesh=parse_mesh_config(mesh)[0]))
        self.memo = Memo(self.world)
        self.before = self.compile()
        self._depending: dict[Ref, set[tuple[str, str, str]]] = {}

    def compile(self) -> Compiled:
        return {
            (proxy.id, type_url, resource.name): resource.version
            for proxy in self.proxies
            for type_url, generator in GENERATORS.items()
            for resource in self.memo.root(generator, proxy)
        }

    def with_other(self, ref: Ref, obj: Object | None) -> Compiled:
        """What is compiled with another object, or none, in its place."""
        moved = obj is not None and obj.ref != ref
        gone = (ref,) if obj is None or moved else ()
        self._apply(Delta(upserts=() if obj is None else (obj,), removals=gone))
        try:
            return self.compile()
        finally:
            self._apply(Delta(upserts=(self.objects[ref],), removals=(obj.ref,) if obj is not None and moved else ()))

    def _apply(self, delta: Delta) -> None:
        self.world = advance(self.world, delta)
        self.memo.advance(self.world, self.world.changed)

    def depending_on(self, ref: Ref) -> set[tuple[str, str, str]]:
        """The resources that the object shapes: without it they are others, or not there."""
        if ref not in self._depending:
            self._depending[ref] = different(self.before, self.with_other(ref, None))
        return self._depending[ref]


def different(one: Compiled, other: Compiled) -> set[tuple[str, str, str]]:
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


@cache
def mesh() -> Mesh:
    documents: list[Document] = []
    proxies: list[Proxy] = []
    with TemporaryDirectory() as folder:
        for name, nodes in NODES.items():
            scenario = extract(name, Path(folder))
            documents += json_documents((scenario / "world.yaml").read_text())
            proxies += [parse_node(json.loads((scenario / "nodes" / f"{node}.json").read_text())) for node in nodes]
        documents += json_documents((Path(folder) / "cluster.yaml").read_text())
    return Mesh(documents, proxies, "proxyHttpPort: 15080\n")


@cache
def refs_of(kind: str) -> list[Ref]:
    return sorted(ref for ref in mesh().documents if ref.kind == kind)


def check(ref: Ref, kind: Kind, position: Position, value: Any) -> None:
    world = mesh()
    parsed = parse_object(kind, corrupted(world.documents[ref], position.path, value))
    after = world.with_other(ref, parsed.object)
    if value is not ABSENT and position.refuses(value):
        assert parsed.findings
        touched = different(world.before, after) - world.depending_on(ref)
        assert not touched, f"{ref} {position.path} = {value!r:.50} reaches {sorted(touched)[:3]}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_one_corrupt_field(kind: Kind, data: st.DataObject) -> None:
    if not refs_of(kind.name):
        pytest.skip("none in these worlds")
    ref = data.draw(st.sampled_from(refs_of(kind.name)))
    position = data.draw(st.sampled_from(places(kind, mesh().documents[ref])))
    check(ref, kind, position, data.draw(st.sampled_from([*VALUES, ABSENT])))


def test_the_world_is_as_it_was() -> None:
    """Every corruption was taken back."""
    assert mesh().compile() == mesh().before
    assert len(mesh().before) > 300


def test_what_reaches_further_than_before_is_seen() -> None:
    """The check above can fail: a Gateway without its selector serves on every gateway."""
    world = mesh()
    ref = next(r for r in refs_of("Gateway") if world.depending_on(r))
    document = corrupted(world.documents[ref], ("spec", "selector"), ABSENT)
    kind = kind_for(document)
    assert kind is not None
    wider = parse_object(kind, document).object
    assert different(world.before, world.with_other(ref, wider)) - world.depending_on(ref)
