"""Why routes are cheap: a change compiles only the virtual hosts that it touches, and views that agree share them."""

from typing import Any

import pytest

from pypilot.compile.routes.compose import compile_routes
from pypilot.engine.memo import Memo
from pypilot.kinds.base import Object
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.world import World
from tests.golden import node
from tests.world.objects import make, service

NAMESPACES = ("ns0", "ns1", "ns2")
SERVICES = 12


def rules(timeout: str, **spec: Any) -> Object:
    to = {"destination": {"host": "s1"}}
    return make(
        "VirtualService", "v", "ns1", spec={"hosts": ["s1"], "http": [{"timeout": timeout, "route": [to]}], **spec}
    )


class Mesh:
    def __init__(self) -> None:
        objects = [service(f"s{i}", NAMESPACES[i % 3]) for i in range(SERVICES)]
        self.world = advance(World(), Delta(upserts=(*objects, rules("1s"))))
        self.memo = Memo(self.world)
        # Two proxies a namespace; they differ in what routes do not depend on.
        self.proxies = [
            node({"namespace": n, "name": f"{n}-{i}", "ip": f"10.1.{i}.1", "metadata": {"NODE_NAME": f"node-{i}"}})
            for n in NAMESPACES
            for i in range(2)
        ]
        self.compile()

    def compile(self) -> None:
        self.sets = [self.memo.root(compile_routes, proxy) for proxy in self.proxies]

    def change(self, *upserts: Object) -> dict[str, int]:
        self.memo.computed.clear()
        self.world = advance(self.world, Delta(upserts=upserts))
        self.memo.advance(self.world, self.world.changed)
        self.compile()
        costly = ("compile_host", "compile_routes_of", "compile_port", "_assign")
        return {name: count for name, count in self.memo.computed.items() if name in costly}


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def test_each_host_is_compiled_twice_at_most(mesh: Mesh) -> None:
    # With and without the bare name that only its own namespace may use.
    assert mesh.memo.computed["compile_host"] == 2 * SERVICES
    assert mesh.memo.computed["compile_routes_of"] == 1
    assert len({id(found) for found in mesh.sets}) == len(NAMESPACES)


def test_changed_rules_cost_one_service(mesh: Mesh) -> None:
    made = mesh.change(rules("2s"))
    assert made == {"compile_routes_of": 1, "compile_host": 2, "compile_port": len(NAMESPACES)}


def test_rules_that_say_the_same_cost_no_configuration(mesh: Mesh) -> None:
    made = mesh.change(rules("1s", exportTo=["*"]))
    assert "compile_host" not in made
    assert "compile_port" not in made


def test_a_new_service_costs_its_own_host(mesh: Mesh) -> None:
    made = mesh.change(service("new", "ns2"))
    assert made["compile_host"] == 2
    assert "compile_routes_of" not in made


def test_a_service_on_another_port_leaves_the_configuration_as_it_is(mesh: Mesh) -> None:
    before = [found.get("80") for found in mesh.sets]
    made = mesh.change(service("new", "ns2", port=9090))
    assert made["compile_host"] == 2
    assert [found.get("80") for found in mesh.sets] == before
