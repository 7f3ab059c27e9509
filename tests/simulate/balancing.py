"""Probabilities of priorities, localities and endpoints of a ClusterLoadAssignment.

Source: Envoy's documentation, "Priority levels", "Panic threshold", "Locality weighted load balancing" of
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing. Health is what the assignment
says: EDS is all that a control plane knows. For balancers that look at the load, or hash, the share is that of many
different requests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tests.simulate.fields import Message, at, items, number, text

OVERPROVISIONING = 140
PANIC = 50
_UNHEALTHY = frozenset({"UNHEALTHY", "DRAINING", "TIMEOUT"})


@dataclass(frozen=True, slots=True, eq=False)
class Host:
    """One endpoint of an assignment."""

    message: Message
    locality: tuple[str, str, str]
    priority: int
    locality_weight: int

    @property
    def weight(self) -> int:
        return number(self.message, "load_balancing_weight", 1)

    @property
    def health(self) -> str:
        return text(self.message, "health_status", "UNKNOWN")

    @property
    def metadata(self) -> Message:
        return at(self.message, "metadata", "filter_metadata")


@dataclass(frozen=True, slots=True)
class Policy:
    """What a cluster says about choosing."""

    overprovisioning: int = OVERPROVISIONING
    panic: int = PANIC
    by_locality: bool = False
    fail_traffic_on_panic: bool = False

    @staticmethod
    def of(cluster: Message, assignment: Message) -> "Policy":
        common = at(cluster, "common_lb_config")
        panic = at(common, "healthy_panic_threshold")
        return Policy(
            overprovisioning=number(at(assignment, "policy"), "overprovisioning_factor", OVERPROVISIONING),
            panic=int(float(panic.get("value", 0))) if "healthy_panic_threshold" in common else PANIC,
            by_locality="locality_weighted_lb_config" in common,
            fail_traffic_on_panic=bool(at(common, "zone_aware_lb_config").get("fail_traffic_on_panic")),
        )


def hosts_of(assignment: Message) -> tuple[Host, ...]:
    """All endpoints."""
    found: list[Host] = []
    for group in items(assignment, "endpoints"):
        place = at(group, "locality")
        locality = (text(place, "region"), text(place, "zone"), text(place, "sub_zone"))
        priority, weight = number(group, "priority"), number(group, "load_balancing_weight")
        found.extend(Host(endpoint, locality, priority, weight) for endpoint in items(group, "lb_endpoints"))
    return tuple(found)


def _percent(part: int, whole: int, factor: int) -> int:
    return min(100, factor * part // whole) if whole else 0


@dataclass(frozen=True, slots=True)
class Loads:
    """What each priority gets, in percent."""

    healthy: Mapping[int, int]
    degraded: Mapping[int, int]
    panicking: frozenset[int] = frozenset()
    """Priorities that use all their endpoints, whatever their health."""


def _is_usable(host: Host, degraded: bool) -> bool:
    return host.health not in _UNHEALTHY and (host.health == "DEGRADED") == degraded


def _distribute(load: int, health: Mapping[int, int], total: int) -> dict[int, int]:
    """As much as possible to the first priorities."""
    given: dict[int, int] = {}
    for priority in sorted(health):
        given[priority] = min(load, health[priority] * 100 // total)
        load -= given[priority]
    return given


def _panics(hosts: Sequence[Host], policy: Policy) -> bool:
    fit = sum(100 * sum(_is_usable(host, degraded) for host in hosts) // len(hosts) for degraded in (False, True))
    return fit < policy.panic


def _total_panic(groups: Mapping[int, Sequence[Host]]) -> Loads:
    """Every priority panics: the load follows the number of endpoints."""
    everyone = sum(map(len, groups.values()))
    loads = {priority: 100 * len(group) // everyone for priority, group in groups.items()}
    loads[min(loads)] += 100 - sum(loads.values())
    return Loads(loads, {}, frozenset(groups))


def priority_loads(hosts: Sequence[Host], policy: Policy) -> Loads:
    """How the load is divided. Healths are cut to whole percents, as Envoy cuts them."""
    groups = {p: [host for host in hosts if host.priority == p] for p in sorted({host.priority for host in hosts})}
    healths = []
    for degraded in (False, True):
        fit = {p: sum(_is_usable(host, degraded) for host in group) for p, group in groups.items()}
        healths.append({p: _percent(fit[p], len(group), policy.overprovisioning) for p, group in groups.items()})
    healthy, degraded_ = healths
    total = min(100, sum(healthy.values()) + sum(degraded_.values()))
    panicking = frozenset(p for p, group in groups.items() if _panics(group, policy)) if total < 100 else frozenset()
    if panicking == frozenset(groups):
        return _total_panic(groups)
    if not total:
        return Loads({min(groups): 100}, {})
    first = _distribute(100, healthy, total)
    second = _distribute(100 - sum(first.values()), degraded_, total)
    left = 100 - sum(first.values()) - sum(second.values())
    for loads, health in ((first, healthy), (second, degraded_)):
        available = next((p for p in sorted(health) if health[p]), None)
        if available is not None:
            loads[available] += left  # what rounding has left over
            break
    return Loads(first, second, panicking)


def _by_weight(hosts: Sequence[Host]) -> dict[Host, Fraction]:
    total = sum(host.weight for host in hosts)
    return {host: Fraction(host.weight, total) for host in hosts}


def _by_locality(usable: Sequence[Host], everyone: Sequence[Host], policy: Policy) -> dict[Host, Fraction]:
    """Locality weights times availability, then endpoint weights. Localities without weight get nothing."""
    own: dict[tuple[tuple[str, str, str], int], list[Host]] = {}
    for host in everyone:
        own.setdefault((host.locality, host.locality_weight), []).append(host)
    fit = {key: [host for host in group if host in usable] for key, group in own.items()}
    effective = {
        key: key[1] * min(Fraction(1), Fraction(policy.overprovisioning * len(fit[key]), 100 * len(group)))
        for key, group in own.items()
    }
    total = sum(effective.values())
    if not total:
        return _by_weight(usable)
    return {
        host: part * weight / total
        for key, weight in effective.items()
        if weight
        for host, part in _by_weight(fit[key]).items()
    }


def endpoint_shares(hosts: Sequence[Host], policy: Policy) -> list[tuple[Host, Fraction]]:
    """Every endpoint that may be chosen, with its probability.

    They sum to less than 1 where a part of the requests finds no endpoint, and there is none if none can be chosen.
    """
    if not hosts:
        return []
    loads = priority_loads(hosts, policy)
    shares: list[tuple[Host, Fraction]] = []
    for by_priority, degraded in ((loads.healthy, False), (loads.degraded, True)):
        for priority, load in by_priority.items():
            everyone = [host for host in hosts if host.priority == priority]
            usable = [host for host in everyone if _is_usable(host, degraded)]
            if priority in loads.panicking:
                divided = {} if policy.fail_traffic_on_panic else _by_weight(everyone)
            elif policy.by_locality:
                divided = _by_locality(usable, everyone, policy)
            else:
                divided = _by_weight(usable)
            shares.extend((host, share * Fraction(load, 100)) for host, share in divided.items() if share and load)
    return shares
