from itertools import permutations

import pytest

from pypilot.kinds.base import Origin, Ref
from pypilot.kinds.virtual_service import VirtualService
from pypilot.sources.file_store import FileStore, Unreadable
from pypilot.sources.update import Update
from tests.sources.texts import gateway, route, service, stream

SHOP = Ref("VirtualService", "web", "shop")
FIRST = Ref("Service", "default", "first")


def put(store: FileStore, **files: str | Unreadable | None) -> Update:
    for name, content in files.items():
        store.put(store.read(f"{name}.yaml", content))
    return store.refresh()


def refs(update: Update) -> list[str]:
    return [o.ref.name for o in update.delta.upserts]


def test_the_first_reading_gives_every_object_and_where_it_stands() -> None:
    update = put(FileStore(), a=stream(route(), service()), b=gateway())
    assert {str(r): str(o) for r, o in update.delta.origins.items()} == {
        "VirtualService web/shop": "a.yaml:1",
        "Service default/first": f"a.yaml:{route().count(chr(10)) + 2}",
        "Gateway web/gate": "b.yaml:1",
    }
    assert sorted(refs(update)) == ["first", "gate", "shop"]
    assert update.problems == ()


def test_an_unchanged_document_keeps_the_identical_object_wherever_it_moves() -> None:
    store = FileStore()
    before = {o.ref: o for o in put(store, a=stream(route(), service())).delta.upserts}
    moved = put(store, a=stream("# new first lines\n", gateway(), service(), route()))
    assert refs(moved) == ["gate"]
    assert moved.delta.origins[SHOP].line > 15
    other_file = put(store, a=gateway(), b=stream(service(), route()))
    assert refs(other_file) == []
    assert other_file.delta.removals == ()
    assert other_file.delta.origins == {
        SHOP: Origin("b.yaml", service().count("\n") + 2),
        FIRST: Origin("b.yaml", 1),
        Ref("Gateway", "web", "gate"): Origin("a.yaml", 1),
    }
    again = put(store, b=stream(service(port=81), route()))
    assert refs(again) == ["first"]
    assert store._delivered[SHOP] is before[SHOP]


def test_a_comment_is_no_change() -> None:
    store = FileStore()
    put(store, a=route())
    update = put(store, a=route().replace("spec:", "spec: # the routes"))
    assert not update.delta


def test_a_bad_new_version_leaves_the_whole_last_good_one() -> None:
    store = FileStore()
    (good,) = put(store, a=route(weight=20)).delta.upserts
    update = put(store, a=route(weight=-5))
    assert not update.delta.upserts
    assert not update.delta.removals
    problem = update.problems[0]
    assert str(problem.origin) == "a.yaml:11"
    assert problem.field == "spec.http[0].route[0].weight"
    assert "its last good version stays in force" in problem.message
    assert store._delivered[SHOP] is good
    fixed = put(store, a=route(weight=30))
    assert refs(fixed) == ["shop"]
    assert fixed.problems == ()


def test_without_a_good_version_the_valid_parts_are_used() -> None:
    store = FileStore()
    two = route().replace("  http:\n", "  http:\n  - timeout: 3x\n    route: [{destination: {host: third}}]\n")
    update = put(store, a=two)
    (shop,) = update.delta.upserts
    assert isinstance(shop, VirtualService)
    assert len(shop.spec.http) == 1
    assert [p.field for p in update.problems] == ["spec.http[0].timeout"]
    # A pruned object is not a good version: the next pruned one replaces it.
    assert refs(put(store, a=two.replace("50", "60"))) == ["shop"]


def test_a_document_that_cannot_be_told_leaves_what_the_file_gave_and_its_neighbours_change() -> None:
    store = FileStore()
    put(store, a=stream(route(), service(port=80), gateway()))
    broken = put(store, a=stream(route().replace("spec:", "spec: ["), service(port=81)))
    assert refs(broken) == ["first"]
    assert broken.delta.removals == ()
    (problem,) = broken.problems
    assert problem.code == "syntax"
    assert "what the file gave before stays in force" in problem.message
    assert put(store, a=stream(route().replace("spec:", "spec: ["), service(port=82))).delta.removals == ()
    whole = put(store, a=stream(route(), service(port=82)))
    assert whole.delta.removals == (Ref("Gateway", "web", "gate"),)
    assert whole.problems == ()


