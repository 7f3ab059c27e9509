"""Priorities and weights of localities as seen from one place: failover, failoverPriority, distribute (DR-051…055).

Works on lists of `LocalityGroup`, before any message is built.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import ceil

from pypilot.compile.locality_policy import NETWORK_LABEL, LocalityPolicy
from pypilot.compile.place import Place, endpoint_label, label_name
from pypilot.kinds.destination_rule import LocalityDistribute, LocalityFailover
from pypilot.wire.node import Locality
from pypilot.world.model import Endpoint

_FAILOVER_LEVELS = 5
_ZONE_AWARE_LEVELS = 3


@dataclass(frozen=True, slots=True)
class LocalityGroup:
    """Endpoints of one locality and priority."""

    locality: Locality
    endpoints: tuple[Endpoint, ...]
    weight: int
    priority: int = 0


def group_by_locality(endpoints: Iterable[Endpoint]) -> list[LocalityGroup]:
    """Groups in the order of their names; the weight of a group is the sum of its endpoints' (EDS-002)."""
    found: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        where = endpoint.locality
        found.setdefault(f"{where.region}/{where.zone}/{where.sub_zone}", []).append(endpoint)
    return [
        LocalityGroup(members[0].locality, tuple(members), sum(e.weight or 1 for e in members))
        for _, members in sorted(found.items())
    ]


def covers(pattern: str, locality: Locality) -> bool:
    """True if `region/zone/subzone` with `*` or missing parts covers a locality. A missing region is no wildcard."""
    region, zone, sub_zone, *_ = (*pattern.split("/"), "", "", "")
    return (
        region in ("*", locality.region)
        and zone in ("*", "", locality.zone)
        and sub_zone in ("*", "", locality.sub_zone)
    )


def _compact(groups: list[LocalityGroup]) -> list[LocalityGroup]:
    """Priorities without gaps, as Envoy wants them."""
    ranks = {priority: rank for rank, priority in enumerate(sorted({g.priority for g in groups}))}
    return [replace(g, priority=ranks[g.priority]) for g in groups]


def _distribute(groups: list[LocalityGroup], rule: LocalityDistribute) -> list[LocalityGroup]:
    """DR-051: localities that no entry names stay, without endpoints (SEEN-014)."""
    out = [replace(g, endpoints=()) for g in groups]
    left = dict(enumerate(groups))
    for pattern, share in rule.to.items():
        matched = {i: g for i, g in left.items() if covers(pattern, g.locality)}
        total = sum(g.weight for g in matched.values())
        for i, group in matched.items():
            del left[i]
            out[i] = replace(group, weight=(ceil(group.weight * share / total) if total else 0) or group.weight)
    return out


def _distance(here: Locality, there: Locality) -> int:
    """0 same sub-zone, 1 same zone, 2 same region, 3 elsewhere (DR-052)."""
    if here.region != there.region:
        return 3
    if here.zone != there.zone:
        return 2
    return 0 if here.sub_zone == there.sub_zone else 1


def _rank_again(groups: list[LocalityGroup], levels: int, rank: Callable[[Locality], int]) -> list[LocalityGroup]:
    """Within each priority that groups already have, order them anew."""
    return _compact([replace(g, priority=g.priority * levels + rank(g.locality)) for g in groups])


def _fail_over(groups: list[LocalityGroup], here: Locality, rules: tuple[LocalityFailover, ...]) -> list[LocalityGroup]:
    rule = next((r for r in rules if r.from_ == here.region), None)

    def rank(there: Locality) -> int:
        distance = _distance(here, there)
        return 4 if distance == 3 and rule is not None and there.region != rule.to else distance

    return _rank_again(groups, _FAILOVER_LEVELS, rank)


def _split_by_labels(group: LocalityGroup, place: Place, preferences: tuple[str, ...]) -> list[LocalityGroup]:
    """DR-053: the more leading labels an endpoint shares with the proxy, the better its priority."""
    lowest = len(preferences)
    by_priority: dict[int, list[Endpoint]] = {}
    for endpoint in group.endpoints:
        priority = beyond = 0
        for i, preference in enumerate(preferences):
            name, _, stated = preference.partition("=")
            wanted = stated if "=" in preference else place.label(name)
            if wanted == endpoint_label(endpoint, name):
                continue
            if i == 0 and name == NETWORK_LABEL:
                # Another network comes after all of this one, but is ordered by the other labels too.
                beyond = lowest
                continue
            priority = lowest - i
            break
        by_priority.setdefault(priority + beyond, []).append(endpoint)
    return [
        LocalityGroup(group.locality, tuple(members), sum(e.weight or 1 for e in members), priority)
        for priority, members in sorted(by_priority.items())
    ]


def _by_labels(groups: list[LocalityGroup], place: Place, preferences: tuple[str, ...]) -> list[LocalityGroup]:
    if not preferences:
        return groups
    return _compact([part for group in groups for part in _split_by_labels(group, place, preferences)])


def _keep_region(
    groups: list[LocalityGroup], here: Locality, rules: tuple[LocalityFailover, ...]
) -> list[LocalityGroup]:
    """DR-055: Envoy balances zones within a priority, so that holds one region; the rule's comes next."""
    rule = next((r for r in rules if r.from_ == here.region), None)

    def rank(there: Locality) -> int:
        if there.region == here.region:
            return 0
        return 1 if rule is not None and there.region == rule.to else 2

    return _rank_again(groups, _ZONE_AWARE_LEVELS, rank)


def apply_locality_policy(
    groups: list[LocalityGroup], place: Place, policy: LocalityPolicy, has_outlier_detection: bool, splits: bool = True
) -> list[LocalityGroup]:
    """Weights and priorities as seen from a place. Without ejection of hosts there is no failover (DR-054).

    `splits`: localities may be split by labels; Istio does not do so in the DNS clusters of subsets.
    """
    if policy.zone_aware is not None:
        if not policy.forces_failover:
            return groups
        if splits:
            groups = _by_labels(groups, place, policy.zone_aware.failover_priority)
        return _keep_region(groups, place.locality, policy.zone_aware.failover)
    setting = policy.locality
    if setting is None:
        return groups
    if setting.distribute:
        rule = next((r for r in setting.distribute if covers(r.from_, place.locality)), None)
        return _distribute(groups, rule) if rule is not None else groups
    if not (policy.forces_failover or has_outlier_detection):
        return groups
    if not setting.failover_priority:
        return _fail_over(groups, place.locality, setting.failover)
    split = _by_labels(groups, place, setting.failover_priority) if splits else groups
    return _fail_over(split, place.locality, setting.failover) if setting.failover else split


__all__ = ["LocalityGroup", "apply_locality_policy", "covers", "group_by_locality", "label_name"]
