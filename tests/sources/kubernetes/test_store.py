from pypilot.kinds.base import Finding, Origin, Ref
from pypilot.sources.kubernetes.decoding import Item, Key, ObjectDecoder
from pypilot.sources.kubernetes.store import KindStore
from tests.sources.kubernetes.fakes import item, kind_named, listed, service

SERVICE = kind_named("Service")


def store() -> KindStore:
    return KindStore(SERVICE, Origin("cluster c1"))


def read(*items: dict[str, object]) -> dict[Key, Item]:
    return ObjectDecoder(SERVICE, "v1").page(listed(*items)).items


def ref(name: str) -> Ref:
    return Ref("Service", "default", name)


def test_a_list_that_says_the_same_changes_nothing() -> None:
    kept = store()
    assert set(kept.replace(read(service("a"), service("b")))) == {ref("a"), ref("b")}
    before = dict(kept.objects)
    assert kept.replace(read(service("b", version="9"), service("a"))) == {}
    assert all(kept.objects[key] is obj for key, obj in before.items())


def test_a_list_finds_what_was_deleted_changed_and_new() -> None:
    kept = store()
    kept.replace(read(service("a"), service("b"), service("c")))
    changes = kept.replace(read(service("b", port=81), service("c"), service("d")))
    assert changes.keys() == {ref("a"), ref("b"), ref("d")}
    assert changes[ref("a")] is None
    assert len(kept) == 3


def test_an_error_leaves_the_last_good_version_until_it_is_mended() -> None:
    kept = store()
    kept.replace(read(service("a")))
    good = kept.objects["default", "a"]
    assert kept.update(read(item("a", spec=[]))) == {}
    (problem,) = kept.problems()
    assert problem.message.endswith("; its last good version stays in force")
    assert (problem.ref, str(problem.origin), problem.field) == (ref("a"), "cluster c1", "spec")
    assert kept.objects["default", "a"] is good
    assert kept.update(read(service("a", port=82))).keys() == {ref("a")}
    assert not list(kept.problems())


def test_a_new_object_with_an_error_counts_as_far_as_it_can_be_used() -> None:
    kept = store()
    ports = [{"port": 80}, {"port": 0}]
    (obj,) = kept.update(read(item("a", spec={"ports": ports}))).values()
    assert [p.port for p in obj.spec.ports] == [80]  # type: ignore[union-attr]
    assert "stays in force" not in next(iter(kept.problems())).message
    # It was never good: another partial version takes its place, and one of which nothing can be used removes it.
    (obj,) = kept.update(read(item("a", spec={"ports": [{"port": 81}, {"port": 0}]}))).values()
    assert [p.port for p in obj.spec.ports] == [81]  # type: ignore[union-attr]
    assert kept.update(read(item("a", spec=[]))) == {ref("a"): None}


def test_what_is_deleted_takes_its_problems_along() -> None:
    kept = store()
    kept.update({("default", "a"): Item(None, False, (Finding("spec", "wrong"),))})
    assert len(list(kept.problems())) == 1
    assert kept.update({("default", "a"): None}) == {}
    assert not list(kept.problems())
    kept.update({("default", "b"): Item(None, False, (Finding("spec", "wrong"),))})
    assert kept.replace({}) == {}
    assert not list(kept.problems())


def test_a_kind_that_goes_takes_all() -> None:
    kept = store()
    kept.replace(read(service("a"), service("b")))
    assert kept.clear() == {ref("a"): None, ref("b"): None}
    assert len(kept) == 0
