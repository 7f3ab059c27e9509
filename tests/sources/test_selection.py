"""MESH-036. Whatever comes in whatever order, what was let through is what the selectors mean in the end."""

import random

import pytest

from pypilot.kinds.base import Object, Origin, Ref
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.kinds.mesh_config_parse import parse_mesh_config
from pypilot.sources.selection import NamespaceSelection
from pypilot.world.delta import Delta
from tests.world.objects import make, service

ROOT = "istio-system"
MESH = Ref("ConfigMap", ROOT, "istio")
GOLD = "discoverySelectors:\n- matchLabels: {tier: gold}\n"


def namespace(name: str, **labels: str) -> Object:
    return make("Namespace", name, "", labels=labels)


def mesh(text: str) -> Object:
    return make("ConfigMap", "istio", ROOT, data={"mesh": text})


class Seen:
    """What the world would hold."""

    def __init__(self) -> None:
        self.selection = NamespaceSelection(MESH)
        self.objects: dict[Ref, Object] = {}

    def take(self, delta: Delta) -> None:
        self._store(self.selection.admit(delta))

    def _store(self, delta: Delta) -> None:
        assert not set(delta.removals) & {o.ref for o in delta.upserts}
        for ref in delta.removals:
            self.objects.pop(ref, None)
        self.objects.update((o.ref, o) for o in delta.upserts)

    def put(self, *objects: Object) -> None:
        self.take(Delta(objects))

    @property
    def names(self) -> set[str]:
        return {ref.name for ref in self.objects}


def test_without_selectors_everything_counts() -> None:
    seen = Seen()
    seen.put(service("a", "x"), namespace("y"), mesh("{}"))
    assert seen.names == {"a", "y", "istio"}
    seen.take(Delta(removals=(Ref("Service", "x", "a"),)))
    assert seen.names == {"y", "istio"}


def test_only_what_is_in_selected_namespaces_passes_but_for_the_mesh_config_and_the_cluster_scoped() -> None:
    seen = Seen()
    seen.put(mesh(GOLD), namespace("x", tier="gold"), namespace("y"), make("Node", "node-a", ""))
    seen.put(service("a", "x"), service("b", "y"), service("c", "unknown"), service("d", ROOT))
    assert seen.names == {"istio", "x", "node-a", "a"}


def test_labels_and_selectors_are_live() -> None:
    seen = Seen()
    seen.put(service("a", "x"), service("b", "y"), namespace("x", tier="gold"), namespace("y"))
    seen.put(mesh(GOLD))
    assert seen.names == {"istio", "x", "a"}
    seen.put(namespace("y", tier="gold"))
    assert seen.names == {"istio", "x", "a", "y", "b"}
    seen.put(namespace("x"), service("a2", "x"))
    assert seen.names == {"istio", "y", "b"}
    seen.put(mesh("discoverySelectors: [oops"))
    assert seen.names == {"istio", "y", "b"}
    seen.take(Delta(removals=(Ref("Namespace", "", "y"),)))
    assert seen.names == {"istio"}
    seen.take(Delta(removals=(Ref("ConfigMap", ROOT, "istio"),)))
    assert seen.names == {"x", "a", "a2", "b"}


def test_a_mesh_config_given_apart_wins() -> None:
    seen = Seen()
    seen.put(service("a", "x"), namespace("x"), mesh(GOLD))
    assert seen.names == {"istio"}
    seen.take(Delta(mesh=MeshConfig()))
    assert seen.names == {"istio", "x", "a"}
    seen.put(mesh(GOLD.replace("gold", "tin")))
    assert seen.names == {"istio", "x", "a"}


def test_origins_come_with_their_objects() -> None:
    selection, origin, a = NamespaceSelection(MESH), Origin("cluster c1"), service("a", "x")
    assert not selection.admit(Delta((mesh(GOLD), namespace("x")))).origins
    assert not selection.admit(Delta((a,), origins={a.ref: origin})).upserts
    delta = selection.admit(Delta((namespace("x", tier="gold"),)))
    assert delta.origins == {a.ref: origin}


@pytest.mark.parametrize(
    ("expression", "labels", "matches"),
    [
        ("{key: a, operator: In, values: [x, y]}", {"a": "y"}, True),
        ("{key: a, operator: In, values: [x]}", {}, False),
        ("{key: a, operator: NotIn, values: [x]}", {}, True),
        ("{key: a, operator: NotIn, values: [x]}", {"a": "x"}, False),
        ("{key: a, operator: Exists}", {"a": ""}, True),
        ("{key: a, operator: DoesNotExist}", {"a": ""}, False),
    ],
)
def test_expressions(expression: str, labels: dict[str, str], matches: bool) -> None:
    read, findings = parse_mesh_config(f"discoverySelectors:\n- matchExpressions: [{expression}]\n")
    assert read is not None, findings
    assert read.discovery_selectors[0].matches(labels) is matches


@pytest.mark.parametrize("seed", range(30))
def test_any_order_of_changes_ends_alike(seed: int) -> None:
    chance, seen = random.Random(seed), Seen()
    truth: dict[Ref, Object] = {}
    for _ in range(60):
        place, upserts, removals = chance.choice("xyz"), [], []
        for _ in range(chance.randint(1, 3)):
            match chance.randrange(5):
                case 0:
                    upserts.append(namespace(place, tier=chance.choice(["gold", "tin"])))
                case 1:
                    upserts.append(mesh(chance.choice([GOLD, "{}", "oops: ["])))
                case 2:
                    upserts.append(service(chance.choice("abc"), place))
                case _:
                    removals.extend(chance.sample(sorted(truth), min(len(truth), 1)))
        removals = [ref for ref in dict.fromkeys(removals) if ref not in {o.ref for o in upserts}]
        upserts = list({o.ref: o for o in upserts}.values())
        for ref in removals:
            del truth[ref]
        truth.update((o.ref, o) for o in upserts)
        seen.take(Delta(tuple(upserts), tuple(removals)))
        if any("oops" in str(getattr(o, "data", "")) for o in truth.values()):
            continue  # then the selectors are those that were before
        again = Seen()
        again.put(*truth.values())
        assert seen.objects == again.objects
