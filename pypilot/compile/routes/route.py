"""One Envoy route from one rule of a VirtualService and one of its matches (VS-019…026, VS-037…044, VS-057).

Everything that depends on who asks comes in as `Targets`; what a single field means is told in `compile.features`.
"""

from collections.abc import Callable
from typing import NamedTuple

from envoy.config.route.v3 import route_components_pb2 as routes
from google.protobuf import wrappers_pb2

from pypilot.compile.features.cors import apply_cors
from pypilot.compile.features.direct_response import direct_response_action
from pypilot.compile.features.fault import apply_fault
from pypilot.compile.features.hash_policy import hash_policy
from pypilot.compile.features.headers import HeaderEdits, apply_headers, header_edits
from pypilot.compile.features.mirror import apply_mirrors
from pypilot.compile.features.redirect import redirect_action
from pypilot.compile.features.retries import retry_policy
from pypilot.compile.features.rewrite import apply_rewrite
from pypilot.compile.features.timeouts import apply_timeout
from pypilot.compile.messages import istio_metadata
from pypilot.compile.naming import config_path
from pypilot.compile.routes.match import route_match
from pypilot.compile.routes.virtual_services import ResolvedVirtualService
from pypilot.kinds.destination_rule import ConsistentHashLB
from pypilot.kinds.virtual_service import Destination, HTTPMatchRequest, HTTPRetry, HTTPRoute, HTTPRouteDestination

_OUTBOUND = "outbound|"


class Targets(NamedTuple):
    """What the routes of one VirtualService need to know of the world."""

    port: int
    """Port of the listener; on gateways the number that the server names."""
    cluster_of: Callable[[Destination], str]
    hash_of: Callable[[Destination], ConsistentHashLB | None]
    default_retries: HTTPRetry | None = None
    tls: bool = False
    """The listener terminates TLS."""
    forwarded_host: bool = False
    """Rewritten requests carry `x-forwarded-host` (PC-017)."""


def _operation(route: routes.Route, service: ResolvedVirtualService, port: int) -> str:
    """The name of the trace span: `HOST:PORT/PATH` of a lone destination, else of the VirtualService (VS-025)."""
    match = route.match
    kind = match.WhichOneof("path_specifier")
    if kind == "prefix":
        path = f"{match.prefix}*"
    elif kind == "path":
        path = match.path
    else:
        path = match.safe_regex.regex if kind == "safe_regex" else "/*"
    if route.route.cluster.startswith(_OUTBOUND):
        _, number, _, host = route.route.cluster.split("|", 3)
        return f"{host}:{number}{path}"
    return f"{service.name}:{port}{path}"


def _set_authority(action: routes.RouteAction, authority: str) -> None:
    if authority:
        action.host_rewrite_literal = authority


def _single(route: routes.Route, destination: HTTPRouteDestination, targets: Targets) -> None:
    """The weight of a lone destination does not count (VS-041); its header operations go to the route (VS-042)."""
    route.route.cluster = targets.cluster_of(destination.destination)
    edits = header_edits(destination.headers)
    apply_headers(route, edits)
    if not route.route.host_rewrite_literal:
        _set_authority(route.route, edits.authority)


def _weighted(
    route: routes.Route, destinations: tuple[HTTPRouteDestination, ...], targets: Targets
) -> tuple[HTTPRouteDestination, ...]:
    """Weights as given; destinations without one get nothing (VS-040). Returns those that are used."""
    used = tuple(d for d in destinations if d.weight > 0)
    for destination in used:
        share = route.route.weighted_clusters.clusters.add(
            name=targets.cluster_of(destination.destination),
            weight=wrappers_pb2.UInt32Value(value=destination.weight),
        )
        edits = header_edits(destination.headers)
        apply_headers(share, edits)
        if edits.authority:
            share.host_rewrite_literal = edits.authority
    return used


def _forward(
    route: routes.Route, service: ResolvedVirtualService, rule: HTTPRoute, edits: HeaderEdits, targets: Targets
) -> bool:
    """Fill in the action of a rule with destinations; False if none of them gets any request."""
    action = route.route
    apply_timeout(action, rule.timeout)
    if service.semantics == "gateway":
        action.cluster_not_found_response_code = routes.RouteAction.INTERNAL_SERVER_ERROR  # VS-044
    authority = edits.authority
    if rule.rewrite is not None:
        action.append_x_forwarded_host = targets.forwarded_host
        apply_rewrite(action, rule.rewrite, route.match, segments=service.semantics == "gateway")
        authority = rule.rewrite.authority or authority
    _set_authority(action, authority)
    apply_mirrors(action, rule, targets.cluster_of)
    used = rule.route
    if len(rule.route) == 1:
        _single(route, rule.route[0], targets)
    else:
        used = _weighted(route, rule.route, targets)
    hashes = [targets.hash_of(destination.destination) for destination in used]
    action.hash_policy.extend(policy for hashed in hashes if (policy := hash_policy(hashed)) is not None)
    hashed_alone = len(rule.route) == 1 and hashes[0] is not None
    retries = retry_policy(rule.retries or targets.default_retries, hashed_alone)
    if retries is not None:
        action.retry_policy.CopyFrom(retries)
    return bool(used)


def build_route(
    service: ResolvedVirtualService, rule: HTTPRoute, match: HTTPMatchRequest | None, targets: Targets
) -> routes.Route | None:
    """The route; None for a rule that says nothing that Envoy could do (VS-018)."""
    joined = f"{rule.name}.{match.name}" if match is not None and match.name else rule.name
    route = routes.Route(
        name=joined,
        match=route_match(match, separated=service.semantics != ""),
        metadata=istio_metadata({"config": config_path(service.ref, service.api_version)}),
        stat_prefix=match.stat_prefix if match is not None else "",
    )
    edits = header_edits(rule.headers)
    apply_headers(route, edits)
    if rule.redirect is not None:
        action = redirect_action(rule.redirect, targets.port, targets.tls)
        if action is None:
            return None
        route.redirect.CopyFrom(action)
    elif rule.direct_response is not None:
        route.direct_response.CopyFrom(direct_response_action(rule.direct_response))
    elif not _forward(route, service, rule, edits, targets):
        return None
    route.decorator.operation = _operation(route, service, targets.port)
    apply_fault(route, rule)
    apply_cors(route, rule)
    return route
