"""A request through an HTTP connection manager: normalisation, virtual host, route, filters, router."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from tests.simulate.fields import Message, UnsupportedError, at, flag, items, text, typed
from tests.simulate.http_filters import ROUTER, pass_filters
from tests.simulate.local_reply import local_reply, with_headers
from tests.simulate.model import Chance, Closed, Connection, Outcome, Reply, Request, Trace, scaled
from tests.simulate.passing import Level, Passing
from tests.simulate.path import normalized, stripped_host
from tests.simulate.redirect import tls_location
from tests.simulate.remote import remote_address
from tests.simulate.resources import Resources
from tests.simulate.route_action import Place, Target, answer, clusters_of, forward
from tests.simulate.route_match import choose_routes
from tests.simulate.virtual_host import choose_virtual_host


def _configuration(manager: Message, resource: str, path: str, resources: Resources) -> tuple[str, str, Message | None]:
    """Resource name, path prefix and message of the route configuration."""
    if "route_config" in manager:
        return resource, f"{path}.route_config.", at(manager, "route_config")
    name = text(at(manager, "rds"), "route_config_name")
    if not name:
        raise UnsupportedError("scoped_routes")
    return f"RDS {name}", "", resources.routes.get(name)


def _quiet(manager: Message) -> bool:
    for http_filter in items(manager, "http_filters"):
        kind, config = typed(http_filter)
        if kind == ROUTER:
            return flag(config, "suppress_envoy_headers")
    return False


def _done(outcome: Reply | Closed, trace: Trace) -> Chance:
    return Chance(Fraction(1), outcome, tuple(trace.steps))


def serve(
    manager: Message,
    resource: str,
    path: str,
    request: Request,
    resources: Resources,
    connection: Connection,
    trace: Trace,
) -> Iterator[Chance]:
    """What the connection manager does with a request.

    Args:
        resource: the listener that holds it.
        path: where in the listener it stands.
    """
    headers = tuple((name.lower(), value) for name, value in request.headers)
    request = replace(request, scheme="https" if connection.tls else "http", headers=headers)
    clean = normalized(request.path, manager)
    if clean is None:
        trace.note("request", resource, path, "a path with a fragment is refused")
        yield _done(local_reply(request, 400, details="path_normalization_failed"), trace)
        return
    if clean != request.path:
        trace.note("request", resource, f"{path}.normalize_path", f"the path becomes {clean}")
    request = replace(request, path=clean, authority=stripped_host(request.authority, connection.port, manager))
    where, prefix, configuration = _configuration(manager, resource, path, resources)
    if configuration is None:
        trace.note("routes", where, "", "Envoy waits for a route configuration that does not exist")
        yield _done(local_reply(request, 404, flags="NR", details="route_not_found"), trace)
        return
    found = choose_virtual_host(configuration, request.authority, where, trace)
    if found is None:
        yield _done(local_reply(request, 404, flags="NR", details="route_not_found"), trace)
        return
    host_path, host = found
    host_path = prefix + host_path
    if text(host, "require_tls", "NONE") != "NONE" and request.scheme != "https":
        to = tls_location(request)
        trace.note("virtual host", where, f"{host_path}.require_tls", f"301 to {to}")
        yield _done(local_reply(request, 301, details="direct_response", headers=(("location", to),)), trace)
        return
    for part, route_path, route, chosen in choose_routes(host_path, host, request, where, trace):
        place = None
        if route is not None:
            place = Place(route, host, configuration, where, route_path, _quiet(manager))
        way = _routed(manager, resource, path, place, request, resources, connection, chosen)
        yield from scaled(tuple(way), part)


def _routed(
    manager: Message,
    resource: str,
    path: str,
    place: Place | None,
    request: Request,
    resources: Resources,
    connection: Connection,
    trace: Trace,
) -> Iterator[Chance]:
    """On a route or on none."""
    if place is None:
        yield from _filtered(manager, resource, path, None, Target(""), request, resources, connection, trace)
        return
    for part, target in clusters_of(place, request):
        seen = trace.fork()
        if target.cluster:
            said = f"{target.cluster} with probability {part}"
            seen.note("route action", place.resource, f"{place.path}.{target.path}", said)
        way = _filtered(manager, resource, path, place, target, request, resources, connection, seen)
        yield from scaled(tuple(way), part)


def _filtered(
    manager: Message,
    resource: str,
    path: str,
    place: Place | None,
    target: Target,
    request: Request,
    resources: Resources,
    connection: Connection,
    trace: Trace,
) -> Iterator[Chance]:
    """Through the filters to the router, the cluster being chosen."""
    remote = remote_address(manager, connection, request)
    level = Level(None, connection=connection, remote=remote)
    if place is not None:
        # Filters' own replies get the operations of routes to clusters alone.
        edits = place.levels("response", target.weighted) if target.cluster else ()
        level = Level(place.route, place.host, target.cluster, edits, connection, remote)
    for part, state, seen in pass_filters(manager, resource, path, level, request, trace):
        reply = state if isinstance(state, Reply) else _end(place, target, state, resources, connection, seen)
        yield Chance(part, reply, tuple(seen.steps))


def _end(
    place: Place | None, target: Target, passing: Passing, resources: Resources, connection: Connection, trace: Trace
) -> Outcome:
    """The router."""
    outcome: Outcome
    if place is None:
        outcome = local_reply(passing.request, 404, flags="NR", details="route_not_found")
    else:
        reply = answer(place, passing.request, trace)
        outcome = reply or forward(place, target, passing, resources, connection, trace)
    if isinstance(outcome, Reply):  # what filters set on the way back
        return replace(with_headers(outcome, passing.response_set), delay=passing.delay)
    return outcome
