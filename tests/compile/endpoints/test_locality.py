from typing import Any

import pytest

from pypilot.compile.endpoints.locality import apply_locality_policy, covers, group_by_locality
from pypilot.compile.locality_policy import LocalityPolicy, locality_policy
from pypilot.compile.place import NOWHERE, Needs, Place, endpoint_label
from pypilot.kinds.destination_rule import (
    LoadBalancerSettings,
    LocalityDistribute,
    LocalityFailover,
    LocalityLoadBalancerSetting,
    ZoneAwareLoadBalancerSetting,
)
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.wire.node import Locality
from pypilot.world.endpoints import parse_locality
from pypilot.world.model import Endpoint, MeshService
from tests.world.objects import service


def endpoint(where: str, weight: int = 0, network: str = "", node: str = "", **labels: str) -> Endpoint:
    return Endpoint(
        f"{where}-{len(labels)}{node}{network}",
        (("http", 80),),
        tuple(labels.items()),
        locality=parse_locality(where),
        weight=weight,
        network=network,
        node_name=node,
    )


def at(text: str, **labels: str) -> Place:
    return Place(parse_locality(text), tuple(labels.items()))


def outcome(
    endpoints: list[Endpoint], place: Place, outlier: bool = True, policy: LocalityPolicy | None = None, **setting: Any
) -> dict[str, list[tuple[int, int, int]]]:
    """Locality -> (priority, weight, endpoints) of its groups."""
    policy = policy or LocalityPolicy(LocalityLoadBalancerSetting(**setting))
    found: dict[str, list[tuple[int, int, int]]] = {}
    for group in apply_locality_policy(group_by_locality(endpoints), place, policy, outlier):
        found.setdefault(str(group.locality), []).append((group.priority, group.weight, len(group.endpoints)))
    return found


@pytest.mark.parametrize(
    ("pattern", "locality", "expected"),
    [
        ("*", "r/z/s", True),
        ("r", "r/z/s", True),
        ("r/*", "r/z/s", True),
        ("r/z/*", "r/z", True),
        ("r/z/s", "r/z", False),
        ("r/y", "r/z/s", False),
        ("q", "r/z/s", False),
        ("", "r/z", False),
        ("", "", True),
        ("*/z", "q/z", True),
    ],
)
def test_locality_patterns(pattern: str, locality: str, expected: bool) -> None:
    assert covers(pattern, parse_locality(locality)) is expected


EVERYWHERE = [endpoint(w) for w in ("r1/z1/s1", "r1/z1/s2", "r1/z2", "r2/z1", "r3/z1")]


@pytest.mark.parametrize(
    ("place", "rules", "priorities"),
    [
        ("r1/z1/s1", [], [0, 1, 2, 3, 3]),
        ("r1/z1/s1", [("r1", "r3")], [0, 1, 2, 4, 3]),
        ("r1/z1/s1", [("r2", "r3")], [0, 1, 2, 3, 3]),
        ("r2/z1", [("r2", "r1")], [1, 1, 1, 0, 2]),
        ("r9/z", [], [0, 0, 0, 0, 0]),
        ("", [], [0, 0, 0, 0, 0]),
    ],
)
def test_failover(place: str, rules: list[tuple[str, str]], priorities: list[int]) -> None:
    """DR-052: numbers without gaps."""
    failover = tuple(LocalityFailover(from_=a, to=b) for a, b in rules)
    made = outcome(EVERYWHERE, at(place), failover=failover)
    assert [groups[0][0] for groups in made.values()] == priorities
    assert {p for groups in outcome(EVERYWHERE, at(place), outlier=False).values() for p, _, _ in groups} == {0}


def test_distribute() -> None:
    """DR-051: shares follow the weights of localities that one entry covers; the first matching `from` counts."""
    endpoints = [endpoint("r1/z1", 3), endpoint("r1/z2", 1), endpoint("r2/z1", 5), endpoint("r3/z1")]
    rules = (
        LocalityDistribute(from_="r9", to={"*": 1}),
        LocalityDistribute(from_="r1/*", to={"r1/*": 90, "r2": 10}),
        LocalityDistribute(from_="*", to={"*": 100}),
    )
    made = outcome(endpoints, at("r1/z1"), outlier=False, distribute=rules)
    assert made == {"r1/z1": [(0, 68, 1)], "r1/z2": [(0, 23, 1)], "r2/z1": [(0, 10, 1)], "r3/z1": [(0, 1, 0)]}
    assert outcome(endpoints, at("r8"), distribute=rules[:2]) == outcome(endpoints, at("r8"), outlier=False)


