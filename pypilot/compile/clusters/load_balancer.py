"""How a host is chosen: algorithm, slow start, consistent hashing, locality weighting (DR-045…055)."""

from typing import TypeAlias

from envoy.config.cluster.v3 import cluster_pb2

from pypilot.compile.clusters.draft import ClusterDraft
from pypilot.compile.locality_policy import LocalityPolicy
from pypilot.compile.messages import duration
from pypilot.kinds.destination_rule import ConsistentHashLB, LoadBalancerSettings

_Cluster = cluster_pb2.Cluster
_Weighted: TypeAlias = cluster_pb2.Cluster.RoundRobinLbConfig | cluster_pb2.Cluster.LeastRequestLbConfig

_DEFAULT_RING_SIZE = 1024
_SLOW_START_RUNTIME_KEY = "("
"""Envoy wants a runtime key; this one cannot be set by accident (SEEN-005)."""


def is_passthrough(balancer: LoadBalancerSettings | None) -> bool:
    """`simple: PASSTHROUGH`: the caller's original destination, no balancing (DR-045)."""
    return balancer is not None and balancer.simple == "PASSTHROUGH"


def _apply_slow_start(config: _Weighted, balancer: LoadBalancerSettings) -> None:
    """DR-046: `warmup`, or the older `warmupDurationSecs`."""
    if balancer.warmup is not None:
        slow_start = config.slow_start_config
        slow_start.SetInParent()
        if balancer.warmup.duration is not None:
            slow_start.slow_start_window.CopyFrom(duration(balancer.warmup.duration))
        aggression = balancer.warmup.aggression
        slow_start.aggression.default_value = 1.0 if aggression is None else aggression
        slow_start.aggression.runtime_key = _SLOW_START_RUNTIME_KEY
        minimum = balancer.warmup.minimum_percent
        slow_start.min_weight_percent.value = 10.0 if minimum is None else minimum
    elif balancer.warmup_duration_secs is not None:
        config.slow_start_config.slow_start_window.CopyFrom(duration(balancer.warmup_duration_secs))


def _apply_algorithm(cluster: cluster_pb2.Cluster, balancer: LoadBalancerSettings) -> None:
    if balancer.simple == "RANDOM":
        cluster.lb_policy = _Cluster.RANDOM
    elif balancer.simple == "ROUND_ROBIN":
        cluster.lb_policy = _Cluster.ROUND_ROBIN
        if balancer.warmup is not None or balancer.warmup_duration_secs is not None:
            _apply_slow_start(cluster.round_robin_lb_config, balancer)
    else:
        cluster.lb_policy = _Cluster.LEAST_REQUEST
        if balancer.warmup is not None or balancer.warmup_duration_secs is not None:
            _apply_slow_start(cluster.least_request_lb_config, balancer)


def _apply_consistent_hash(cluster: cluster_pb2.Cluster, settings: ConsistentHashLB) -> None:
    """DR-047. What is hashed is said on the route (DR-048)."""
    if settings.maglev is not None:
        cluster.lb_policy = _Cluster.MAGLEV
        if settings.maglev.table_size:
            cluster.maglev_lb_config.table_size.value = settings.maglev.table_size
        return
    cluster.lb_policy = _Cluster.RING_HASH
    if settings.ring_hash is None:
        size = settings.minimum_ring_size or _DEFAULT_RING_SIZE
    else:
        size = settings.ring_hash.minimum_ring_size
    if size:
        cluster.ring_hash_lb_config.minimum_ring_size.value = size


def _apply_locality(cluster: cluster_pb2.Cluster, policy: LocalityPolicy) -> None:
    """Weights between localities count only where a policy sets them (DR-051…055)."""
    if policy.zone_aware is not None:
        zone_aware = cluster.common_lb_config.zone_aware_lb_config
        zone_aware.SetInParent()
        if policy.zone_aware.enabled is False:
            zone_aware.routing_enabled.value = 0
            zone_aware.routing_enabled.SetInParent()
        if policy.zone_aware.min_cluster_size is not None:
            zone_aware.min_cluster_size.value = policy.zone_aware.min_cluster_size
    if policy.locality is None:
        return
    fails_over = policy.forces_failover or cluster.HasField("outlier_detection")
    if policy.locality.distribute or (fails_over and (policy.locality.failover or policy.locality.failover_priority)):
        cluster.common_lb_config.locality_weighted_lb_config.SetInParent()


def apply_load_balancer(draft: ClusterDraft, balancer: LoadBalancerSettings | None, policy: LocalityPolicy) -> None:
    """Set the algorithm; unready hosts never get traffic, so there is no panic mode (KSVC-027)."""
    cluster = draft.cluster
    if not cluster.common_lb_config.HasField("healthy_panic_threshold"):
        cluster.common_lb_config.healthy_panic_threshold.SetInParent()
    _apply_locality(cluster, policy)
    balancer = balancer or LoadBalancerSettings()
    if is_passthrough(balancer) or draft.is_original_dst:
        cluster.type = _Cluster.ORIGINAL_DST
        cluster.lb_policy = _Cluster.CLUSTER_PROVIDED
        cluster.ClearField("load_assignment")
        return
    _apply_algorithm(cluster, balancer)
    if balancer.consistent_hash is not None:
        cluster.ClearField("round_robin_lb_config")
        cluster.ClearField("least_request_lb_config")
        _apply_consistent_hash(cluster, balancer.consistent_hash)
