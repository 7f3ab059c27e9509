"""What makes listeners cheap: sidecars share all that does not name a workload, and a change costs what it touches."""

from collections.abc import Iterable

import pytest

from pypilot.compile.listeners import compile_listeners
from pypilot.compile.name_table import compile_name_table
from pypilot.engine.memo import Memo
from pypilot.kinds.base import Object
from pypilot.wire.node import Proxy
from pypilot.wire.resource import ResourceSet
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.world import World
from tests.golden import node
from tests.world.objects import endpoint_slice, make, pod, service

NAMESPACES = [f"ns{i}" for i in range(3)]
SERVICES = 9
COSTLY = ("tcp_listener", "http_listener", "virtual_inbound", "virtual_outbound", "connect_originate")


def ports(number: int) -> list[dict[str, object]]:
    return [{"name": "http", "port": 80}, {"name": "tcp", "port": 9000 + number}]


def objects() -> Iterable[Object]:
    for i in range(SERVICES):
        namespace, name = NAMESPACES[i % 3], f"s{i}"
        named = {"service.istio.io/canonical-name": name}
        yield service(name, namespace, spec={"clusterIP": f"10.0.0.{i + 1}", "ports": ports(0)})
        yield pod(f"{name}-1", f"10.1.0.{i}", namespace, app=name, **named)
        yield pod(f"{name}-2", f"10.1.1.{i}", namespace, app=name, **named)
        yield endpoint_slice(name, {f"{name}-1": f"10.1.0.{i}"}, namespace)


def sidecar(i: int, replica: int = 0) -> Proxy:
    name = f"s{i}"
    labels = {"app": name, "service.istio.io/canonical-name": name}
    where = {"namespace": NAMESPACES[i % 3], "name": f"{name}-{replica + 1}", "ip": f"10.1.{replica}.{i}"}
    return node({**where, "labels": labels})


class Mesh:
    def __init__(self, *more: Object) -> None:
        self.world = advance(World(), Delta(upserts=(*objects(), *more)))
        self.memo = Memo(self.world)
        self.compile()

    def compile(self) -> list[ResourceSet]:
        return [self.memo.root(compile_listeners, sidecar(i)) for i in range(SERVICES)]

    def change(self, *upserts: Object) -> dict[str, int]:
        """How often the costly functions ran because of a change."""
        self.memo.computed.clear()
        self.world = advance(self.world, Delta(upserts=upserts))
        self.memo.advance(self.world, self.world.changed)
        self.compile()
        return {name: count for name, count in self.memo.computed.items() if name in COSTLY}


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def test_listeners_of_bytes_are_compiled_once_for_all(mesh: Mesh) -> None:
    assert mesh.memo.computed["tcp_listener"] == SERVICES
    assert mesh.memo.computed["virtual_outbound"] == 1
    assert mesh.memo.computed["http_listener"] == SERVICES
    assert mesh.memo.computed["virtual_inbound"] == SERVICES
    first, *others = mesh.compile()
    for other in others:
        assert other.chunks[0] == first.chunks[0]
        for name, resource in first.chunks[0].resources.items():
            assert other.chunks[0].resources[name] is resource


def test_replicas_and_neighbours_share_chunks(mesh: Mesh) -> None:
    one = mesh.memo.root(compile_listeners, sidecar(0))
    replica = mesh.memo.root(compile_listeners, sidecar(0, replica=1))
    neighbour = mesh.memo.root(compile_listeners, sidecar(3))
    assert [a is b for a, b in zip(one.chunks, replica.chunks, strict=True)] == [True, True, True]
    assert [a is b for a, b in zip(one.chunks, neighbour.chunks, strict=True)] == [True, True, False]


def test_changes_that_listeners_do_not_know_cost_nothing(mesh: Mesh) -> None:
    route = {"destination": {"host": "s1.ns1.svc.cluster.local"}}
    routes = make(
        "VirtualService", "v", "ns0", spec={"hosts": ["s1.ns1.svc.cluster.local"], "http": [{"route": [route]}]}
    )
    assert mesh.change(routes) == {}
    assert mesh.change(endpoint_slice("s1", {"s1-1": "10.1.9.9"}, "ns1")) == {}
    labels = {"host": "s1", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}
    assert mesh.change(make("DestinationRule", "r", "ns1", spec=labels)) == {"tcp_listener": 1}


def test_a_new_service_compiles_its_own_listener(mesh: Mesh) -> None:
    new = service("new", "ns1", spec={"clusterIP": "10.0.0.99", "ports": ports(1)})
    assert mesh.change(new) == {"tcp_listener": 1}


def test_a_rule_compiles_the_listener_of_its_host(mesh: Mesh) -> None:
    def rule(seconds: int) -> Object:
        policy = {"connectionPool": {"tcp": {"idleTimeout": f"{seconds}s"}}}
        return make("DestinationRule", "r", "ns1", spec={"host": "s1", "trafficPolicy": policy})

    mesh.change(rule(1))
    assert mesh.change(rule(2)) == {"tcp_listener": 1}


def test_a_tcp_route_compiles_the_listener_of_its_host(mesh: Mesh) -> None:
    def routes(subset: str) -> Object:
        route = {"destination": {"host": "s1", "subset": subset}}
        return make("VirtualService", "v", "ns1", spec={"hosts": ["s1"], "tcp": [{"route": [route]}]})

    mesh.change(routes("v1"))
    assert mesh.change(routes("v2")) == {"tcp_listener": 1}


@pytest.mark.parametrize(("protocol", "listeners"), [("http", {}), ("tcp", {"tcp_listener": 1})])
def test_a_pod_of_a_headless_service_costs_listeners_where_it_has_one(protocol: str, listeners: dict[str, int]) -> None:
    """KSVC-030: of an HTTP port only its name's addresses are new."""
    headless = service("db", "ns0", spec={"clusterIP": "None", "ports": [{"name": protocol, "port": 5432}]})
    mesh = Mesh(headless, pod("db-0", "10.2.0.1", "ns0"), endpoint_slice("db", {"db-0": "10.2.0.1"}, "ns0", protocol))
    names = mesh.memo.root(compile_name_table, sidecar(1))
    both = endpoint_slice("db", {"db-0": "10.2.0.1", "db-1": "10.2.0.2"}, "ns0", protocol)
    assert mesh.change(pod("db-1", "10.2.0.2", "ns0"), both) == listeners
    assert mesh.memo.root(compile_name_table, sidecar(1)) != names


def test_pods_of_headless_services_lack_their_own_listener_alone() -> None:
    headless = service("db", "ns0", spec={"clusterIP": "None", "ports": [{"name": "tcp", "port": 5432}]})
    slices = make(
        "EndpointSlice",
        "db-1",
        "ns0",
        labels={"kubernetes.io/service-name": "db"},
        addressType="IPv4",
        endpoints=[{"addresses": ["10.1.0.0"]}, {"addresses": ["10.1.0.3"]}],
        ports=[{"name": "tcp", "port": 5432}],
    )
    mesh = Mesh(headless, slices)
    everything = {"10.1.0.0_5432", "10.1.0.3_5432"}
    compiled = mesh.compile()
    assert [set(c.chunks[1].resources) for c in compiled[:4]] == [
        {"10.1.0.3_5432"},
        everything,
        everything,
        {"10.1.0.0_5432"},
    ]
    assert compiled[1].chunks[1] == compiled[2].chunks[1]
    assert mesh.memo.computed["tcp_listener"] == SERVICES + 2
