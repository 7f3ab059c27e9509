"""What makes a VirtualService wrong beyond its types (VAL-002), and its registry entry."""

from collections.abc import Iterable, Mapping, Sequence

from pypilot.kinds.base import Finding, Kind, StringMatch
from pypilot.kinds.names import is_network
from pypilot.kinds.re2 import is_re2
from pypilot.kinds.virtual_service import (
    HTTPMatchRequest,
    HTTPRoute,
    HTTPRouteDestination,
    RouteDestination,
    VirtualService,
)
from pypilot.kinds.virtual_service_advice import advise
from pypilot.kinds.virtual_service_refusals import refusals

_REDIRECT_CODES = frozenset({0, 301, 302, 303, 307, 308})


def _validate_match(match: StringMatch | None, path: str) -> Iterable[Finding]:
    if match is None:
        return
    given = [name for name in ("exact", "prefix", "regex") if getattr(match, name) is not None]
    if len(given) > 1:
        yield Finding(path, f"only one of exact, prefix and regex may be given, not {' and '.join(given)}")
    if match.regex and match.regex != "*" and not is_re2(match.regex):  # `*` alone means "present" (VS-032)
        yield Finding(f"{path}.regex", f"{match.regex!r} is not a regular expression of RE2, the kind that Envoy runs")


def _validate_matches(matches: Mapping[str, StringMatch], path: str) -> Iterable[Finding]:
    for key, match in matches.items():
        yield from _validate_match(match, f"{path}.{key}")


def _validate_http_match(match: HTTPMatchRequest, path: str) -> Iterable[Finding]:
    for name in ("uri", "scheme", "method", "authority"):
        yield from _validate_match(getattr(match, name), f"{path}.{name}")
    yield from _validate_matches(match.headers, f"{path}.headers")
    yield from _validate_matches(match.without_headers, f"{path}.withoutHeaders")
    yield from _validate_matches(match.query_params, f"{path}.queryParams")


def _validate_weights(routes: Sequence[HTTPRouteDestination | RouteDestination], path: str) -> Iterable[Finding]:
    if len(routes) > 1 and sum(route.weight for route in routes) == 0:
        yield Finding(path, "the weights of several destinations must not sum to 0 (VAL-002)")
    for i, route in enumerate(routes):
        if not route.destination.host:
            yield Finding(f"{path}[{i}].destination.host", "a host is needed")


def _validate_subnets(subnets: Sequence[str], path: str) -> Iterable[Finding]:
    for i, subnet in enumerate(subnets):
        if not is_network(subnet):
            message = f"{subnet!r} is neither an IP address nor a CIDR, nothing matches it"
            yield Finding(f"{path}.destinationSubnets[{i}]", message, severity="warning", code="no-subnet")


def _validate_http(route: HTTPRoute, path: str) -> Iterable[Finding]:
    actions = [
        name
        for name, given in (
            ("route", bool(route.route)),
            ("redirect", route.redirect is not None),
            ("directResponse", route.direct_response is not None),
            ("delegate", route.delegate is not None),
        )
        if given
    ]
    if not actions:
        yield Finding(path, "one of route, redirect, directResponse and delegate is needed (VAL-002)")
    elif len(actions) > 1:
        yield Finding(path, f"only one action may be given, not {' and '.join(actions)} (VAL-002)")
    for i, match in enumerate(route.match):
        yield from _validate_http_match(match, f"{path}.match[{i}]")
    yield from _validate_weights(route.route, f"{path}.route")
    if route.redirect is not None and route.redirect.redirect_code not in _REDIRECT_CODES:
        yield Finding(
            f"{path}.redirect.redirectCode", f"{route.redirect.redirect_code} is not one of 301, 302, 303, 307, 308"
        )
    if route.direct_response is not None and not 200 <= route.direct_response.status <= 599:
        status = route.direct_response.status
        yield Finding(f"{path}.directResponse.status", f"{status} is not an HTTP status (200-599)")
    if route.retries is not None and route.retries.attempts < 0:
        yield Finding(f"{path}.retries.attempts", f"{route.retries.attempts} must not be negative (VAL-002)")
    rewrite = route.rewrite.uri_regex_rewrite if route.rewrite is not None else None
    if rewrite is not None and not is_re2(rewrite.match):
        message = f"{rewrite.match!r} is not a regular expression of RE2, the kind that Envoy runs"
        yield Finding(f"{path}.rewrite.uriRegexRewrite.match", message)
    if route.timeout is not None and route.timeout.nanos < 0:
        yield Finding(f"{path}.timeout", f"{route.timeout} must not be negative")


def validate(service: VirtualService) -> Iterable[Finding]:
    """Checks of VAL-002."""
    spec = service.spec
    is_delegate = not spec.hosts
    if is_delegate and (spec.gateways or spec.tls or spec.tcp):
        yield Finding("spec.hosts", "a VirtualService without hosts is a delegate: no gateways, tls or tcp (VAL-002)")
    if not (spec.http or spec.tls or spec.tcp):
        yield Finding("spec", "one of http, tls and tcp is needed (VAL-002)")
    seen: set[str] = set()
    for i, host in enumerate(spec.hosts):
        if host in seen:
            yield Finding(f"spec.hosts[{i}]", f"host {host!r} is listed twice (VAL-002)")
        seen.add(host)
        if host == "*" and (not spec.gateways or "mesh" in spec.gateways):
            yield Finding(f"spec.hosts[{i}]", "the host * is not allowed together with the gateway mesh (VS-006)")
    for i, route in enumerate(spec.http):
        yield from _validate_http(route, f"spec.http[{i}]")
    for i, tls in enumerate(spec.tls):
        path = f"spec.tls[{i}]"
        if not tls.match:
            yield Finding(f"{path}.match", "a TLS route needs a match with sniHosts")
        for j, match in enumerate(tls.match):
            if not match.sni_hosts:
                yield Finding(f"{path}.match[{j}].sniHosts", "at least one SNI host is needed")
            yield from _validate_subnets(match.destination_subnets, f"{path}.match[{j}]")
        if not tls.route:
            yield Finding(f"{path}.route", "a destination is needed")
        yield from _validate_weights(tls.route, f"{path}.route")
    for i, tcp in enumerate(spec.tcp):
        for j, l4_match in enumerate(tcp.match):
            yield from _validate_subnets(l4_match.destination_subnets, f"spec.tcp[{i}].match[{j}]")
        if not tcp.route:
            yield Finding(f"spec.tcp[{i}].route", "a destination is needed")
        yield from _validate_weights(tcp.route, f"spec.tcp[{i}].route")


KIND = Kind(
    VirtualService,
    "networking.istio.io",
    ("v1", "v1beta1", "v1alpha3"),
    "virtualservices",
    units=("spec.http[]", "spec.tls[]", "spec.tcp[]"),
    validate=validate,
    advise=advise,
    refusals=refusals,
    short_names=("vs",),
    columns=("spec.gateways", "spec.hosts"),
)
