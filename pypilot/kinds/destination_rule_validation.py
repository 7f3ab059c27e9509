"""What makes a DestinationRule wrong beyond its types (VAL-004), and its registry entry."""

from collections.abc import Iterable, Iterator
from math import isqrt

import msgspec

from pypilot.kinds.base import Duration, Finding, Kind, Spec
from pypilot.kinds.destination_rule import (
    ClientTLSSettings,
    DestinationRule,
    LoadBalancerSettings,
    OutlierDetection,
    PortTrafficPolicy,
    TrafficPolicy,
)
from pypilot.kinds.destination_rule_advice import advise
from pypilot.kinds.destination_rule_refusals import refusals

_MILLISECOND = Duration(1_000_000)
_LARGEST_TABLE = 5_000_011
"""Envoy `MaglevLbConfig.table_size`."""
_LARGEST_RING = 8_388_608
"""Envoy `RingHashLbConfig.minimum_ring_size`."""


def _validate_tls(tls: ClientTLSSettings | None, path: str) -> Iterable[Finding]:
    if tls is None or tls.mode != "MUTUAL" or tls.credential_name:
        return
    if not tls.client_certificate:
        yield Finding(f"{path}.clientCertificate", "mode MUTUAL needs a client certificate or credentialName (VAL-004)")
    if not tls.private_key:
        yield Finding(f"{path}.privateKey", "mode MUTUAL needs a private key or credentialName (VAL-004)")


def _validate_outlier(outlier: OutlierDetection | None, path: str) -> Iterable[Finding]:
    if outlier is None:
        return
    for name, value in (
        ("maxEjectionPercent", outlier.max_ejection_percent),
        ("minHealthPercent", outlier.min_health_percent),
    ):
        if not 0 <= value <= 100:
            yield Finding(f"{path}.{name}", f"{value} is not a percentage (0-100)")


def _validate_numbers(policy: TrafficPolicy | PortTrafficPolicy, path: str) -> Iterable[Finding]:
    """What Envoy's own constraints refuse."""
    if (outlier := policy.outlier_detection) is not None:
        for name, time in (("interval", outlier.interval), ("baseEjectionTime", outlier.base_ejection_time)):
            if time is not None and time.nanos == 0:
                yield Finding(f"{path}.outlierDetection.{name}", f"{time} must be more than 0")
    http = policy.connection_pool.http if policy.connection_pool is not None else None
    if http is not None and (ping := http.http2_keep_alive) is not None:
        for name, time in (("interval", ping.interval), ("timeout", ping.timeout)):
            if time is None or time < _MILLISECOND:
                at = f"{path}.connectionPool.http.http2KeepAlive.{name}"
                yield Finding(at, f"at least 1ms is needed, got {time}")
    budget = policy.retry_budget if isinstance(policy, TrafficPolicy) else None
    if budget is not None and budget.percent is not None and not 0 <= budget.percent <= 100:
        yield Finding(f"{path}.retryBudget.percent", f"{budget.percent} is not a percentage (0-100)")


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, isqrt(number) + 1))


def _validate_balancer(balancer: LoadBalancerSettings | None, path: str) -> Iterable[Finding]:
    if balancer is None:
        return
    if (warmup := balancer.warmup) is not None:
        if warmup.minimum_percent is not None and not 0 <= warmup.minimum_percent <= 100:
            yield Finding(f"{path}.warmup.minimumPercent", f"{warmup.minimum_percent} is not a percentage (0-100)")
        if warmup.aggression is not None and not 1 <= warmup.aggression < float("inf"):
            yield Finding(f"{path}.warmup.aggression", f"{warmup.aggression} must be at least 1")
    if (hashing := balancer.consistent_hash) is None:
        return
    path = f"{path}.consistentHash"
    table = hashing.maglev.table_size if hashing.maglev is not None else 0
    if table and not (table <= _LARGEST_TABLE and _is_prime(table)):
        message = f"{table} is not a prime number of at most {_LARGEST_TABLE}"
        yield Finding(f"{path}.maglev.tableSize", message)
    sizes = {"minimumRingSize": hashing.minimum_ring_size}
    if hashing.ring_hash is not None:
        sizes["ringHash.minimumRingSize"] = hashing.ring_hash.minimum_ring_size
    for name, size in sizes.items():
        if not 0 <= size <= _LARGEST_RING:
            yield Finding(f"{path}.{name}", f"{size} is not between 0 and {_LARGEST_RING}")


def _validate_durations(message: Spec, path: str) -> Iterator[Finding]:
    """None may be negative: Envoy refuses such a cluster, and with it what comes in the same response."""
    for field in msgspec.structs.fields(type(message)):
        value, at = getattr(message, field.name), f"{path}.{field.encode_name}"
        if isinstance(value, Duration) and value.nanos < 0:
            yield Finding(at, f"{value} must not be negative")
        elif isinstance(value, Spec):
            yield from _validate_durations(value, at)


def _validate_settings(policy: TrafficPolicy | PortTrafficPolicy, path: str) -> Iterable[Finding]:
    yield from _validate_tls(policy.tls, f"{path}.tls")
    yield from _validate_outlier(policy.outlier_detection, f"{path}.outlierDetection")
    yield from _validate_balancer(policy.load_balancer, f"{path}.loadBalancer")
    yield from _validate_numbers(policy, path)
    yield from _validate_durations(policy, path)


def _validate_policy(policy: TrafficPolicy | None, path: str) -> Iterable[Finding]:
    if policy is None:
        return
    yield from _validate_settings(policy, path)
    for i, port in enumerate(policy.port_level_settings):
        yield from _validate_settings(port, f"{path}.portLevelSettings[{i}]")


def validate(rule: DestinationRule) -> Iterable[Finding]:
    """Checks of VAL-004."""
    if not rule.spec.host:
        yield Finding("spec.host", "a host is needed (VAL-004)")
    yield from _validate_policy(rule.spec.traffic_policy, "spec.trafficPolicy")
    seen: set[str] = set()
    for i, subset in enumerate(rule.spec.subsets):
        path = f"spec.subsets[{i}]"
        if not subset.name:
            yield Finding(f"{path}.name", "a subset needs a name (VAL-004)")
        elif subset.name in seen:
            yield Finding(f"{path}.name", f"subset {subset.name!r} is listed twice (VAL-004)")
        seen.add(subset.name)
        yield from _validate_policy(subset.traffic_policy, f"{path}.trafficPolicy")


KIND = Kind(
    DestinationRule,
    "networking.istio.io",
    ("v1", "v1beta1", "v1alpha3"),
    "destinationrules",
    units=("spec.subsets[]", "spec.trafficPolicy.portLevelSettings[]"),
    validate=validate,
    advise=advise,
    refusals=refusals,
    short_names=("dr",),
    columns=("spec.host",),
)
