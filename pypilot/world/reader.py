"""The only door to a `World` for compile functions; and the door through which they call each other.

`Reader` itself answers straight from the world. The engine's memo derives one that records every bucket it hands out,
empty ones too, and that answers `call` from its cache. A compile function that reads only its arguments and this door
is therefore cached correctly by construction.
"""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

from pypilot.kinds.authorization_policy import AuthorizationPolicy
from pypilot.kinds.base import Ref
from pypilot.kinds.config_map import ConfigMap
from pypilot.kinds.core import Namespace
from pypilot.kinds.destination_rule import DestinationRule
from pypilot.kinds.envoy_filter import EnvoyFilter
from pypilot.kinds.gateway import IstioGateway
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.kinds.mesh_networks import MeshNetworks
from pypilot.kinds.peer_authentication import PeerAuthentication
from pypilot.kinds.pod import Pod
from pypilot.kinds.request_authentication import RequestAuthentication
from pypilot.kinds.secret import Secret
from pypilot.kinds.sidecar import Sidecar
from pypilot.kinds.virtual_service import VirtualService
from pypilot.kinds.workload_entry import WorkloadEntry
from pypilot.wire.node import Locality
from pypilot.world.key_sets import key_source
from pypilot.world.model import Endpoint, MeshService, ServiceKey
from pypilot.world.networks import NetworkGateways
from pypilot.world.world import Constants, Table, World

R = TypeVar("R")
P = TypeVar("P", AuthorizationPolicy, PeerAuthentication, RequestAuthentication)
_DEFAULT_MESH = MeshConfig()
_NO_NETWORKS = MeshNetworks()
_NO_GATEWAYS = NetworkGateways()
_NOWHERE = Locality()


