"""Resolve: the policies that hold for a workload (AZ-001, AZ-004, RA-001, PA-001…004).

The root namespace's hold everywhere, others in their own namespace. A policy with targetRefs means objects of the
Gateway API, so it never holds for a plain workload; those of a Gateway carry its name as a label.
"""

from typing import NamedTuple

from pypilot.compile.targets import workload_labels
from pypilot.kinds.authorization_policy import Action, AuthorizationPolicy, TargetReference
from pypilot.kinds.base import Ref
from pypilot.kinds.peer_authentication import MutualTLSMode, PeerAuthentication, PodSelector
from pypilot.kinds.request_authentication import RequestAuthentication
from pypilot.wire.node import Labels, Proxy, ProxyType
from pypilot.world.model import Endpoint, MeshPort
from pypilot.world.reader import Reader

_GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
_GATEWAY_API = "gateway.networking.k8s.io"
_WAYPOINT_CLASS = "istio-waypoint"


class PolicySet(NamedTuple):
    """The policies of one workload by reference, root namespace first: the key of its filters."""

    custom: tuple[Ref, ...] = ()
    authentication: tuple[Ref, ...] = ()
    audit: tuple[Ref, ...] = ()
    deny: tuple[Ref, ...] = ()
    allow: tuple[Ref, ...] = ()
    at_edge: bool = False
    """For a gateway: routes are chosen anew once the token is known (RA-010)."""
    tunnelled: bool = False
    """Inside an HBONE tunnel, which knows who the peer is (AZ-024)."""


NO_POLICIES = PolicySet()


class Workload(NamedTuple):
    """What selects policies."""

    namespace: str
    labels: Labels
    type: ProxyType


class MutualTls(NamedTuple):
    """Which mutual TLS a workload demands."""

    default: MutualTLSMode = "PERMISSIVE"
    ports: tuple[tuple[int, MutualTLSMode], ...] = ()
    """By port of the workload, in order; only those that differ in writing."""

    def of(self, port: int) -> MutualTLSMode:
        """The mode of a port."""
        return next((mode for number, mode in self.ports if number == port), self.default)


def _holds(selector: PodSelector | None, labels: dict[str, str]) -> bool:
    return selector is None or all(labels.get(k) == v for k, v in selector.match_labels.items())


def _places(reader: Reader, namespace: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((reader.mesh().root_namespace, namespace)))


def _is_meant(target: TargetReference, policy: Ref, root: str, gateway: str, workload: Workload) -> bool:
    if target.group != _GATEWAY_API:
        return False
    if target.kind == "GatewayClass":
        return policy.namespace == root and workload.type == "waypoint" and target.name == _WAYPOINT_CLASS
    is_here = policy.namespace == workload.namespace and target.namespace in ("", workload.namespace)
    return is_here and target.kind == "Gateway" and target.name == gateway


def _attaches(policy: AuthorizationPolicy | RequestAuthentication, root: str, workload: Workload) -> bool:
    """Waypoints are meant by targetRefs alone, other Gateways by labels, too, workloads by labels alone (AZ-004)."""
    have = dict(workload.labels)
    gateway, targets = have.get(_GATEWAY_NAME), policy.spec.targets
    if gateway is None or not targets:
        hidden = targets or (gateway is not None and workload.type == "waypoint")
        return not hidden and _holds(policy.spec.selector, have)
    return any(_is_meant(target, policy.ref, root, gateway, workload) for target in targets)


def _policy_set(reader: Reader, workload: Workload) -> PolicySet:
    by_action: dict[Action, list[Ref]] = {"CUSTOM": [], "AUDIT": [], "DENY": [], "ALLOW": []}
    authentication: list[Ref] = []
    places = _places(reader, workload.namespace)
    for place in places:
        for policy in reader.policies(AuthorizationPolicy, place):
            if _attaches(policy, places[0], workload):
                by_action[policy.spec.action].append(policy.ref)
    # Of rules for the same issuer those of the workload's own namespace come first.
    for place in dict.fromkeys((workload.namespace, *places)):
        requests = reader.policies(RequestAuthentication, place)
        authentication += [r.ref for r in requests if _attaches(r, places[0], workload)]
    made = PolicySet(
        tuple(by_action["CUSTOM"]),
        tuple(authentication),
        tuple(by_action["AUDIT"]),
        tuple(by_action["DENY"]),
        tuple(by_action["ALLOW"]),
    )
    return made._replace(at_edge=workload.type != "sidecar") if authentication else made


def policy_set(reader: Reader, proxy: Proxy) -> PolicySet:
    """The policies for what a workload receives."""
    return reader.call(_policy_set, Workload(proxy.namespace, workload_labels(reader, proxy), proxy.type))


def inside_tunnel(policies: PolicySet) -> PolicySet:
    """The same for what comes through an HBONE tunnel."""
    return policies._replace(tunnelled=True) if policies.audit or policies.deny or policies.allow else policies


def _narrower(mode: MutualTLSMode, wider: MutualTLSMode) -> MutualTLSMode:
    return wider if mode == "UNSET" else mode


def namespace_mode(reader: Reader, namespace: str) -> MutualTLSMode:
    """What the mesh and the namespace say, without the policies of single workloads (PA-001…003)."""
    found: MutualTLSMode = "PERMISSIVE"
    for place in _places(reader, namespace):
        # Of several the oldest.
        own = next((p for p in reader.policies(PeerAuthentication, place) if not p.spec.selects), None)
        if own is not None:
            found = _narrower(own.spec.mode, found)
    return found


def _single_workloads(reader: Reader, namespace: str) -> tuple[PeerAuthentication, ...]:
    """The policies of workloads of a namespace; none counts in the root namespace."""
    if namespace == reader.mesh().root_namespace:
        return ()
    return tuple(p for p in reader.policies(PeerAuthentication, namespace) if p.spec.selects)


def _mutual_tls(reader: Reader, namespace: str, labels: Labels) -> MutualTls:
    wider = reader.call(namespace_mode, namespace)
    have = dict(labels)
    for policy in reader.call(_single_workloads, namespace):
        if _holds(policy.spec.selector, have):
            default = _narrower(policy.spec.mode, wider)
            ports = sorted((int(p), _narrower(tls.mode, default)) for p, tls in policy.spec.port_level_mtls.items())
            return MutualTls(default, tuple(ports))
    return MutualTls(wider)


def mutual_tls(reader: Reader, namespace: str, labels: Labels) -> MutualTls:
    """The modes of a workload with these labels."""
    return reader.call(_mutual_tls, namespace, labels)


def refuses_mutual_tls(reader: Reader, endpoint: Endpoint, port: MeshPort) -> bool:
    """True if an endpoint's own policies take plain text alone on a port of a service (EDS-005, PA-015)."""
    if not reader.call(_single_workloads, endpoint.namespace):
        return reader.call(namespace_mode, endpoint.namespace) == "DISABLE"
    modes = mutual_tls(reader, endpoint.namespace, endpoint.labels)
    return modes.of(endpoint.port(port.name) or 0) == "DISABLE"
