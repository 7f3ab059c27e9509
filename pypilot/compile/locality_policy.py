"""Which locality policy holds for a service: the rule's, the service's, or the mesh's (DR-050, KSVC-014, MESH-025…026).

Clusters and endpoints both ask here, so they cannot disagree. Must not build Envoy messages.
"""

from typing import NamedTuple

from pypilot.kinds.destination_rule import (
    LoadBalancerSettings,
    LocalityLoadBalancerSetting,
    ZoneAwareLoadBalancerSetting,
)
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.world.model import MeshService

NETWORK_LABEL = "topology.istio.io/network"
REGION_LABEL = "topology.kubernetes.io/region"
ZONE_LABEL = "topology.kubernetes.io/zone"
SUBZONE_LABEL = "topology.istio.io/subzone"
CLUSTER_LABEL = "topology.istio.io/cluster"
HOSTNAME_LABEL = "kubernetes.io/hostname"

_SAME_ZONE = (NETWORK_LABEL, REGION_LABEL, ZONE_LABEL)
_SAME_NODE = (*_SAME_ZONE, SUBZONE_LABEL, HOSTNAME_LABEL)
_DISTRIBUTION = {
    "preferclose": _SAME_ZONE,
    "prefersamezone": _SAME_ZONE,
    "prefersamenode": _SAME_NODE,
}


class LocalityPolicy(NamedTuple):
    """One of `zone_aware` and `locality`, or neither."""

    locality: LocalityLoadBalancerSetting | None = None
    zone_aware: ZoneAwareLoadBalancerSetting | None = None
    forces_failover: bool = False
    """Failover holds without outlier detection: readiness of endpoints takes its place."""


def preferred_labels(service: MeshService) -> tuple[str, ...]:
    """What `trafficDistribution` of the service prefers, the most important label first; empty for "any"."""
    return _DISTRIBUTION.get(service.traffic_distribution.lower(), ())


def locality_policy(service: MeshService, balancer: LoadBalancerSettings | None, mesh: MeshConfig) -> LocalityPolicy:
    """The policy in force (DR-050)."""
    if balancer is not None and balancer.zone_aware_lb_setting is not None:
        zone_aware = balancer.zone_aware_lb_setting
        return LocalityPolicy(zone_aware=zone_aware, forces_failover=zone_aware.enabled is not False)
    if balancer is not None and balancer.locality_lb_setting is not None:
        own = balancer.locality_lb_setting
        return LocalityPolicy(own if own.enabled is not False else None)
    if labels := preferred_labels(service):
        setting = LocalityLoadBalancerSetting(enabled=True, failover_priority=labels)
        return LocalityPolicy(setting, forces_failover=True)
    if mesh.zone_aware_lb_setting is not None:
        zone_aware = mesh.zone_aware_lb_setting
        return LocalityPolicy(zone_aware=zone_aware, forces_failover=zone_aware.enabled is not False)
    return LocalityPolicy(mesh.locality_lb_setting if mesh.locality_lb_setting.enabled is not False else None)
