"""The engine's loop: debounce, feeds, last good, problems. Real event loop, no real time is asserted."""

import asyncio

import pytest

from pypilot.engine.loop import CompileFailedError, Debounce, Engine
from pypilot.kinds.base import Origin
from pypilot.wire.node import Proxy, parse_node
from pypilot.wire.resource import Chunk, Resource, ResourceSet
from pypilot.world import advance as advance_module
from pypilot.world.delta import Delta, Problem
from pypilot.world.reader import Reader
from tests.world.objects import make, service

TYPE = "type.example/Thing"
PROXY = parse_node({"id": "sidecar~10.0.0.1~a.default~default.svc.cluster.local"})


def hosts(reader: Reader, proxy: Proxy) -> ResourceSet:
    """One resource a visible service; a service named `bug` breaks the function."""
    keys = reader.public_services()
    if any(key.hostname.startswith("bug.") for key in keys):
        raise ZeroDivisionError
    return ResourceSet((Chunk(Resource.of(k.hostname, TYPE, k.namespace.encode()) for k in keys),))


def names(found: ResourceSet) -> list[str]:
    return [r.name.partition(".")[0] for r in found]


async def test_a_burst_is_published_once_and_wakes_each_feed() -> None:
    engine = Engine({TYPE: hosts}, debounce=Debounce(quiet=0.02, longest=5))
    woken: list[str] = []
    done = asyncio.Event()
    feed = engine.open(PROXY, lambda: (woken.append("x"), done.set()))
    assert not engine.is_ready
    for name in "abc":
        engine.apply(Delta(upserts=(service(name),)))
    await asyncio.wait_for(done.wait(), 10)
    assert engine.is_ready
    assert (engine.statistics().publishes, len(woken)) == (1, 1)
    assert names(feed.current(TYPE)) == ["a", "b", "c"]


async def test_a_constant_stream_of_changes_cannot_delay_for_ever() -> None:
    engine = Engine({TYPE: hosts}, debounce=Debounce(quiet=60, longest=0.05))
    done = asyncio.Event()
    engine.open(PROXY, done.set)

    async def keep_changing() -> None:
        for number in range(10_000):
            engine.apply(Delta(upserts=(service("a", port=number % 60_000 + 1),)))
            await asyncio.sleep(0.005)

    changing = asyncio.create_task(keep_changing())
    await asyncio.wait_for(done.wait(), 30)
    assert not changing.done()
    changing.cancel()


async def test_an_equal_change_wakes_nobody_and_keeps_the_same_set() -> None:
    engine = Engine({TYPE: hosts})
    engine.apply(Delta(upserts=(service("a"),)))
    engine.publish()
    woken: list[int] = []
    feed = engine.open(PROXY, lambda: woken.append(1))
    before = feed.current(TYPE)
    engine.apply(Delta(upserts=(service("a"),)))
    engine.publish()
    assert woken == []
    engine.apply(Delta(upserts=(make("Pod", "p"),)))
    engine.publish()
    assert woken == [1]
    assert feed.current(TYPE) is before


async def test_a_failing_compile_keeps_the_last_good_set_and_says_so() -> None:
    engine = Engine({TYPE: hosts})
    engine.apply(Delta(upserts=(service("a"),)))
    engine.publish()
    feed = engine.open(PROXY, lambda: None)
    assert names(feed.current(TYPE)) == ["a"]
    engine.apply(Delta(upserts=(service("bug"),)))
    engine.publish()
    assert names(feed.current(TYPE)) == ["a"]
    with pytest.raises(CompileFailedError):  # a proxy that has nothing yet gets nothing, not an empty set
        engine.open(PROXY, lambda: None).current(TYPE)
    assert [p.code for p in engine.problems()] == ["compile-failed"]
    engine.apply(Delta(removals=(service("bug").ref,), upserts=(service("b"),)))
    engine.publish()
    assert names(feed.current(TYPE)) == ["a", "b"]
    assert engine.problems() == ()


async def test_an_object_that_breaks_the_world_is_left_out_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    real = advance_module.convert_service

    def convert(obj, *args):  # type: ignore[no-untyped-def]
        if obj.name == "bad":
            raise KeyError("x")
        return real(obj, *args)

    monkeypatch.setattr(advance_module, "convert_service", convert)
    engine = Engine({TYPE: hosts})
    engine.apply(Delta(upserts=(service("a"), service("bad"), service("b"))))
    engine.publish()
    assert names(engine.compile_for(PROXY)[TYPE]) == ["a", "b"]
    assert [p.ref.name for p in engine.problems() if p.ref] == ["bad"]


async def test_what_a_proxy_used_is_kept_for_its_return() -> None:
    engine = Engine({TYPE: hosts}, linger=600)
    engine.apply(Delta(upserts=(service("a"),)))
    engine.publish()
    feed = engine.open(PROXY, lambda: None)
    before = feed.current(TYPE)
    feed.close()
    assert engine.open(PROXY, lambda: None).current(TYPE) is before
    assert engine.statistics().computed["hosts"] == 1


async def test_closing_the_last_feed_of_a_proxy_empties_the_memo() -> None:
    engine = Engine({TYPE: hosts}, linger=0)
    engine.apply(Delta(upserts=(service("a"),)))
    engine.publish()
    feeds = [engine.open(PROXY, lambda: None) for _ in range(2)]
    for feed in feeds:
        feed.current(TYPE)
    assert engine.statistics().views == 1
    feeds[0].close()
    feeds[0].close()
    assert engine.statistics().memo_entries > 0
    feeds[1].close()
    assert (engine.statistics().memo_entries, engine.statistics().feeds) == (0, 0)


async def test_problems_know_where_their_object_came_from() -> None:
    broken = make("ConfigMap", "istio", "istio-system", data={"mesh": "["})
    engine = Engine({TYPE: hosts})
    engine.apply(
        Delta(upserts=(broken,), origins={broken.ref: Origin("mesh.yaml", 3)}),
        source="files",
        problems=[Problem("elsewhere", origin=Origin("b.yaml", 1))],
    )
    engine.publish()
    assert sorted(str(p.origin) for p in engine.problems()) == ["b.yaml:1", "mesh.yaml:3"]
    engine.apply(Delta(), source="files", problems=[])
    assert [str(p.origin) for p in engine.problems()] == ["mesh.yaml:3"]
