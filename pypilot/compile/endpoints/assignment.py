"""The endpoints of one port and subset of a service: who is in, how healthy, where (EDS-001…007, EDS-010)."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from pypilot.compile.destination_rules import (
    NO_DEFAULT,
    EffectivePolicy,
    Selection,
    effective_policy,
    endpoint_tls_mode,
    starts_passing_through,
    subset_of,
    subsets_of,
)
from pypilot.compile.discovery import Discovery, cluster_ports, discovery_of
from pypilot.compile.endpoints.across_networks import across_networks
from pypilot.compile.endpoints.lb_endpoint import MAX_WEIGHT, build_lb_endpoint, takes_tunnel
from pypilot.compile.endpoints.locality import LocalityGroup, apply_locality_policy, group_by_locality
from pypilot.compile.locality_policy import locality_policy, preferred_labels
from pypilot.compile.naming import outbound_cluster, sni
from pypilot.compile.place import Place, carries
from pypilot.compile.policies.selection import refuses_mutual_tls
from pypilot.compile.services import Imported, cut_service
from pypilot.compile.targets import ServiceTarget
from pypilot.kinds.names import is_address
from pypilot.wire.node import Labels
from pypilot.wire.resource import Resource
from pypilot.wire.types import ENDPOINT
from pypilot.world.model import Endpoint, MeshPort, MeshService, ServiceKey
from pypilot.world.reader import Reader

LocalityLbEndpoints: TypeAlias = endpoint_components_pb2.LocalityLbEndpoints
_MOST_WEIGHT = MAX_WEIGHT // 2
"""Room for rounding up, and for the parts of other networks."""
PERSISTENT_SESSION = "istio.io/persistent-session"
_DRAINING_LABEL = "istio.io/draining"
SELF_DISCOVERY = "local_cluster"
REPLICA_LABELS = ("pod-template-hash", "rollouts-pod-template-hash")


class Workload(NamedTuple):
    """What a proxy's like have in common."""

    name: str
    hashes: Labels
    """The labels that tell one generation of replicas from another, empty ones too."""


def _is_address(endpoint: Endpoint) -> bool:
    """Host names cannot go over EDS."""
    return not endpoint.address or endpoint.address.startswith("unix://") or is_address(endpoint.address)


