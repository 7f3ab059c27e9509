"""Outbound clusters of one service: one a port, and one a port and subset (DR-011…018). The costly step.

What is made depends only on the arguments and on what is read: views that resolve alike share the bytes.
"""

from dataclasses import replace

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import health_check_pb2

from pypilot.compile.clusters.auto_mtls import expected_identities, infers_mutual_tls
from pypilot.compile.clusters.connection_pool import apply_connection_pool
from pypilot.compile.clusters.dns import apply_dns, dynamic_dns_draft
from pypilot.compile.clusters.draft import ClusterDraft
from pypilot.compile.clusters.load_balancer import apply_load_balancer, is_passthrough
from pypilot.compile.clusters.metadata import describe_rule, describe_services, mark
from pypilot.compile.clusters.metadata_exchange import apply_metadata_exchange
from pypilot.compile.clusters.outlier import apply_outlier_detection
from pypilot.compile.clusters.protocol import apply_h2_upgrade, apply_port_protocol
from pypilot.compile.clusters.stat_names import outbound_stat_name
from pypilot.compile.clusters.traits import Traits
from pypilot.compile.clusters.transport import apply_proxy_protocol
from pypilot.compile.clusters.upstream_tls import OwnTLS, UnservableTLS, apply_upstream_tls, resolve_tls, with_files
from pypilot.compile.destination_rules import (
    EffectivePolicy,
    Selection,
    effective_policy,
    provenance,
    starts_passing_through,
    subset_of,
    subsets_of,
    traffic_policy,
)
from pypilot.compile.discovery import Discovery, cluster_ports, discovery_of
from pypilot.compile.endpoints.assignment import PERSISTENT_SESSION
from pypilot.compile.endpoints.lb_endpoint import speaks_hbone
from pypilot.compile.locality_policy import locality_policy, preferred_labels
from pypilot.compile.messages import ads_config_source
from pypilot.compile.naming import outbound_cluster, sni
from pypilot.compile.place import Place
from pypilot.compile.services import cut_service
from pypilot.wire.resource import Resource
from pypilot.world.model import MeshPort, MeshService, Resolution, ServiceKey
from pypilot.world.reader import Reader

_Health = health_check_pb2.HealthStatus
_TYPES = {
    Discovery.EDS: cluster_pb2.Cluster.EDS,
    Discovery.STRICT_DNS: cluster_pb2.Cluster.STRICT_DNS,
    Discovery.LOGICAL_DNS: cluster_pb2.Cluster.LOGICAL_DNS,
    Discovery.ORIGINAL_DST: cluster_pb2.Cluster.ORIGINAL_DST,
}


_SESSION_LABELS = frozenset({PERSISTENT_SESSION, "istio.io/persistent-session-header"})
_SESSION_STATUSES = (_Health.HEALTHY, _Health.DRAINING, _Health.UNKNOWN, _Health.DEGRADED)


