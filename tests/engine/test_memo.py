"""The memo: incremental always equals from scratch, and computes no more than what changed."""

from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pypilot.engine.memo import Memo
from pypilot.world.reader import Reader
from pypilot.world.world import World

# A toy world: the table "hosts" maps small integers to tuples; functions read it in ways that depend on what they read.


def world_of(buckets: dict[int, tuple[int, ...]]) -> World:
    return World(tables=MappingProxyType({"hosts": buckets}))


def leaf(reader: Reader, key: int) -> tuple[int, ...]:
    return tuple(sorted(set(reader.services_of(key))))  # type: ignore[arg-type, type-var]


def follow(reader: Reader, key: int, depth: int) -> int:
    """Reads what the values that it read name: dependencies change with the data."""
    found = reader.call(leaf, key)
    if depth == 0:
        return len(found)
    return sum(reader.call(follow, k % 6, depth - 1) for k in found) + (found[0] if found else 0)  # type: ignore[operator, call-overload, no-any-return]


def parity(reader: Reader, key: int) -> int:
    """Often equal though what it read changed: the cut-off."""
    return reader.call(follow, key, 2) % 2


def top(reader: Reader) -> tuple[int, ...]:
    return tuple(reader.call(parity, k) + reader.call(follow, k, 1) for k in range(6))


BUCKETS = st.dictionaries(st.integers(0, 5), st.lists(st.integers(0, 9), max_size=3).map(tuple))


@settings(max_examples=400, deadline=None)
@given(st.lists(BUCKETS, min_size=1, max_size=8), st.lists(st.booleans(), min_size=8, max_size=8))
def test_incremental_equals_from_scratch(worlds: list[dict[int, tuple[int, ...]]], released: list[bool]) -> None:
    memo = Memo(World())
    before: dict[int, tuple[int, ...]] = {}
    for buckets, release in zip(worlds, released, strict=False):
        # As `advance` does: an equal bucket stays the same object.
        world = world_of({k: before[k] if before.get(k) == v else v for k, v in buckets.items()})
        changed = [("hosts", k) for k in {*before, *buckets} if before.get(k) != buckets.get(k)]
        memo.advance(world, changed)
        before = dict(world.tables["hosts"])  # type: ignore[arg-type]
        assert memo.root(top) == top(Reader(world))
        if release:
            memo.release(top)
            assert memo.statistics()["entries"] == 0
            assert memo.statistics()["buckets"] == 0


def test_only_what_changed_is_computed() -> None:
    world = world_of({k: (k,) for k in range(6)})
    memo = Memo(world)
    first = memo.root(top)
    memo.computed.clear()
    assert memo.root(top) is first
    assert memo.computed.total() == 0
    memo.advance(world_of({**{k: world.tables["hosts"][k] for k in range(5)}, 5: (5, 5)}), [("hosts", 5)])
    assert memo.root(top) is first
    assert dict(memo.computed) == {"leaf": 1}  # the leaf came out equal: nothing above it ran


def test_empty_buckets_are_dependencies() -> None:
    memo = Memo(world_of({}))
    assert memo.root(leaf, 1) == ()
    memo.advance(world_of({1: (7,)}), [("hosts", 1)])
    assert memo.root(leaf, 1) == (7,)


def test_a_failed_computation_is_tried_again_and_leaves_nothing_behind() -> None:
    def fails(reader: Reader, key: int) -> tuple[int, ...]:
        found = reader.call(leaf, key)
        if not found:
            raise ValueError(key)
        return found

    memo = Memo(world_of({}))
    for _ in range(2):
        with pytest.raises(ValueError, match="1"):
            memo.root(fails, 1)
    assert memo.statistics()["entries"] == 0
    memo.advance(world_of({1: (1,)}), [("hosts", 1)])
    assert memo.root(fails, 1) == (1,)
    memo.advance(world_of({}), [("hosts", 1)])
    with pytest.raises(ValueError, match="1"):
        memo.root(fails, 1)
    memo.advance(world_of({1: (2,)}), [("hosts", 1)])
    assert memo.root(fails, 1) == (2,)


def test_a_call_that_needs_itself_is_refused() -> None:
    def loop(reader: Reader, key: int) -> int:
        return reader.call(loop, key)

    with pytest.raises(RecursionError, match="needs itself"):
        Memo(World()).root(loop, 1)


def test_provenance_names_every_bucket_that_was_read() -> None:
    memo = Memo(world_of({0: (1,), 1: (2,), 2: ()}))
    memo.root(follow, 0, 2)
    assert memo.provenance(follow, 0, 2) == {("hosts", 0), ("hosts", 1), ("hosts", 2)}