def test_a_lost_name_does_not_remove_the_object() -> None:
    store = FileStore()
    put(store, a=stream(route(), service()))
    update = put(store, a=stream(route().replace("  name: shop\n", ""), service()))
    assert not update.delta.upserts
    assert not update.delta.removals
    assert [p.field for p in update.problems] == ["metadata.name"]


def test_an_unreadable_file_leaves_what_it_gave() -> None:
    store = FileStore()
    put(store, a=route())
    update = put(store, a=Unreadable("Permission denied"))
    assert not update.delta
    assert "Permission denied" in update.problems[0].message
    assert not put(store, a=route()).problems


def test_a_deleted_file_removes_its_objects_and_a_deleted_document_its_object() -> None:
    store = FileStore()
    put(store, a=stream(route(), service()), b=gateway())
    assert put(store, a=route()).delta.removals == (FIRST,)
    gone = put(store, a=None)
    assert gone.delta.removals == (SHOP,)
    assert store.paths == {"b.yaml"}
    assert refs(put(store, a=route())) == ["shop"]


def test_a_removed_object_has_no_last_good_version() -> None:
    store = FileStore()
    put(store, a=route(weight=20))
    put(store, a=None)
    update = put(store, a=route(weight=-5))
    assert not update.delta.upserts
    assert "last good" not in update.problems[0].message


@pytest.mark.parametrize("order", list(permutations("abc")))
def test_of_two_definitions_the_first_in_path_order_wins_whatever_the_order_of_reading(order: tuple[str, ...]) -> None:
    contents = {"a": route(weight=1), "b": stream(route(weight=2), route(weight=3)), "c": route(weight=1)}
    store = FileStore()
    for name in order:
        update = put(store, **{name: contents[name]})
    shop = store._delivered[SHOP]
    assert isinstance(shop, VirtualService)
    assert shop.spec.http[0].route[0].weight == 1
    assert [(str(p.origin), p.severity) for p in update.problems] == [
        ("b.yaml:1", "error"),
        (f"b.yaml:{route().count(chr(10)) + 2}", "error"),
        ("c.yaml:1", "warning"),
    ]
    assert all("a.yaml:1" in p.message for p in update.problems)
    after = put(store, a=None)
    assert refs(after) == ["shop"]
    assert after.delta.origins == {SHOP: Origin("b.yaml", 1)}


def test_unknown_kinds_are_named_once_a_kind() -> None:
    deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n"
    other = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\n"
    update = put(FileStore(), a=stream(deployment, deployment, other), b=deployment)
    assert [(str(p.origin), p.severity, p.message) for p in update.problems] == [
        ("a.yaml:1", "warning", "pypilot does not read objects of kind Deployment.apps (the first of 3)"),
        ("a.yaml:9", "warning", "pypilot does not read objects of kind Job.batch"),
    ]
    assert not update.delta


def test_a_reading_that_takes_something_away_says_so() -> None:
    store = FileStore()
    put(store, a=stream(route(), service()))
    assert store.read("a.yaml", "").takes_away
    assert store.read("a.yaml", route()).takes_away
    assert store.read("a.yaml", None).takes_away
    assert store.read("a.yaml", stream(route(), service(), "a: [")).takes_away
    assert store.read("a.yaml", Unreadable("x")).takes_away
    assert not store.read("a.yaml", stream(route(weight=1), service(), gateway())).takes_away
    assert not store.read("b.yaml", "a: [").takes_away


def test_lines_of_fields_can_be_asked_for_later() -> None:
    store = FileStore()
    text = stream(service(), route())
    put(store, a=text)
    line = store.line_of(SHOP, "spec.http[0].route[1].weight", text)
    assert text.split("\n")[line - 1].strip() == "weight: 50"
    assert store.path_of(SHOP) == "a.yaml"
    changed = text.replace("first", "other")
    assert store.line_of(SHOP, "spec.http[0].route[1].weight", changed) == service().count("\n") + 2
    assert store.path_of(Ref("Service", "x", "y")) == ""