class _Builder:
    """What the clusters of one service have in common, for one call."""

    def __init__(
        self, reader: Reader, service: MeshService, selection: Selection, traits: Traits, place: Place, by_sni: bool
    ) -> None:
        self.reader = reader
        self.by_sni = by_sni
        self.service = service
        self.selection = selection
        self.traits = traits
        self.place = place
        self.mesh = reader.mesh()
        self.path = provenance(reader, selection)
        self.identities = expected_identities(reader, service)

    def build(self, port: MeshPort, subset: str) -> Resource | None:
        """One cluster; None if it can have no hosts, or its TLS cannot be served."""
        default = self.mesh.default_traffic_policy
        policy = effective_policy(self.reader, self.selection, port.number, subset, default)
        discovery = discovery_of(self.service, self.traits.is_router)
        if starts_passing_through(self.reader, self.selection, port.number, subset):
            discovery = Discovery.ORIGINAL_DST
        draft = self._begin(port, subset, discovery)
        if discovery.is_dns and not apply_dns(
            draft, self.reader, self.service, port, subset, self.selection, self.traits, self.place
        ):
            return None
        self._apply_policy(draft, port, policy)
        try:
            if not self.by_sni:
                self._apply_transport(draft, port, subset, policy)
        except UnservableTLS:
            return None
        if draft.cluster.type == cluster_pb2.Cluster.EDS and not draft.dynamic_dns:
            draft.cluster.eds_cluster_config.service_name = draft.cluster.name
            draft.cluster.eds_cluster_config.eds_config.CopyFrom(ads_config_source())
        apply_metadata_exchange(draft.cluster, self.traits)
        if not (subset or self.by_sni):
            self._keep_draining(draft)
            self._mark(draft, port)
        describe_rule(draft.cluster, self.path, policy.tls, subset)
        return draft.resource()

    def _mark(self, draft: ClusterDraft, port: MeshPort) -> None:
        """DR-017: hosts behind HBONE tell who they are by other means than metadata exchange."""
        endpoints = [e for e in self.reader.endpoints(self.service.key) if e.port(port.name)]
        if endpoints and all(map(speaks_hbone, endpoints)):
            mark(draft.cluster, "disable_mx")
        elif self.service.mesh_external:
            mark(draft.cluster, "external")

    def _keep_draining(self, draft: ClusterDraft) -> None:
        """KSVC-019: a session may stay with its host while that host leaves."""
        if not _SESSION_LABELS.isdisjoint(dict(self.service.labels)):
            draft.cluster.common_lb_config.override_host_status.statuses.extend(_SESSION_STATUSES)

    def _begin(self, port: MeshPort, subset: str, discovery: Discovery) -> ClusterDraft:
        name = (sni if self.by_sni else outbound_cluster)(port.number, subset, self.service.hostname)
        if discovery is Discovery.DYNAMIC_FORWARD_PROXY:
            draft = dynamic_dns_draft(name, self.service.hostname, self.traits)
        else:
            cluster = cluster_pb2.Cluster(name=name, type=_TYPES[discovery])
            cluster.common_lb_config.SetInParent()
            draft = ClusterDraft(cluster)
            describe_services(cluster, [self.service])
        pattern = "" if draft.dynamic_dns else self.mesh.outbound_cluster_stat_name
        draft.cluster.alt_stat_name = outbound_stat_name(name, pattern, self.service, port, subset)
        if discovery is Discovery.ORIGINAL_DST and self._is_unresolved_entry() and port.target_port:
            draft.cluster.original_dst_lb_config.upstream_port_override.value = int(port.target_port)
        apply_port_protocol(draft, port, self.traits)
        return draft

    def _is_unresolved_entry(self) -> bool:
        """A ServiceEntry with resolution NONE, whose targetPort replaces the port that the caller dialled (SE-005)."""
        return not self.service.kubernetes and self.service.resolution is Resolution.PASSTHROUGH

    def _apply_policy(self, draft: ClusterDraft, port: MeshPort, policy: EffectivePolicy) -> None:
        pool = policy.connection_pool
        apply_h2_upgrade(draft, port, self.mesh, pool.http if pool is not None else None)
        apply_connection_pool(draft, self.mesh, pool, policy.retry_budget)
        keeps_unhealthy = bool(preferred_labels(self.service))
        apply_outlier_detection(draft, policy.outlier_detection, keeps_unhealthy)
        if not draft.dynamic_dns:
            locality = locality_policy(self.service, policy.load_balancer, self.mesh)
            apply_load_balancer(draft, policy.load_balancer, locality)

    def _apply_transport(self, draft: ClusterDraft, port: MeshPort, subset: str, policy: EffectivePolicy) -> None:
        inferred = infers_mutual_tls(self.reader, self.service, port, self.traits, self._passes_through(subset))
        name = "" if draft.dynamic_dns else sni(port.number, subset, self.service.hostname)
        identities = () if draft.dynamic_dns else self.identities
        tls = resolve_tls(policy.tls, inferred, name, identities)
        tls = with_files(tls, policy.tls, self.traits.client_files, self.service.mesh_external)
        if isinstance(tls, OwnTLS):
            names = () if self.service.kubernetes else identities
            tls = replace(tls, service_names=names, may_use_secrets=self.traits.is_router or policy.has_selector)
        apply_upstream_tls(draft, tls, self.traits, self.mesh)
        if policy.proxy_protocol is not None:
            apply_proxy_protocol(draft.cluster, policy.proxy_protocol.version)

    def _passes_through(self, subset: str) -> bool:
        """What the level itself says, whatever its port entries say."""
        found = subset_of(self.reader, self.selection, subset)
        policy = found.traffic_policy if found is not None else traffic_policy(self.reader, self.selection)
        return policy is not None and is_passthrough(policy.load_balancer)


def _all_clusters(builder: _Builder) -> tuple[Resource, ...]:
    service = builder.service
    # A dynamic forward proxy has no endpoints to select from.
    selects = discovery_of(service, builder.traits.is_router) is not Discovery.DYNAMIC_FORWARD_PROXY
    subsets = [s.name for s in subsets_of(builder.reader, builder.selection)] if selects else []
    made = (builder.build(port, subset) for port in cluster_ports(service) for subset in ("", *subsets))
    return tuple(resource for resource in made if resource is not None)


def service_clusters(
    reader: Reader, key: ServiceKey, selection: Selection, traits: Traits, place: Place, ports: tuple[int, ...] = ()
) -> tuple[Resource, ...]:
    """All outbound clusters of a service, or of these ports of it, as shaped by the selected DestinationRules."""
    service = cut_service(reader, key, ports)
    return _all_clusters(_Builder(reader, service, selection, traits, place, by_sni=False)) if service else ()


def sni_clusters(
    reader: Reader, key: ServiceKey, selection: Selection, traits: Traits, place: Place, ports: tuple[int, ...] = ()
) -> tuple[Resource, ...]:
    """The same under their SNI names, for a gateway that forwards mutual TLS untouched: no TLS of its own (DR-021)."""
    service = cut_service(reader, key, ports)
    if service is None or service.mesh_external:
        return ()
    return _all_clusters(_Builder(reader, service, selection, traits, place, by_sni=True))
