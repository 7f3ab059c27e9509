"""What a route does with a request: `route`, `redirect`, `direct_response` (envoy.config.route.v3).

The operations on headers come from up to four levels: weighted cluster, route, virtual host, configuration. They are
evaluated in this order, so that the last wins, unless `most_specific_header_mutations_wins`.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

from tests.simulate.cluster import endpoints_of
from tests.simulate.fields import (
    Message,
    UnsupportedError,
    at,
    flag,
    items,
    number,
    runtime_share,
    seconds,
    text,
)
from tests.simulate.headers import edited, edits_of, grpc_timeout, with_header
from tests.simulate.local_reply import local_reply
from tests.simulate.model import Connection, Edits, Forward, Mirror, Outcome, Reply, Request, Trace
from tests.simulate.passing import Passing
from tests.simulate.redirect import location, status_of
from tests.simulate.resources import Resources
from tests.simulate.rewrite import rewrite, rewritten_path

DEFAULT_TIMEOUT = Fraction(15)
_NOT_FOUND_STATUS = {"SERVICE_UNAVAILABLE": 503, "NOT_FOUND": 404, "INTERNAL_SERVER_ERROR": 500}


@dataclass(frozen=True, slots=True)
class Place:
    """A route, the levels above it, and where they stand."""

    route: Message
    host: Message
    configuration: Message
    resource: str
    path: str
    quiet: bool = False
    """`suppress_envoy_headers` of the router."""

    def levels(self, side: str, share_: Message | None = None) -> tuple[Edits, ...]:
        """Operations in the order of their evaluation."""
        holders = (*((share_,) if share_ is not None else ()), self.route, self.host, self.configuration)
        found = tuple(edits for holder in holders if (edits := edits_of(holder, side)))
        ascending = flag(self.configuration, "most_specific_header_mutations_wins")
        return tuple(reversed(found)) if ascending else found


def _body(source: Message) -> bytes:
    if "inline_bytes" in source:
        return base64.b64decode(text(source, "inline_bytes"))
    if "filename" in source or "environment_variable" in source:
        raise UnsupportedError("a body from a file or the environment")
    return text(source, "inline_string").encode()


def _redirect(place: Place, request: Request) -> Reply:
    action, match = at(place.route, "redirect"), at(place.route, "match")
    path = rewritten_path(action, match, request)
    return local_reply(
        request,
        status_of(action),
        details="direct_response",
        headers=(("location", location(action, request, path)),),
        edits=place.levels("response"),
    )


def _direct_response(place: Place, request: Request) -> Reply:
    action = at(place.route, "direct_response")
    status = number(action, "status")
    here = (("location", location({}, request, request.path)),) if status == 201 or 300 <= status < 400 else ()
    return local_reply(
        request,
        status,
        _body(at(action, "body")),
        headers=here,
        details="direct_response",
        edits=place.levels("response"),
    )


def answer(place: Place, request: Request, trace: Trace) -> Reply | None:
    """The reply of a route that sends nothing on; None for one that does."""
    if "redirect" in place.route:
        reply = _redirect(place, request)
        where = next(value for name, value in reply.headers if name == "location")
        trace.note("route action", place.resource, f"{place.path}.redirect", f"{reply.status} to {where}")
        return reply
    if "direct_response" in place.route:
        reply = _direct_response(place, request)
        trace.note("route action", place.resource, f"{place.path}.direct_response", f"answers {reply.status}")
        return reply
    if "route" not in place.route:
        raise UnsupportedError(f"Route without redirect, direct_response and route: {sorted(place.route)}")
    return None


@dataclass(frozen=True, slots=True)
class Target:
    """A cluster, and the weighted cluster that it comes from. Envoy chooses it together with the route."""

    cluster: str
    weighted: Message | None = None
    path: str = ""
    subset: Message = field(default_factory=dict)


def clusters_of(place: Place, request: Request) -> Iterator[tuple[Fraction, Target]]:
    """The clusters of a route with their probabilities; one without a name for a route that sends nothing on."""
    if "route" not in place.route:
        yield Fraction(1), Target("")
        return
    action = at(place.route, "route")
    match = at(action, "metadata_match", "filter_metadata", "envoy.lb")
    if "cluster" in action:
        yield Fraction(1), Target(text(action, "cluster"), path="route.cluster", subset=match)
    elif "cluster_header" in action:
        named = request.value(text(action, "cluster_header")) or ""
        yield Fraction(1), Target(named, path="route.cluster_header", subset=match)
    elif "weighted_clusters" in action:
        shares = items(at(action, "weighted_clusters"), "clusters")
        total = sum(number(weighted, "weight") for weighted in shares)
        for i, weighted in enumerate(shares):
            part = number(weighted, "weight")
            name = text(weighted, "name") or request.value(text(weighted, "cluster_header")) or ""
            own = at(weighted, "metadata_match", "filter_metadata", "envoy.lb")
            if part:
                path = f"route.weighted_clusters.clusters[{i}]"
                yield Fraction(part, total), Target(name, weighted, path, {**match, **own})
    else:
        raise UnsupportedError(f"RouteAction: {sorted(action)}")


def _hash_keys(action: Message) -> tuple[str, ...]:
    found = []
    for policy in items(action, "hash_policy"):
        for kind in ("header", "cookie", "query_parameter", "connection_properties", "filter_state"):
            if kind in policy:
                part = at(policy, kind)
                name = text(part, "header_name") or text(part, "name") or text(part, "key")
                found.append(f"{kind} {name}".strip())
    return tuple(found)


def _mirrors(action: Message, request: Request) -> tuple[Mirror, ...]:
    found = []
    for policy in items(action, "request_mirror_policies"):
        fraction = at(policy, "runtime_fraction")
        chance = runtime_share(fraction) if fraction else Fraction(1)
        name = text(policy, "cluster") or request.value(text(policy, "cluster_header")) or ""
        found.append(Mirror(name, chance))
    return tuple(found)


def _timeout(action: Message, request: Request) -> Fraction | None:
    """Of the whole request; that of gRPC may be the client's own, up to a limit (`max_grpc_timeout`)."""
    given = seconds(action, "timeout")
    limit = DEFAULT_TIMEOUT if given is None else given
    if request.is_grpc and (most := seconds(action, "max_grpc_timeout")) is not None:
        asked = grpc_timeout(request.value("grpc-timeout") or "")
        limit = most if not asked else min(asked, most or asked)
    return limit or None