class Reader:
    """Reads one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    # -- the two operations that a memo overrides ---------------------------------------------------------------------

    def _read(self, table: Table, key: Hashable) -> Any:
        return self._world.tables.get(table, {}).get(key)

    def call(self, function: "Callable[..., R]", *key: Hashable) -> R:
        """`function(reader, *key)`, remembered by the memo. The key must be hashable and small."""
        return function(self, *key)

    # -- constants ----------------------------------------------------------------------------------------------------

    @property
    def constants(self) -> Constants:
        return self._world.constants

    # -- mesh-wide ----------------------------------------------------------------------------------------------------

    def mesh(self) -> MeshConfig:
        """The MeshConfig in force."""
        return cast(MeshConfig, self._read("mesh", "")) or _DEFAULT_MESH

    def mesh_networks(self) -> MeshNetworks:
        """The mesh networks in force."""
        return cast(MeshNetworks, self._read("mesh_networks", "")) or _NO_NETWORKS

    def namespace(self, name: str) -> Namespace | None:
        return cast("Namespace | None", self._read("namespaces", name))

    def node_locality(self, node: str) -> Locality:
        """Where a Kubernetes node is; empty if unknown."""
        return cast("Locality | None", self._read("localities", node)) or _NOWHERE

    # -- services -----------------------------------------------------------------------------------------------------

    def service(self, key: ServiceKey) -> MeshService | None:
        return cast("MeshService | None", self._read("services", key))

    def services_of(self, hostname: str) -> tuple[ServiceKey, ...]:
        """All definitions of a hostname, over all namespaces, in key order."""
        return cast("tuple[ServiceKey, ...]", self._read("hosts", hostname)) or ()

    def public_services(self, owner: str = "") -> tuple[ServiceKey, ...]:
        """Services that every namespace may see, oldest first; if an owner is given, those of that namespace."""
        return cast("tuple[ServiceKey, ...]", self._read("public_services", owner)) or ()

    def private_services(self, namespace: str) -> tuple[ServiceKey, ...]:
        """Services that are visible in this namespace though not everywhere, oldest first."""
        return cast("tuple[ServiceKey, ...]", self._read("private_services", namespace)) or ()

    def alias_services(self) -> tuple[ServiceKey, ...]:
        """All ExternalName Services, oldest first."""
        return cast("tuple[ServiceKey, ...]", self._read("alias_services", "")) or ()

    def selecting_services(self, namespace: str) -> tuple[MeshService, ...]:
        """Kubernetes services of a namespace that select pods, oldest first."""
        return cast("tuple[MeshService, ...]", self._read("selecting_services", namespace)) or ()

    def endpoints(self, key: ServiceKey) -> tuple[Endpoint, ...]:
        """All endpoints of a service, in address order."""
        return cast("tuple[Endpoint, ...]", self._read("endpoints", key)) or ()

    def service_accounts(self, key: ServiceKey) -> tuple[str, ...]:
        """Distinct SPIFFE identities of a service's endpoints and annotations, sorted."""
        return cast("tuple[str, ...]", self._read("service_accounts", key)) or ()

    def network_gateways(self) -> NetworkGateways:
        """The ways into networks, by address or name."""
        return cast("NetworkGateways | None", self._read("network_gateways", "")) or _NO_GATEWAYS

    # -- traffic policy -----------------------------------------------------------------------------------------------

    def destination_rules(self, namespace: str) -> tuple[DestinationRule, ...]:
        """The rules of a namespace, oldest first, whoever may see them."""
        return cast("tuple[DestinationRule, ...]", self._read("destination_rules", namespace)) or ()

    def destination_rule(self, ref: Ref) -> DestinationRule | None:
        return cast("DestinationRule | None", self._read("destination_rule", ref))

    def sidecars(self, namespace: str) -> tuple[Sidecar, ...]:
        """The Sidecars of a namespace, oldest first."""
        return cast("tuple[Sidecar, ...]", self._read("sidecars", namespace)) or ()

    def sidecar(self, ref: Ref) -> Sidecar | None:
        return cast("Sidecar | None", self._read("sidecar", ref))

    def virtual_services(self, gateway: str) -> tuple[VirtualService, ...]:
        """VirtualServices bound to `mesh` or to a gateway `namespace/name`, oldest first, whoever may see them."""
        return cast("tuple[VirtualService, ...]", self._read("virtual_services", gateway)) or ()

    def virtual_service(self, ref: Ref) -> VirtualService | None:
        return cast("VirtualService | None", self._read("virtual_service", ref))

    def gateways(self) -> tuple[IstioGateway, ...]:
        """All Istio Gateways, oldest first."""
        return cast("tuple[IstioGateway, ...]", self._read("gateways", "")) or ()

    def gateway(self, ref: Ref) -> IstioGateway | None:
        return cast("IstioGateway | None", self._read("gateway", ref))

    def envoy_filters(self, namespace: str) -> tuple[EnvoyFilter, ...]:
        """The EnvoyFilters of a namespace in the order of `EnvoyFilter.order_key` (EF-002)."""
        return cast("tuple[EnvoyFilter, ...]", self._read("envoy_filters", namespace)) or ()

    def envoy_filter_refs(self) -> tuple[Ref, ...]:
        """All EnvoyFilters, in order of namespace and name."""
        return cast("tuple[Ref, ...]", self._read("envoy_filter_refs", "")) or ()

    def envoy_filter(self, ref: Ref) -> EnvoyFilter | None:
        return cast("EnvoyFilter | None", self._read("envoy_filter", ref))

    def policies(self, kind: type[P], namespace: str) -> tuple[P, ...]:
        """The policies of a kind of security.istio.io in a namespace, oldest first."""
        return cast("tuple[P, ...]", self._read("policies", (kind.KIND, namespace))) or ()

    def policy(self, kind: type[P], ref: Ref) -> P | None:
        """One of them; `kind` is that of the reference."""
        found = self._read("policy", ref)
        return found if isinstance(found, kind) else None

    def key_set(self, issuer: str, uri: str) -> str:
        """The JSON Web Key Set of an issuer, as fetched from that URI or as the issuer says; empty if not known."""
        return cast(str, self._read("key_sets", key_source(issuer, uri))) or ""

    # -- workloads and credentials ------------------------------------------------------------------------------------

    def pod(self, namespace: str, name: str) -> Pod | None:
        return cast("Pod | None", self._read("pods", (namespace, name)))

    def pods_by_ip(self, ip: str) -> tuple[Pod, ...]:
        return cast("tuple[Pod, ...]", self._read("pods_by_ip", ip)) or ()

    def workloads_by_address(self, address: str) -> tuple[WorkloadEntry, ...]:
        """The usable WorkloadEntries of an IP address, by namespace and name."""
        return cast("tuple[WorkloadEntry, ...]", self._read("workloads_by_address", address)) or ()

    def secret(self, namespace: str, name: str) -> Secret | None:
        return cast("Secret | None", self._read("secrets", (namespace, name)))

    def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        return cast("ConfigMap | None", self._read("config_maps", (namespace, name)))
