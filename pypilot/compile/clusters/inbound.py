"""Inbound clusters: one for each port on which the workload serves something (DR-080…082, MESH-015)."""

from typing import NamedTuple

from envoy.config.cluster.v3 import cluster_pb2

from pypilot.compile.clusters.builtin import BIND_V4, BIND_V6
from pypilot.compile.clusters.connection_pool import apply_connection_pool
from pypilot.compile.clusters.draft import ClusterDraft
from pypilot.compile.clusters.metadata import describe_rule, describe_services
from pypilot.compile.clusters.protocol import apply_port_protocol
from pypilot.compile.clusters.stat_names import inbound_stat_name
from pypilot.compile.clusters.traits import Traits
from pypilot.compile.destination_rules import (
    Selection,
    effective_policy,
    inbound_destination_rule,
    provenance,
    traffic_policy,
)
from pypilot.compile.naming import inbound_cluster
from pypilot.compile.targets import ServiceTarget, service_targets
from pypilot.wire.node import Proxy
from pypilot.wire.resource import Chunk, Resource
from pypilot.world.model import MeshService
from pypilot.world.reader import Reader

_FOR_EVER_SECONDS = 9223372035
"""The longest duration that Envoy takes: hosts of an inbound cluster never time out."""


class InboundPart(NamedTuple):
    """What is served on one port of a workload; the first target is the one that decides."""

    targets: tuple[ServiceTarget, ...]
    selection: Selection


def inbound_parts(reader: Reader, proxy: Proxy) -> tuple[InboundPart, ...]:
    """The ports of a workload. None where no traffic is captured (NODE-015): listeners would need its own ports."""
    if proxy.type != "sidecar" or proxy.interception_mode == "NONE":
        return ()
    by_port: dict[int, list[ServiceTarget]] = {}
    for target in service_targets(reader, proxy):
        by_port.setdefault(target.target, []).append(target)
    parts = []
    for targets in by_port.values():
        service = reader.service(targets[0].service)
        selection = inbound_destination_rule(reader, proxy.namespace, service) if service is not None else None
        parts.append(InboundPart(tuple(targets), selection or ()))
    return tuple(parts)


def _same_port(reader: Reader, targets: tuple[ServiceTarget, ...]) -> list[MeshService]:
    """The services that reach the workload's port by the same service port as the first: telemetry counts for them."""
    number = targets[0].port.number
    found = dict.fromkeys(t.service for t in targets if t.port.number == number)
    services = (reader.service(key) for key in found)
    return [service for service in services if service is not None]


def inbound_resource(reader: Reader, part: InboundPart, traits: Traits) -> Resource | None:
    """The cluster `inbound|TARGET_PORT||`."""
    key, port, number = part.targets[0]
    service = reader.service(key)
    if service is None:
        return None
    mesh = reader.mesh()
    name = inbound_cluster(number)
    cluster = cluster_pb2.Cluster(name=name)
    cluster.common_lb_config.SetInParent()
    cluster.alt_stat_name = inbound_stat_name(name, mesh.inbound_cluster_stat_name, service, port, number)
    draft = ClusterDraft(cluster)
    apply_port_protocol(draft, port, traits.type)
    if not service.mesh_external:
        describe_services(cluster, _same_port(reader, part.targets))
    if traffic_policy(reader, part.selection) is not None:
        describe_rule(cluster, provenance(reader, part.selection), None)
    policy = effective_policy(reader, part.selection, port.number)
    pool = policy.connection_pool or mesh.default_traffic_policy.connection_pool
    apply_connection_pool(draft, mesh, pool, policy.retry_budget)
    if mesh.inbound_traffic_policy.mode == "LOCALHOST":
        cluster.type = cluster_pb2.Cluster.STATIC
        cluster.load_assignment.cluster_name = name
        endpoint = cluster.load_assignment.endpoints.add().lb_endpoints.add().endpoint
        endpoint.address.socket_address.address = "127.0.0.1" if traits.ipv4 else "::1"
        endpoint.address.socket_address.port_value = number
    else:
        cluster.type = cluster_pb2.Cluster.ORIGINAL_DST
        cluster.lb_policy = cluster_pb2.Cluster.CLUSTER_PROVIDED
        cluster.cleanup_interval.seconds = _FOR_EVER_SECONDS
        # Without this source address the capture would send the connection back to the proxy.
        cluster.upstream_bind_config.source_address.address = BIND_V4 if traits.ipv4 else BIND_V6
        cluster.upstream_bind_config.source_address.port_value = 0
    return draft.resource()


def inbound_clusters(reader: Reader, parts: tuple[InboundPart, ...], traits: Traits) -> Chunk:
    """The inbound clusters of all workloads that serve the same."""
    made = (reader.call(inbound_resource, part, traits) for part in parts)
    return Chunk(resource for resource in made if resource is not None)
