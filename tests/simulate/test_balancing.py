"""Priorities, panic and localities by the tables and formulas of Envoy's documentation ("Load balancing")."""

from fractions import Fraction
from typing import Any

import pytest

from tests.simulate.balancing import Policy, endpoint_shares, hosts_of, priority_loads


def assignment(*groups: tuple[int, str, int, list[str]]) -> dict[str, Any]:
    """Groups of (priority, zone, weight, healths)."""
    return {
        "endpoints": [
            {
                "priority": priority,
                "locality": {"zone": zone},
                "load_balancing_weight": weight,
                "lb_endpoints": [{"health_status": health} for health in healths],
            }
            for priority, zone, weight, healths in groups
        ]
    }


def healthy(percent: int, of: int = 100) -> list[str]:
    good = of * percent // 100
    return ["HEALTHY"] * good + ["UNHEALTHY"] * (of - good)


NO_PANIC = Policy(panic=0)


@pytest.mark.parametrize(
    ("healths", "loads"),
    [
        ([100, 100], [100, 0]),
        ([72, 72], [100, 0]),
        ([71, 71], [99, 1]),
        ([50, 50], [70, 30]),
        ([25, 100], [35, 65]),
        ([0, 100], [0, 100]),
        ([25, 25], [50, 50]),
        ([5, 0, 95], [7, 0, 93]),
        ([20, 20, 10], [40, 40, 20]),
    ],
)
def test_load_of_priorities(healths: list[int], loads: list[int]) -> None:
    hosts = hosts_of(assignment(*((i, "", 1, healthy(health)) for i, health in enumerate(healths))))
    found = priority_loads(hosts, NO_PANIC)
    assert [found.healthy[i] for i in range(len(healths))] == loads
    assert sum(found.healthy.values()) == 100


def test_degraded_endpoints_get_what_healthy_ones_leave() -> None:
    hosts = hosts_of(assignment((0, "", 1, ["HEALTHY"] * 2 + ["DEGRADED"] * 8)))
    found = priority_loads(hosts, NO_PANIC)
    assert (found.healthy[0], found.degraded[0]) == (28, 72)


@pytest.mark.parametrize(
    ("healths", "panicking", "loads"),
    [
        ([72, 72], set(), [100, 0]),
        ([71, 71], set(), [99, 1]),
        ([25, 100], set(), [35, 65]),  # together they can take everything: no panic
        ([10, 60], {0}, [14, 85]),
        ([5, 5], {0, 1}, [50, 50]),
    ],
)
def test_panic(healths: list[int], panicking: set[int], loads: list[int]) -> None:
    hosts = hosts_of(assignment(*((i, "", 1, healthy(health)) for i, health in enumerate(healths))))
    found = priority_loads(hosts, Policy())
    assert found.panicking == panicking
    assert [found.healthy[i] for i in (0, 1)] == pytest.approx(loads, abs=1)


def test_in_panic_the_unhealthy_are_used_too() -> None:
    shares = endpoint_shares(hosts_of(assignment((0, "", 1, ["UNHEALTHY"] * 4))), Policy())
    assert [share for _, share in shares] == [Fraction(1, 4)] * 4


def test_without_panic_nothing_is_left() -> None:
    assert endpoint_shares(hosts_of(assignment((0, "", 1, ["UNHEALTHY"] * 4))), NO_PANIC) == []


@pytest.mark.parametrize(
    ("east", "west"),
    [
        ([100, 1], [100, 2]),
        ([100, 1], [50, 2]),
        ([50, 1], [50, 2]),
        ([0, 1], [100, 2]),
    ],
)
def test_localities_share_by_weight_and_availability(east: list[int], west: list[int]) -> None:
    (good_east, weight_east), (good_west, weight_west) = east, west
    hosts = hosts_of(
        assignment((0, "east", weight_east, healthy(good_east)), (0, "west", weight_west, healthy(good_west)))
    )
    shares = endpoint_shares(hosts, Policy(panic=0, by_locality=True))
    available = [min(Fraction(1), Fraction(140 * good, 10_000)) for good in (good_east, good_west)]
    effective = [weight_east * available[0], weight_west * available[1]]
    for zone, weight in (("east", effective[0]), ("west", effective[1])):
        part = sum(share for host, share in shares if host.locality[1] == zone)
        assert part == weight / sum(effective)


def test_endpoint_weights_count_within_a_priority() -> None:
    message = assignment((0, "", 1, ["HEALTHY", "HEALTHY"]))
    message["endpoints"][0]["lb_endpoints"][0]["load_balancing_weight"] = 3
    assert [share for _, share in endpoint_shares(hosts_of(message), Policy())] == [Fraction(3, 4), Fraction(1, 4)]


def test_a_policy_is_read_from_cluster_and_assignment() -> None:
    cluster: dict[str, Any] = {"common_lb_config": {"healthy_panic_threshold": {}, "locality_weighted_lb_config": {}}}
    assert Policy.of(cluster, {"policy": {"overprovisioning_factor": 100}}) == Policy(100, 0, True)
    assert Policy.of({}, {}) == Policy(140, 50, False)
