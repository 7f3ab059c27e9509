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
from pypilot.compile.ingress import inbound_pool, ingress_endpoints, stand_in
from pypilot.compile.messages import listening_address
from pypilot.compile.naming import inbound_cluster
from pypilot.compile.scope import Scope, ingress_listeners, limits_sight, sidecar_of
from pypilot.compile.services import service_for
from pypilot.compile.targets import ServiceTarget, service_targets
from pypilot.kinds.base import Ref
from pypilot.kinds.destination_rule import ConnectionPoolSettings
from pypilot.wire.node import Proxy
from pypilot.wire.resource import Chunk, Resource
from pypilot.world.model import MeshService, ServiceKey
from pypilot.world.reader import Reader

_FOR_EVER_SECONDS = 9223372035
"""The longest duration that Envoy takes: hosts of an inbound cluster never time out."""


class InboundPart(NamedTuple):
    """What is served on one port of a workload; the first target is the one that decides."""

    targets: tuple[ServiceTarget, ...]
    selection: Selection
    pool: ConnectionPoolSettings | None = None
    """Of the workload's Sidecar, in place of the rules' (SC-016)."""
    ingress: bool = False
    """The Sidecar asks for it (SC-013). Its service may not exist."""
    address: str = ""
    """To where the listener leads: an address or `unix:///path`; empty for wherever the client wanted to go."""
    number: int = 0


def inbound_parts(reader: Reader, proxy: Proxy) -> tuple[InboundPart, ...]:
    """The ports of a workload. None where no traffic is captured (NODE-015): listeners would need its own ports."""
    if proxy.type != "sidecar":
        return ()
    ref = sidecar_of(reader, proxy)
    scope = Scope(proxy.namespace, ref if limits_sight(reader, ref) else None)
    if ingress_listeners(reader, ref):
        assert ref is not None
        return _ingress_parts(reader, proxy, scope, ref)
    if proxy.interception_mode == "NONE":
        return ()
    by_port: dict[int, list[ServiceTarget]] = {}
    for target in service_targets(reader, proxy):
        by_port.setdefault(target.target, []).append(target)
    return tuple(
        InboundPart(tuple(targets), _rules(reader, scope, targets[0].service), inbound_pool(reader, ref, number))
        for number, targets in by_port.items()
    )


def _rules(reader: Reader, scope: Scope, key: ServiceKey) -> Selection:
    """The rules of a service that the workload's own Sidecar lets it see."""
    known = reader.service(key)
    seen = service_for(reader, scope, key.hostname) if scope.sidecar is not None else known
    if known is None or seen is None:
        return ()
    return inbound_destination_rule(reader, scope.namespace, seen) or ()


def _ingress_parts(reader: Reader, proxy: Proxy, scope: Scope, ref: Ref) -> tuple[InboundPart, ...]:
    """The ports that a Sidecar opens, each with the oldest service that is served there, if any."""
    served: dict[int, ServiceKey] = {}
    for target in service_targets(reader, proxy):
        served.setdefault(target.target, target.service)
    parts = []
    for port, address, number, pool in ingress_endpoints(reader, proxy):
        key = served.get(port.number) or ServiceKey(f"{ref.name}.{proxy.namespace}", proxy.namespace)
        target = ServiceTarget(key, port, port.number)
        parts.append(InboundPart((target,), _rules(reader, scope, key), pool, True, address, number))
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
    service = reader.service(key) or (
        stand_in(key.hostname.removesuffix(f".{key.namespace}"), key.namespace, port) if part.ingress else None
    )
    if service is None:
        return None
    mesh = reader.mesh()
    name = inbound_cluster(number)
    cluster = cluster_pb2.Cluster(name=name)
    cluster.common_lb_config.SetInParent()
    cluster.alt_stat_name = inbound_stat_name(name, mesh.inbound_cluster_stat_name, service, port, number)
    draft = ClusterDraft(cluster)
    apply_port_protocol(draft, port, traits)
    if not service.mesh_external:
        describe_services(cluster, _same_port(reader, part.targets))
    if traffic_policy(reader, part.selection) is not None:
        describe_rule(cluster, provenance(reader, part.selection), None)
    policy = effective_policy(reader, part.selection, port.number)
    pool = part.pool or policy.connection_pool or mesh.default_traffic_policy.connection_pool
    apply_connection_pool(draft, mesh, pool, policy.retry_budget)
    _apply_hosts(reader, cluster, part, traits)
    return draft.resource()


def _apply_hosts(reader: Reader, cluster: cluster_pb2.Cluster, part: InboundPart, traits: Traits) -> None:
    """The workload itself, at its own address or at what the Sidecar names (MESH-015, SC-014)."""
    address, number = part.address, part.number
    if not part.ingress and reader.mesh().inbound_traffic_policy.mode == "LOCALHOST":
        address, number = "127.0.0.1" if traits.ipv4 else "::1", part.targets[0].target
    if address:
        cluster.type = cluster_pb2.Cluster.STATIC
        cluster.load_assignment.cluster_name = cluster.name
        endpoint = cluster.load_assignment.endpoints.add().lb_endpoints.add().endpoint
        endpoint.address.CopyFrom(listening_address(address, number))
    else:
        cluster.type = cluster_pb2.Cluster.ORIGINAL_DST
        cluster.lb_policy = cluster_pb2.Cluster.CLUSTER_PROVIDED
        cluster.cleanup_interval.seconds = _FOR_EVER_SECONDS
    if address not in ("127.0.0.1", "::1"):
        # Without this source address the capture would send the connection back to the proxy.
        cluster.upstream_bind_config.source_address.address = BIND_V4 if traits.ipv4 else BIND_V6
        cluster.upstream_bind_config.source_address.port_value = 0


def inbound_clusters(reader: Reader, parts: tuple[InboundPart, ...], traits: Traits) -> Chunk:
    """The inbound clusters of all workloads that serve the same."""
    made = (reader.call(inbound_resource, part, traits) for part in parts)
    return Chunk(resource for resource in made if resource is not None)
