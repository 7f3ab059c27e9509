"""What makes the compiler cheap: views that resolve alike share bytes, and a change costs only what it touches."""

from collections.abc import Iterable

import pytest

from pypilot.compile.clusters import compile_clusters
from pypilot.compile.endpoints import compile_endpoints
from pypilot.engine.memo import Memo
from pypilot.kinds.base import Object
from pypilot.wire.node import Proxy
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.world import World
from tests.golden import node
from tests.world.objects import endpoint_slice, make, pod, service

NAMESPACES = [f"ns{i}" for i in range(4)]
SERVICES = 12


def objects() -> Iterable[Object]:
    for i in range(SERVICES):
        namespace, name = NAMESPACES[i % 4], f"s{i}"
        yield service(name, namespace)
        yield pod(f"{name}-1", f"10.1.0.{i}", namespace, app=name)
        yield endpoint_slice(name, {f"{name}-1": f"10.1.0.{i}"}, namespace)


def sidecars() -> list[Proxy]:
    return [
        node({"namespace": NAMESPACES[i % 4], "name": f"s{i}-1", "ip": f"10.1.0.{i}", "labels": {"app": f"s{i}"}})
        for i in range(SERVICES)
    ]


class Mesh:
    def __init__(self) -> None:
        self.world = advance(World(), Delta(upserts=tuple(objects())))
        self.memo = Memo(self.world)
        self.compile()

    def compile(self) -> None:
        for proxy in sidecars():
            self.memo.root(compile_clusters, proxy)
            self.memo.root(compile_endpoints, proxy)

    def change(self, *upserts: Object) -> dict[str, int]:
        """How often the costly functions ran because of a change."""
        self.memo.computed.clear()
        self.world = advance(self.world, Delta(upserts=upserts))
        self.memo.advance(self.world, self.world.changed)
        self.compile()
        costly = ("service_clusters", "service_assignments", "inbound_resource")
        return {name: count for name, count in self.memo.computed.items() if name in costly}


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def test_each_service_is_compiled_once_for_all_namespaces(mesh: Mesh) -> None:
    assert mesh.memo.computed["service_clusters"] == SERVICES
    assert mesh.memo.computed["service_assignments"] == SERVICES
    outbound = {id(mesh.memo.root(compile_clusters, proxy).chunks[0]) for proxy in sidecars()}
    assert len(outbound) == 1
    assert len({id(mesh.memo.root(compile_endpoints, proxy)) for proxy in sidecars()}) == 1


def rule(namespace: str, **policy: object) -> Object:
    return make("DestinationRule", "r", namespace, spec={"host": "s1.ns1.svc.cluster.local", "trafficPolicy": policy})


def test_a_rule_costs_one_service(mesh: Mesh) -> None:
    made = mesh.change(rule("ns1", loadBalancer={"simple": "RANDOM"}))
    assert made == {"service_clusters": 1, "service_assignments": 1, "inbound_resource": 1}


def test_a_rule_of_a_client_namespace_is_one_more_variant(mesh: Mesh) -> None:
    """EDS-013."""
    assert mesh.change(rule("ns2", loadBalancer={"simple": "RANDOM"})) == {
        "service_clusters": 1,
        "service_assignments": 1,
    }
    chunks = {p.namespace: id(mesh.memo.root(compile_clusters, p).chunks[0]) for p in sidecars()}
    assert chunks["ns0"] == chunks["ns1"] == chunks["ns3"] != chunks["ns2"]


def test_an_endpoint_costs_one_service_and_changes_no_cluster(mesh: Mesh) -> None:
    """EDS-012."""
    before = mesh.memo.root(compile_clusters, sidecars()[0])
    moved = (pod("s1-1", "10.2.0.1", "ns1", app="s1"), endpoint_slice("s1", {"s1-1": "10.2.0.1"}, "ns1"))
    assert mesh.change(*moved)["service_assignments"] == 1
    assert mesh.memo.root(compile_clusters, sidecars()[0]).chunks[0] is before.chunks[0]


def test_routes_do_not_touch_clusters(mesh: Mesh) -> None:
    spec = {"hosts": ["s1"], "http": [{"route": [{"destination": {"host": "s1"}}]}]}
    assert mesh.change(make("VirtualService", "v", "ns1", spec=spec)) == {}


def test_only_services_with_a_locality_policy_differ_by_locality(mesh: Mesh) -> None:
    """EDS-007, EDS-013."""
    mesh.change(rule("ns1", outlierDetection={}))
    mesh.memo.computed.clear()
    places = [node({"namespace": "ns0", "name": f"x{i}", "ip": f"10.9.0.{i}"} | {"metadata": {}}) for i in range(2)]
    far = [make("Node", f"n{i}", "", labels={"topology.kubernetes.io/region": f"r{i}"}) for i in range(2)]
    pods = [make("Pod", f"x{i}", "ns0", spec={"nodeName": f"n{i}"}, status={"podIP": f"10.9.0.{i}"}) for i in range(2)]
    mesh.change(*far, *pods)
    mesh.memo.computed.clear()
    for place in places:
        mesh.memo.root(compile_endpoints, place)
    assert mesh.memo.computed["service_assignments"] == 2, "s1 once for each region, and nothing else"