def _scaled(endpoints: list[Endpoint]) -> list[Endpoint]:
    """With smaller weights if their sum is more than Envoy can add up."""
    total = sum(e.weight for e in endpoints)
    if total <= _MOST_WEIGHT:
        return endpoints
    divisor = -(-total // _MOST_WEIGHT)
    return [replace(e, weight=max(1, e.weight // divisor)) for e in endpoints]


def _health(endpoint: Endpoint, service: MeshService) -> str | None:
    """The health to send; empty where nobody reports any; None: the endpoint is not sent (KSVC-026, KSVC-035)."""
    leaving = endpoint.health in ("DRAINING", "TERMINATING") or bool(endpoint.label(_DRAINING_LABEL))
    if leaving:
        return "DRAINING" if dict(service.labels).get(PERSISTENT_SESSION) else None
    return endpoint.health if endpoint.health != "UNKNOWN" else ""


def _sends_unhealthy(service: MeshService, policy: EffectivePolicy) -> bool:
    """KSVC-027: unready endpoints help Envoy count, unless a panic threshold could send them traffic."""
    if preferred_labels(service):
        return True
    return policy.outlier_detection is None or policy.outlier_detection.min_health_percent <= 0


def _members(
    reader: Reader,
    service: MeshService,
    port: MeshPort,
    wanted: dict[str, str],
    policy: EffectivePolicy,
    place: Place,
) -> Iterable[Endpoint]:
    sends_unhealthy = _sends_unhealthy(service, policy)
    for endpoint in reader.endpoints(service.key):
        if endpoint.port(port.name) is None or not carries(endpoint, wanted):
            continue
        if service.node_local and endpoint.node_name != place.node:
            continue
        if place.networks_seen and endpoint.network not in ("", *place.networks_seen):
            continue
        if place.cluster not in ("", endpoint.cluster_id):
            continue
        if endpoint.health == "UNHEALTHY" and not sends_unhealthy:
            continue
        if _health(endpoint, service) is not None:
            yield endpoint


def localities_of(
    reader: Reader,
    service: MeshService,
    port: MeshPort,
    subset: str,
    selection: Selection,
    hbone: bool,
    place: Place,
    addresses_only: bool = False,
    tls_only: bool = False,
) -> list[LocalityLbEndpoints]:
    """The endpoints by locality. DNS clusters hold them inline; over EDS only addresses can go.

    `tls_only`: localities keep only the endpoints that speak mutual TLS, and stay if none does.
    """
    mesh = reader.mesh()
    policy = effective_policy(reader, selection, port.number, subset)
    # Only what clusters hold inline knows of the mesh's default ejection (MESH-029).
    default = NO_DEFAULT if addresses_only else mesh.default_traffic_policy
    ejects = effective_policy(reader, selection, port.number, subset, default).outlier_detection is not None
    found = subset_of(reader, selection, subset)
    wanted = found.labels if found is not None else {}
    members = [
        endpoint
        for endpoint in _members(reader, service, port, wanted, policy, place)
        if not addresses_only or _is_address(endpoint)
    ]
    members = _scaled(members)
    mode = endpoint_tls_mode(reader, selection, port.number, subset)

    def speaks_tls(endpoint: Endpoint) -> bool:
        if endpoint.is_gateway:
            return True
        if mode is None:
            return endpoint.tls_mode == "istio" and not refuses_mutual_tls(reader, endpoint, port)
        return endpoint.tls_mode not in ("", "disabled") and mode == "ISTIO_MUTUAL"

    gateways = reader.network_gateways()
    groups = apply_locality_policy(
        across_networks(
            group_by_locality(members),
            port.name,
            place,
            gateways.resolved if addresses_only else gateways,
            speaks_tls,
        ),
        place,
        locality_policy(service, policy.load_balancer, mesh),
        ejects,
        splits=addresses_only or not subset,
    )
    return _messages(groups, service, port, speaks_tls, hbone, tls_only)


def _messages(
    groups: Iterable[LocalityGroup],
    service: MeshService,
    port: MeshPort,
    speaks_tls: Callable[[Endpoint], bool],
    hbone: bool,
    tls_only: bool = False,
) -> list[LocalityLbEndpoints]:
    out = []
    for group in groups:
        where = group.locality
        localities = LocalityLbEndpoints(priority=group.priority)
        localities.locality.SetInParent()
        localities.locality.region = where.region
        localities.locality.zone = where.zone
        localities.locality.sub_zone = where.sub_zone
        weight = 0
        for endpoint in group.endpoints:
            if tls_only and not speaks_tls(endpoint):
                continue
            weight += endpoint.weight or 1
            localities.lb_endpoints.append(
                build_lb_endpoint(
                    endpoint,
                    endpoint.port(port.name) or 0,
                    speaks_tls(endpoint),
                    hbone and takes_tunnel(endpoint),
                    _health(endpoint, service) or "",
                )
            )
        if weighs := weight if tls_only else group.weight:
            localities.load_balancing_weight.value = min(weighs, MAX_WEIGHT)
        out.append(localities)
    return out


def _assignments(
    reader: Reader, seen: Imported, selection: Selection, is_router: bool, hbone: bool, place: Place, by_sni: bool
) -> tuple[Resource, ...]:
    service = cut_service(reader, seen.key, seen.ports)
    if service is None or (by_sni and service.mesh_external):
        return ()
    made = []
    for port in cluster_ports(service):
        for subset in ("", *(s.name for s in subsets_of(reader, selection))):
            policy = effective_policy(reader, selection, port.number, subset)
            if discovery_of(service, is_router, policy.load_balancer) is not Discovery.EDS:
                continue
            if starts_passing_through(reader, selection, port.number, subset):
                continue
            name = (sni if by_sni else outbound_cluster)(port.number, subset, service.hostname)
            assignment = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
            assignment.endpoints.extend(
                localities_of(
                    reader, service, port, subset, selection, hbone, place, addresses_only=True, tls_only=by_sni
                )
            )
            made.append(Resource.of(name, ENDPOINT, assignment.SerializeToString(deterministic=True)))
    return tuple(made)


def service_assignments(
    reader: Reader,
    key: ServiceKey,
    selection: Selection,
    is_router: bool,
    hbone: bool,
    place: Place,
    ports: tuple[int, ...] = (),
) -> tuple[Resource, ...]:
    """The load assignments of a service's EDS clusters, or of those of these ports; empty ones too (EDS-006)."""
    return _assignments(reader, Imported(key, ports), selection, is_router, hbone, place, by_sni=False)


def sni_assignments(
    reader: Reader,
    key: ServiceKey,
    selection: Selection,
    is_router: bool,
    hbone: bool,
    place: Place,
    ports: tuple[int, ...] = (),
) -> tuple[Resource, ...]:
    """Those of a gateway that forwards mutual TLS untouched: only endpoints that speak it (DR-021)."""
    return _assignments(reader, Imported(key, ports), selection, is_router, hbone, place, by_sni=True)


def own_assignment(
    reader: Reader, target: ServiceTarget | None, workload: Workload, hbone: bool, place: Place
) -> Resource:
    """Where a proxy's like are: of its own service, those of its own workload and region (EDS-014). No rule counts."""
    service = reader.service(target.service) if target is not None else None
    assignment = endpoint_pb2.ClusterLoadAssignment(cluster_name=SELF_DISCOVERY)
    if target is not None and service is not None:
        port = target.port
        members = (
            endpoint
            for endpoint in _members(reader, service, port, {}, effective_policy(reader, (), port.number, ""), place)
            if _is_address(endpoint)
            and endpoint.workload_name == workload.name
            and all(endpoint.label(label) == value for label, value in workload.hashes)
            and place.locality.region in ("", endpoint.locality.region)
        )

        def speaks_tls(endpoint: Endpoint) -> bool:
            return endpoint.tls_mode == "istio" and not refuses_mutual_tls(reader, endpoint, port)

        gateways = reader.network_gateways().resolved
        groups = across_networks(group_by_locality(members), port.name, place, gateways, speaks_tls)
        assignment.endpoints.extend(_messages(groups, service, port, speaks_tls, hbone))
    return Resource.of(SELF_DISCOVERY, ENDPOINT, assignment.SerializeToString(deterministic=True))
