"""World: frozen tables of buckets. Only `advance` makes one; only `Reader` reads one.

A bucket that did not change is the same object in the next world: that identity is what the memo trusts.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from pypilot.kinds.base import Object, Origin, Ref
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.settings import CompliancePolicy
from pypilot.world.delta import Problem

Table = Literal[
    "mesh",
    "mesh_networks",
    "namespaces",
    "localities",
    "pods",
    "pods_by_ip",
    "services",
    "hosts",
    "public_services",
    "private_services",
    "alias_services",
    "selecting_services",
    "endpoints",
    "service_accounts",
    "workloads_by_address",
    "network_gateways",
    "destination_rules",
    "destination_rule",
    "sidecars",
    "sidecar",
    "virtual_services",
    "virtual_service",
    "gateways",
    "gateway",
    "envoy_filters",
    "envoy_filter",
    "envoy_filter_refs",
    "policies",
    "policy",
    "key_sets",
    "secrets",
    "config_maps",
    # Read by `advance` alone:
    "converted",
    "problems",
    "definers",
    "slices",
    "pod_users",
    "selecting_entries",
    "workloads",
    "default_network",
    "placed",
    "service_gateways",
    "node_ports",
]
KeyFetching = Literal["control-plane", "hybrid", "envoy"]
BucketId: TypeAlias = tuple[Table, Hashable]
DEFAULT_REVISION = "default"


@dataclass(frozen=True, slots=True)
class Constants:
    """What never changes while a process runs."""

    domain: str = "cluster.local"
    """Kubernetes' cluster domain."""
    cluster_id: str = "Kubernetes"
    root_namespace: str = "istio-system"
    """Where the mesh ConfigMap is read; MeshConfig may name another root for policies."""
    revision: str = DEFAULT_REVISION
    """Objects of Istio's that are labelled with another revision belong to another control plane."""
    allocates: bool = False
    """ServiceEntries without addresses get some here: no API server holds their status (SE-016)."""
    ambient: bool = True
    """Proxies of Istio's build learn to reach ambient workloads over HBONE (istiod's PILOT_ENABLE_AMBIENT)."""
    key_fetching: KeyFetching = "control-plane"
    """Who fetches the keys of token issuers that have an address (istiod's PILOT_JWT_ENABLE_REMOTE_JWKS)."""
    several_authorizers: bool = False
    """One workload may have several providers of CUSTOM (istiod's PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS)."""

    compliance: CompliancePolicy = "none"
    """What TLS of proxies may be (DR-079)."""

    @property
    def mesh_config_map(self) -> Ref:
        """The ConfigMap with MeshConfig and mesh networks (MESH-001)."""
        name = "istio" if self.revision == DEFAULT_REVISION else f"istio-{self.revision}"
        return Ref("ConfigMap", self.root_namespace, name)


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Everything known at one moment."""

    constants: Constants = Constants()
    objects: Mapping[str, Mapping[tuple[str, str], Object]] = field(default_factory=dict)
    """Kind -> (namespace, name) -> object, as the sources gave them."""
    tables: Mapping[Table, Mapping[Hashable, Any]] = field(default_factory=dict)
    """Derived indexes: table -> bucket key -> bucket."""
    origins: Mapping[Ref, Origin] = field(default_factory=dict)
    mesh_override: MeshConfig | None = None
    problems: tuple[Problem, ...] = ()
    """What is wrong with the world as a whole: a MeshConfig that cannot be read (the last good one stays in force)."""
    generation: int = 0
    changed: frozenset[BucketId] = frozenset()
    """The buckets that differ from the previous generation."""

    def get(self, ref: Ref) -> Object | None:
        """The object of that reference, or None."""
        return self.objects.get(ref.kind, {}).get((ref.namespace, ref.name))
