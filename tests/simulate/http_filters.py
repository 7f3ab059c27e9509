"""The HTTP filters before the router that answer themselves or touch headers: who may ask, faults, CORS.

Filters that only count or tell peers about each other are passed by. A filter that is not known here is noted in the
trace: what it does is not simulated.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

from tests.simulate.fields import Message, at, flag, items, number, runtime_share, seconds, share, text, typed
from tests.simulate.headers import with_header
from tests.simulate.jwt import JWT, authenticate
from tests.simulate.local_reply import local_reply
from tests.simulate.matchers import all_headers_match, string_matches
from tests.simulate.model import Headers, Reply, Request, Trace
from tests.simulate.passing import Level, Passing, Result
from tests.simulate.rbac import HTTP_RBAC, authorize

FAULT = "envoy.extensions.filters.http.fault.v3.HTTPFault"
CORS = "envoy.extensions.filters.http.cors.v3.Cors"
ROUTER = "envoy.extensions.filters.http.router.v3.Router"
_HARMLESS = ("grpc_stats.v3.FilterConfig", "grpc_web.v3.GrpcWeb", "peer_metadata.Config", "alpn.v2alpha1.FilterConfig")


def _fault(own: Message, name: str, level: Level, passing: Passing) -> Iterator[Result]:
    """A delay, an abort, or both; each draws its own lot (envoy.extensions.filters.http.fault.v3)."""
    fault = level.config(name) or own
    request = passing.request
    wanted = text(fault, "upstream_cluster")
    if (wanted and wanted != level.cluster) or not all_headers_match(items(fault, "headers"), request):
        yield Fraction(1), passing, ""
        return
    delay, abort = at(fault, "delay"), at(fault, "abort")
    late = share(at(delay, "percentage")) if "fixed_delay" in delay else Fraction(0)
    stopped = share(at(abort, "percentage")) if "http_status" in abort or "grpc_status" in abort else Fraction(0)
    for delayed, chance in ((True, late), (False, 1 - late)):
        waiting = passing
        if delayed:
            waiting = replace(passing, delay=passing.delay + (seconds(delay, "fixed_delay") or 0))
        if chance * stopped:
            yield chance * stopped, _abort(abort, level, waiting, "DI,FI" if delayed else "FI"), "aborted"
        if chance * (1 - stopped):
            yield chance * (1 - stopped), waiting, f"delayed by {waiting.delay} s" if delayed else ""


def _abort(abort: Message, level: Level, passing: Passing, flags: str) -> Reply:
    status, grpc = number(abort, "http_status"), number(abort, "grpc_status")
    if "http_status" not in abort:
        status = 200
    reply = local_reply(
        passing.request, status, b"fault filter abort", flags=flags, details="fault_filter_abort", edits=level.edits
    )
    if "http_status" not in abort and passing.request.is_grpc:
        reply = replace(reply, headers=with_header(reply.headers, "grpc-status", str(grpc)))
    return replace(reply, delay=passing.delay)


def _matches_origin(policy: Message, origin: str) -> bool:
    return any(
        string_matches(matcher, "*") or string_matches(matcher, origin)
        for matcher in items(policy, "allow_origin_string_match")
    )


def _preflight_headers(policy: Message, request: Request) -> Iterator[tuple[str, str]]:
    for name, header in (
        ("allow_methods", "allow-methods"),
        ("allow_headers", "allow-headers"),
        ("max_age", "max-age"),
    ):
        value = text(policy, name)
        if value == "*" and name != "max_age":
            asked = header.removeprefix("allow-").replace("methods", "method")
            value = request.value(f"access-control-request-{asked}") or ""
        if value:
            yield f"access-control-{header}", value


def _cors(_: Message, name: str, level: Level, passing: Passing) -> Iterator[Result]:
    """Answers preflight requests, and tells browsers about the others (envoy.extensions.filters.http.cors.v3).

    Only on routes to clusters. A preflight of another origin that is not forwarded is answered, too, only without
    that origin.
    """
    policy, request = level.config(name), passing.request
    origin = request.value("origin")
    enabled = runtime_share(at(policy, "filter_enabled")) if "filter_enabled" in policy else Fraction(1)
    if level.route is None or "route" not in level.route or not policy or not enabled or not origin:
        yield Fraction(1), passing, ""
        return
    allowed = _matches_origin(policy, origin)
    credentials = (("access-control-allow-credentials", "true"),) if flag(policy, "allow_credentials") else ()
    onward: Headers = ()
    if allowed:
        exposed = text(policy, "expose_headers")
        onward = (("access-control-allow-origin", origin), *credentials)
        onward += (("access-control-expose-headers", exposed),) if exposed else ()
    said = "the origin is allowed" if allowed else "the origin is not allowed"
    preflight = request.method == "OPTIONS" and request.value("access-control-request-method")
    if preflight and (allowed or not flag(policy, "forward_not_matching_preflights", True)):
        headers = (*(onward or credentials), *_preflight_headers(policy, request))
        yield Fraction(1), Reply(200, "", "cors_response", headers), f"answers the preflight: {said}"
        return
    yield Fraction(1), replace(passing, response_set=(*passing.response_set, *onward)), said


_FILTERS: Mapping[str, Callable[[Message, str, Level, Passing], Iterator[Result]]] = {
    HTTP_RBAC: authorize,
    JWT: authenticate,
    FAULT: _fault,
    CORS: _cors,
}


def pass_filters(
    manager: Message, resource: str, manager_path: str, level: Level, request: Request, trace: Trace
) -> Iterator[tuple[Fraction, Passing | Reply, Trace]]:
    """Every way through the filters up to the router, with its probability."""
    ways: list[tuple[Fraction, Passing | Reply, Trace]] = [(Fraction(1), Passing(request), trace)]
    for i, http_filter in enumerate(items(manager, "http_filters")):
        kind, own = typed(http_filter)
        name, path = text(http_filter, "name"), f"{manager_path}.http_filters[{i}]"
        if kind in _FILTERS:
            ways = [new for way in ways for new in _step(way, _FILTERS[kind], own, name, level, resource, path)]
        elif kind != ROUTER and not kind.endswith(_HARMLESS):
            for _, state, seen in ways:
                if isinstance(state, Passing):
                    seen.note("http filter", resource, path, f"what {name} does is not simulated")
    yield from ways


def _step(
    way: tuple[Fraction, Passing | Reply, Trace],
    run: Callable[[Message, str, Level, Passing], Iterator[Result]],
    own: Message,
    name: str,
    level: Level,
    resource: str,
    path: str,
) -> Iterator[tuple[Fraction, Passing | Reply, Trace]]:
    chance, state, trace = way
    if isinstance(state, Reply):
        yield way
        return
    for part, after, said in run(own, name, level, state):
        seen = trace.fork()
        if said:
            seen.note("http filter", resource, f"{path} {name}", said)
        yield chance * part, after, seen
