"""Which route of a virtual host a request takes: the first whose match holds (envoy.config.route.v3.RouteMatch)."""

from collections.abc import Iterator
from fractions import Fraction

from tests.simulate.fields import Message, UnsupportedError, at, flag, items, only, runtime_share, text
from tests.simulate.matchers import all_headers_match, query_matches, query_parameters
from tests.simulate.model import Request, Trace
from tests.simulate.regex import full_match

PATH_KINDS = (
    "prefix", "path", "safe_regex", "path_separated_prefix", "connect_matcher", "path_match_policy",
)  # fmt: skip


def path_matches(match: Message, request: Request) -> bool:
    """The path specifier. The query does not count."""
    kind, path = only(match, PATH_KINDS), request.pure_path
    if kind == "connect_matcher":
        return request.method == "CONNECT"
    if request.method == "CONNECT" and not request.path:
        return False
    if kind == "safe_regex":
        return full_match(text(at(match, kind), "regex"), path)
    if kind not in ("", "prefix", "path", "path_separated_prefix"):
        raise UnsupportedError(f"RouteMatch.{kind}")
    wanted = text(match, kind)
    if not flag(match, "case_sensitive", True):
        wanted, path = wanted.lower(), path.lower()
    if kind == "path":
        return path == wanted
    if kind == "path_separated_prefix":
        return path == wanted or path.startswith(f"{wanted}/")
    return path.startswith(wanted)


def _failed(match: Message, request: Request) -> str:
    """The first field of the match that does not hold; empty if all do."""
    if not path_matches(match, request):
        return only(match, PATH_KINDS)
    if "grpc" in match and not request.is_grpc:
        return "grpc"
    if not all_headers_match(items(match, "headers"), request):
        return "headers"
    parameters = query_parameters(request.path)
    if not all(query_matches(matcher, parameters) for matcher in items(match, "query_parameters")):
        return "query_parameters"
    for field in ("tls_context", "filter_state", "cookies"):
        if field in match:
            raise UnsupportedError(f"RouteMatch.{field}")
    # Metadata comes from filters that this simulator does not run: there is none.
    return "dynamic_metadata" if any(not flag(m, "invert") for m in items(match, "dynamic_metadata")) else ""


def choose_routes(
    host_path: str, host: Message, request: Request, resource: str, trace: Trace
) -> Iterator[tuple[Fraction, str, Message | None, Trace]]:
    """Routes with their probabilities, which sum to 1; None for no route.

    More than one comes only where `runtime_fraction` lets a part of the requests through.
    """
    left = Fraction(1)
    for i, route in enumerate(items(host, "routes")):
        match, path = at(route, "match"), f"{host_path}.routes[{i}]"
        failed = _failed(match, request)
        if failed:
            trace.note("route", resource, f"{path}.match.{failed}", f"{text(route, 'name') or i} does not match")
            continue
        taken = left * runtime_share(at(match, "runtime_fraction")) if "runtime_fraction" in match else left
        if taken:
            chosen = trace.fork()
            field = only(match, PATH_KINDS)
            chosen.note("route", resource, f"{path}.match.{field}", f"{text(route, 'name') or i} matches")
            yield taken, path, route, chosen
        left -= taken
        if not left:
            return
    trace.note("route", resource, f"{host_path}.routes", "no route matches")
    yield left, host_path, None, trace
