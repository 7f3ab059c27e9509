"""Where a proxy is, as far as it changes the endpoints it gets: locality, labels, node, network (NODE-008, EDS-007).

Each service asks for the least that its policies need (`place_needs`), so proxies in different places share the rest.
"""

from typing import NamedTuple

from pypilot.compile.cluster_local import is_cluster_local
from pypilot.compile.destination_rules import Selection, effective_policy, subsets_of
from pypilot.compile.discovery import cluster_ports
from pypilot.compile.locality_policy import (
    CLUSTER_LABEL,
    HOSTNAME_LABEL,
    NETWORK_LABEL,
    REGION_LABEL,
    SUBZONE_LABEL,
    ZONE_LABEL,
    locality_policy,
)
from pypilot.compile.targets import cluster_of, entry_endpoint, pod_of, workload_labels
from pypilot.wire.node import Labels, Locality, Proxy
from pypilot.world.endpoints import LOCALITY_LABEL, parse_locality
from pypilot.world.model import Endpoint, ServiceKey
from pypilot.world.reader import Reader


class Place(NamedTuple):
    """A proxy's place, or the part of it that matters somewhere."""

    locality: Locality = Locality()
    labels: Labels = ()
    """The proxy's labels with the topology labels that Kubernetes would give it."""
    node: str = ""
    network: str = ""
    families: tuple[int, ...] = ()
    """IP versions that the proxy can dial, where that matters."""
    networks_seen: tuple[str, ...] = ()
    """The networks that the proxy asked for; empty for all (NODE-013)."""
    cluster: str = ""

    def label(self, key: str) -> str:
        """The value of a label, or the empty string."""
        return next((v for k, v in self.labels if k == key), "")


NOWHERE = Place()


class Needs(NamedTuple):
    """Which parts of a place matter to a service."""

    locality: bool = False
    labels: frozenset[str] = frozenset()
    node: bool = False
    network: bool = False
    cluster: bool = False

    def of(self, place: Place) -> Place:
        """The place without what does not matter."""
        return Place(
            place.locality if self.locality else Locality(),
            tuple((k, v) for k, v in place.labels if k in self.labels),
            place.node if self.node else "",
            place.network if self.network else "",
            place.families if self.network else (),
            place.networks_seen,
            place.cluster if self.cluster else "",
        )

    def __or__(self, other: object) -> "Needs":
        if not isinstance(other, Needs):
            return NotImplemented
        return Needs(
            self.locality or other.locality,
            self.labels | other.labels,
            self.node or other.node,
            self.network or other.network,
            self.cluster or other.cluster,
        )


def _topology(locality: Locality, cluster_id: str, node: str) -> dict[str, str]:
    found = {
        REGION_LABEL: locality.region,
        ZONE_LABEL: locality.zone,
        SUBZONE_LABEL: locality.sub_zone,
        CLUSTER_LABEL: cluster_id,
        HOSTNAME_LABEL: node,
    }
    return {key: value for key, value in found.items() if value}


def place_of(reader: Reader, proxy: Proxy) -> Place:
    """The whole place of a proxy; for its locality the node's word counts first, for its labels the workload's."""
    pod = pod_of(reader, proxy)
    labels = {**dict(proxy.labels), **dict(workload_labels(reader, proxy))}
    node = proxy.node_name or (pod.spec.node_name if pod is not None else "")
    locality = proxy.locality
    if not locality.region:
        stated = labels.get(LOCALITY_LABEL, "").replace(".", "/")
        own = entry_endpoint(reader, proxy) if pod is None else None
        if own is not None and own.locality.region:
            locality = own.locality
        elif stated or pod is None:
            locality = parse_locality(stated)
        else:
            locality = reader.node_locality(pod.spec.node_name)
    cluster = cluster_of(reader, proxy)
    labels.update(_topology(locality, cluster, node))
    if proxy.network:
        labels.setdefault(NETWORK_LABEL, proxy.network)
    return Place(
        locality,
        tuple(sorted(labels.items())),
        node,
        proxy.network,
        tuple(sorted({6 if ":" in ip else 4 for ip in proxy.ips})),
        proxy.network_view,
        cluster,
    )


def endpoint_label(endpoint: Endpoint, key: str) -> str:
    """A label of an endpoint; topology labels come from where it is."""
    topology = _topology(endpoint.locality, endpoint.cluster_id, endpoint.node_name)
    if key in topology:
        return topology[key]
    return endpoint.label(key) or (endpoint.network if key == NETWORK_LABEL else "")


def carries(endpoint: Endpoint, wanted: dict[str, str]) -> bool:
    """True if the endpoint has all these labels (DR-025)."""
    return all(endpoint_label(endpoint, key) == value for key, value in wanted.items())


def label_name(preference: str) -> str:
    """The label of a failoverPriority entry `label` or `label=value` (DR-053)."""
    return preference.partition("=")[0]


def place_needs(reader: Reader, key: ServiceKey, selection: Selection) -> Needs:
    """What the policies of any port and subset of a service need to know of the proxy's place."""
    service = reader.service(key)
    if service is None:
        return Needs()
    mesh = reader.mesh()
    local = is_cluster_local(reader, service.hostname)
    needs = Needs(node=service.node_local, network=bool(reader.network_gateways()), cluster=local)
    for subset in ("", *(s.name for s in subsets_of(reader, selection))):
        for port in cluster_ports(service):
            policy = effective_policy(reader, selection, port.number, subset, mesh.default_traffic_policy)
            where = locality_policy(service, policy.load_balancer, mesh)
            if where.zone_aware is not None:
                labels = frozenset(map(label_name, where.zone_aware.failover_priority))
                needs |= Needs(True, labels) if where.forces_failover else Needs()
            if where.locality is None:
                continue
            if where.locality.distribute:
                needs |= Needs(locality=True)
            elif where.forces_failover or policy.outlier_detection is not None:
                preferences = where.locality.failover_priority
                by_region = not preferences or bool(where.locality.failover)
                needs |= Needs(by_region, frozenset(map(label_name, preferences)))
    return needs
