"""How long compiling takes: everything from nothing, and again after one change. One process, no network."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.world import JsonObject, endpoint_slice, envoy_filter, sidecar_nodes, virtual_service, world_objects
from pypilot.compile.generators import GENERATORS
from pypilot.engine.memo import Memo
from pypilot.kinds import kind_of
from pypilot.kinds.base import Object
from pypilot.kinds.parse import parse_object
from pypilot.wire.node import Proxy, parse_node
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.world import World

Row = tuple[str, str]


def parse(data: JsonObject) -> Object:
    """One object of the synthetic world."""
    kind = kind_of(data["apiVersion"], data["kind"])
    assert kind is not None, data["kind"]
    parsed = parse_object(kind, data)
    assert parsed.object is not None, parsed.findings
    return parsed.object


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    value = function()
    return (time.perf_counter() - start) * 1000, value


def _compile(memo: Memo, proxies: list[Proxy]) -> int:
    return sum(len(memo.root(generator, proxy)) for proxy in proxies for generator in GENERATORS.values())


class _Bench:
    def __init__(self, objects: list[JsonObject]) -> None:
        self.objects = {(o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o for o in objects}
        self.world = World()
        self.memo = Memo(self.world)

    def apply(self, *changed: Object) -> None:
        self.world = advance(self.world, Delta(upserts=changed))
        self.memo.advance(self.world, self.world.changed)

    def change(self, data: JsonObject, proxies: list[Proxy]) -> tuple[float, int]:
        """Milliseconds from a parsed object to all resources of the proxies, and compile functions that ran."""
        changed = parse(data)
        self.memo.computed.clear()

        def step() -> None:
            self.apply(changed)
            _compile(self.memo, proxies)

        spent, _ = _timed(step)
        return spent, self.memo.computed.total()


def compile_rows(services: int = 1000, endpoints: int = 5, namespaces: int = 10) -> Iterator[Row]:
    """The figures, as (what, value)."""
    objects = world_objects(services, endpoints, namespaces)
    spent, parsed = _timed(lambda: [parse(o) for o in objects])
    yield f"parse {len(parsed)} objects", f"{spent:.0f} ms"
    bench = _Bench(objects)
    spent, _ = _timed(lambda: bench.apply(*parsed))
    yield "advance the world over them", f"{spent:.0f} ms"
    proxies = [parse_node(n) for n in sidecar_nodes(objects, 500)]
    spent, count = _timed(lambda: _compile(bench.memo, proxies[:1]))
    yield f"compile {count} resources of one sidecar from nothing", f"{spent:.0f} ms"
    spent, _ = _timed(lambda: _compile(bench.memo, proxies))
    yield "compile the other 499 sidecars (10 namespaces, 3 zones)", f"{spent:.0f} ms"
    one = bench.objects["EndpointSlice", "ns3", "svc13-s"]["endpoints"][1:]
    for label, watchers in (("one sidecar", proxies[:1]), ("500 sidecars", proxies)):
        if watchers is not proxies:
            bench = _Bench(objects)
            bench.apply(*parsed)
            _compile(bench.memo, watchers)
        else:
            _compile(bench.memo, proxies)
        spent, ran = bench.change(endpoint_slice("svc13", "ns3", one), watchers)
        yield f"one endpoint less, {label}", f"{spent:.1f} ms, {ran} functions ran"
        spent, ran = bench.change(virtual_service("svc15", "ns5", 50), watchers)
        yield f"one VirtualService changed, {label}", f"{spent:.1f} ms, {ran} functions ran"
        bench.change(bench.objects["EndpointSlice", "ns3", "svc13-s"], watchers)
        bench.change(bench.objects["VirtualService", "ns5", "svc15"], watchers)
    yield from _patched_rows(objects, proxies)


def _patched_rows(objects: list[JsonObject], proxies: list[Proxy]) -> Iterator[Row]:
    """The same without and with an EnvoyFilter that patches some of everything that everybody gets."""
    one, others, change = [], [], []
    for added in ([], [envoy_filter()]):
        bench = _Bench([*objects, *added])
        bench.apply(*(parse(o) for o in bench.objects.values()))
        one.append(f"{_timed(lambda bench=bench: _compile(bench.memo, proxies[:1]))[0]:.0f} ms")  # type: ignore[misc]
        others.append(f"{_timed(lambda bench=bench: _compile(bench.memo, proxies))[0]:.0f} ms")  # type: ignore[misc]
        change.append(f"{bench.change(virtual_service('svc15', 'ns5', 50), proxies)[0]:.1f} ms")
        del bench  # what is alive is looked through by the collector of garbage, again and again
    yield "one sidecar without, with EnvoyFilters for everything", ", ".join(one)
    yield "the other 499 likewise", ", ".join(others)
    yield "one VirtualService changed likewise, 500 sidecars", ", ".join(change)