def test_failover_by_labels() -> None:
    """DR-053: groups split by how many leading labels agree."""
    endpoints = [endpoint("r1/z1", tier="gold"), endpoint("r1/z1", 4), endpoint("r2/z1", tier="gold")]
    priority = ("tier=gold", "topology.kubernetes.io/region")
    here = Place(labels=(("topology.kubernetes.io/region", "r1"),))
    made = outcome(endpoints, here, failover_priority=priority)
    assert made == {"r1/z1": [(0, 1, 1), (2, 4, 1)], "r2/z1": [(1, 1, 1)]}
    named = outcome(endpoints, at("", tier="silver"), failover_priority=("tier", "version"))
    assert {p for groups in named.values() for p, _, _ in groups} == {0}


def test_other_networks_come_last_but_in_order() -> None:
    names = ("topology.istio.io/network", "tier")
    endpoints = [endpoint("r/z", network=n, tier=t) for n in ("here", "there") for t in ("gold", "silver")]
    place = Place(labels=(("tier", "gold"), ("topology.istio.io/network", "here")))
    assert outcome(endpoints, place, failover_priority=names) == {"r/z": [(0, 1, 1), (1, 1, 1), (2, 1, 1), (3, 1, 1)]}


def test_labels_and_then_regions() -> None:
    endpoints = [endpoint("r1/z1", tier="gold"), endpoint("r2/z1", tier="gold"), endpoint("r1/z1", tier="silver")]
    rules = (LocalityFailover(from_="r1", to="r2"),)
    made = outcome(endpoints, at("r1/z1", tier="gold"), failover_priority=("tier",), failover=rules)
    assert made == {"r1/z1": [(0, 1, 1), (2, 1, 1)], "r2/z1": [(1, 1, 1)]}


def test_zone_aware_keeps_regions_apart() -> None:
    policy = LocalityPolicy(zone_aware=ZoneAwareLoadBalancerSetting(), forces_failover=True)
    made = outcome(EVERYWHERE, at("r1/z1/s1"), outlier=False, policy=policy)
    assert [groups[0][0] for groups in made.values()] == [0, 0, 0, 1, 1]
    off = LocalityPolicy(zone_aware=ZoneAwareLoadBalancerSetting(enabled=False))
    assert {p for groups in outcome(EVERYWHERE, at("r1"), policy=off).values() for p, _, _ in groups} == {0}


def test_topology_labels_come_from_the_place() -> None:
    one = endpoint("r/z/s", node="n1", network="net", **{"topology.kubernetes.io/zone": "stated"})
    keys = ("region", "zone", "subzone", "cluster", "network", "hostname", "other")
    full = [
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "topology.istio.io/subzone",
        "topology.istio.io/cluster",
        "topology.istio.io/network",
        "kubernetes.io/hostname",
        "other",
    ]
    found = dict(zip(keys, (endpoint_label(one, key) for key in full), strict=True))
    assert found == {
        "region": "r",
        "zone": "z",
        "subzone": "s",
        "cluster": "Kubernetes",
        "network": "net",
        "hostname": "n1",
        "other": "",
    }


def mesh_service(distribution: str = "") -> MeshService:
    from pypilot.world.services import convert_service

    made = service("a", spec={"trafficDistribution": distribution} if distribution else {})
    return convert_service(made, "cluster.local", "cluster.local")  # type: ignore[arg-type]


OWN = LocalityLoadBalancerSetting(failover_priority=("own",))
MESH = MeshConfig(locality_lb_setting=LocalityLoadBalancerSetting(failover_priority=("mesh",)))


@pytest.mark.parametrize(
    ("own", "distribution", "mesh", "first_label", "forces"),
    [
        (None, "", MeshConfig(), None, False),
        (None, "", MESH, "mesh", False),
        (None, "PreferClose", MESH, "topology.istio.io/network", True),
        (None, "PreferSameNode", MESH, "topology.istio.io/network", True),
        (None, "Unheard", MESH, "mesh", False),
        (OWN, "PreferClose", MESH, "own", False),
        (LocalityLoadBalancerSetting(enabled=False), "PreferClose", MESH, "nothing", False),
        (None, "", MeshConfig(locality_lb_setting=LocalityLoadBalancerSetting(enabled=False)), "nothing", False),
    ],
)
def test_whose_policy_holds(
    own: LocalityLoadBalancerSetting | None, distribution: str, mesh: MeshConfig, first_label: str | None, forces: bool
) -> None:
    """DR-050."""
    made = locality_policy(mesh_service(distribution), LoadBalancerSettings(locality_lb_setting=own), mesh)
    assert made.forces_failover is forces
    if first_label == "nothing":
        assert made.locality is None
    else:
        assert made.locality is not None
        assert (made.locality.failover_priority[:1] or (None,))[0] == first_label


def test_a_place_shrinks_to_what_matters() -> None:
    place = Place(Locality("r", "z"), (("a", "1"), ("b", "2")), "n")
    assert Needs().of(place) == NOWHERE
    needs = Needs(locality=True) | Needs(labels=frozenset({"b"})) | Needs(node=True)
    assert needs.of(place) == Place(Locality("r", "z"), (("b", "2"),), "n")
