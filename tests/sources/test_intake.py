"""Several sources, one world: who wins, which revision counts, and that all is taken back that no longer holds."""

import random
from dataclasses import replace

import pytest

from pypilot.kinds.base import Object, Origin, Ref
from pypilot.sources.intake import Intake
from pypilot.world.delta import Delta
from pypilot.world.world import Constants
from tests.world.objects import make, service

VIRTUAL_SERVICE = {"spec": {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}]}]}}


class Seen:
    """What the world would hold."""

    def __init__(self, *sources: str, constants: Constants | None = None) -> None:
        self.intake = Intake(constants or Constants(), sources)
        self.objects: dict[Ref, Object] = {}
        self.origins: dict[Ref, Origin] = {}

    def take(self, source: str, delta: Delta) -> None:
        out = self.intake.admit(source, delta)
        assert not set(out.removals) & {o.ref for o in out.upserts}
        for ref in out.removals:
            self.objects.pop(ref, None)
            self.origins.pop(ref, None)
        self.objects.update((o.ref, o) for o in out.upserts)
        self.origins.update(out.origins)

    def put(self, source: str, *objects: Object) -> None:
        self.take(source, Delta(objects, origins={o.ref: Origin(source) for o in objects}))


def labelled(revision: str | None) -> Object:
    labels = {} if revision is None else {"istio.io/rev": revision}
    return make("VirtualService", "a", "x", labels=labels, **VIRTUAL_SERVICE)


def test_the_first_source_wins_and_the_second_takes_over_when_it_lets_go() -> None:
    seen = Seen("files", "cluster")
    mine, theirs = service("a", "x", labels={"by": "file"}), service("a", "x", labels={"by": "cluster"})
    seen.put("cluster", theirs)
    assert seen.objects[mine.ref] is theirs
    seen.put("files", mine)
    assert (seen.objects[mine.ref], seen.origins[mine.ref]) == (mine, Origin("files"))
    (problem,) = seen.intake.problems()
    assert (problem.ref, problem.origin, problem.severity) == (mine.ref, Origin("cluster"), "warning")
    assert "files" in problem.message
    newer = service("a", "x", labels={"by": "cluster", "now": "newer"})
    seen.put("cluster", newer)
    assert seen.objects[mine.ref] is mine
    seen.take("files", Delta(removals=(mine.ref,)))
    assert (seen.objects[mine.ref], seen.origins[mine.ref]) == (newer, Origin("cluster"))
    assert not seen.intake.problems()
    seen.take("cluster", Delta(removals=(mine.ref,)))
    assert not seen.objects


@pytest.mark.parametrize(
    ("revision", "mine", "counts"),
    [
        ("default", None, True),
        ("default", "", True),
        ("default", "default", True),
        ("default", "canary", False),
        ("canary", "canary", True),
        ("canary", None, True),
        ("canary", "default", False),
    ],
)
def test_only_istios_objects_of_this_revision_count(revision: str, mine: str | None, counts: bool) -> None:
    seen = Seen("cluster", constants=replace(Constants(), revision=revision))
    seen.put("cluster", labelled(mine))
    assert bool(seen.objects) is counts


def test_objects_of_kubernetes_belong_to_every_revision() -> None:
    seen = Seen("cluster")
    seen.put("cluster", service("a", "x", labels={"istio.io/rev": "canary"}))
    assert seen.objects


def test_an_object_that_moves_to_another_revision_goes() -> None:
    seen = Seen("files", "cluster")
    seen.put("cluster", labelled(None))
    seen.put("files", labelled(None))
    seen.put("files", labelled("canary"))
    assert seen.origins == {labelled(None).ref: Origin("cluster")}
    seen.put("cluster", labelled("canary"))
    assert not seen.objects


def test_a_revision_has_a_config_map_of_its_own() -> None:
    mesh = "discoverySelectors:\n- matchLabels: {tier: gold}\n"
    for revision, name in (("default", "istio"), ("canary", "istio-canary")):
        seen = Seen("cluster", constants=replace(Constants(), revision=revision))
        seen.put("cluster", service("a", "x"), make("ConfigMap", name, "istio-system", data={"mesh": mesh}))
        assert Ref("Service", "x", "a") not in seen.objects


def test_where_namespaces_cannot_be_read_selectors_do_nothing() -> None:
    mesh = make("ConfigMap", "istio", "istio-system", data={"mesh": "discoverySelectors:\n- matchLabels: {a: b}\n"})
    intake = Intake(Constants(), ["cluster"], selects_namespaces=False)
    assert len(intake.admit("cluster", Delta((mesh, service("a", "x")))).upserts) == 2


def test_a_moved_line_changes_the_origin_alone() -> None:
    seen, a = Seen("files", "cluster"), service("a", "x")
    seen.put("files", a)
    seen.put("cluster", service("a", "x", labels={"by": "cluster"}))
    seen.take("files", Delta(origins={a.ref: Origin("files", 7)}))
    assert (seen.objects[a.ref], seen.origins[a.ref]) == (a, Origin("files", 7))


@pytest.mark.parametrize("seed", range(30))
def test_any_order_of_changes_ends_alike(seed: int) -> None:
    chance, seen = random.Random(seed), Seen("a", "b", "c")
    truth: dict[str, dict[Ref, Object]] = {"a": {}, "b": {}, "c": {}}
    for step in range(80):
        source = chance.choice("abc")
        held = truth[source]
        if held and chance.random() < 0.4:
            ref = chance.choice(sorted(held))
            del held[ref]
            seen.take(source, Delta(removals=(ref,)))
        else:
            obj = service(chance.choice("pqr"), "x", labels={"step": f"{step}", "by": source})
            held[obj.ref] = obj
            seen.put(source, obj)
        assert seen.objects == {**truth["c"], **truth["b"], **truth["a"]}
        assert {p.ref for p in seen.intake.problems()} == {
            ref for ref in seen.objects if sum(ref in held for held in truth.values()) > 1
        }