def _upstream_request(place: Place, target: Target, request: Request) -> Request:
    """Headers first, a weighted cluster's own host, then the route's host and path, then Envoy's own headers."""
    action, weighted = at(place.route, "route"), target.weighted
    seen = request
    for edits in place.levels("request", weighted):
        seen = edited(seen, edits)
        if weighted is not None and edits == edits_of(weighted, "request"):
            seen = _own_host(weighted, seen)
    if weighted is not None and not edits_of(weighted, "request"):
        seen = _own_host(weighted, seen)
    seen = rewrite(action, at(place.route, "match"), seen, keep_original=not place.quiet)
    limit = _timeout(action, request)
    if request.is_grpc and limit is not None:
        seen = replace(seen, headers=with_header(seen.headers, "grpc-timeout", f"{int(limit * 1000)}m"))
    if flag(place.host, "include_request_attempt_count"):
        seen = replace(seen, headers=with_header(seen.headers, "x-envoy-attempt-count", "1"))
    return seen


def _own_host(weighted: Message, request: Request) -> Request:
    return replace(request, authority=text(weighted, "host_rewrite_literal") or request.authority)


def forward(
    place: Place, target: Target, passing: Passing, resources: Resources, connection: Connection, trace: Trace
) -> Outcome:
    """Send the request on to a cluster."""
    action = at(place.route, "route")
    edits = place.levels("response", target.weighted)
    request = _upstream_request(place, target, passing.request)
    endpoints = endpoints_of(target.cluster, resources, connection, trace, target.subset, request.authority)
    if endpoints is None:
        status = _NOT_FOUND_STATUS[text(action, "cluster_not_found_response_code", "SERVICE_UNAVAILABLE")]
        return local_reply(passing.request, status, flags="NC", details="cluster_not_found", edits=edits)
    if not endpoints:
        details = "no_healthy_upstream"
        return local_reply(request, 503, b"no healthy upstream", flags="UH", details=details, edits=edits)
    retries = at(action, "retry_policy") or at(place.host, "retry_policy")
    return Forward(
        cluster=target.cluster,
        request=request,
        endpoints=endpoints,
        response_edits=edits,
        response_set=passing.response_set,
        timeout=_timeout(action, passing.request),
        attempts=1 + (number(retries, "num_retries", 1) if retries else 0),
        retry_on=tuple(word for word in text(retries, "retry_on").split(",") if word),
        mirrors=_mirrors(action, request),
        hash_by=_hash_keys(action),
        delay=passing.delay,
    )
