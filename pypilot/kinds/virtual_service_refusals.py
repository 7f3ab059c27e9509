"""What Istio's webhook refuses in VirtualServices although it could be served (VAL-002). Pure."""

import http
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Final

from pypilot.kinds.base import Finding, StringMatch
from pypilot.kinds.names import export_defects, is_address, is_label
from pypilot.kinds.refusals import (
    changed_header_defects,
    gateway_defects,
    header_name_defects,
    host_defects,
    is_authority,
    is_header,
    labels_defects,
    percent_defects,
    port_defects,
    refuse,
    refused,
    set_header_defects,
    time_defects,
)
from pypilot.kinds.virtual_service import (
    MESH,
    CorsPolicy,
    Destination,
    Headers,
    HTTPFaultInjection,
    HTTPMatchRequest,
    HTTPRedirect,
    HTTPRetry,
    HTTPRoute,
    HTTPRouteDestination,
    L4MatchAttributes,
    PercentValue,
    RouteDestination,
    TLSMatchAttributes,
    VirtualService,
)

_CLAIMS = "@request.auth.claims"
_LONGEST_REGEX = 1024
_LARGEST_BODY = 1 << 20
_METHODS: Final = frozenset({*(method.value for method in http.HTTPMethod), "*"})
_STATUSES: Final = frozenset(str(status.value) for status in http.HTTPStatus)
_RETRY_ON: Final = frozenset(
    {
        *("5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx"),
        *("refused-stream", "retriable-status-codes", "retriable-headers", "envoy-ratelimited"),
        *("http3-post-connect-failure", "cancelled", "deadline-exceeded", "internal", "resource-exhausted"),
        "unavailable",
    }
)
_GRPC_STATUSES: Final = frozenset(
    {
        *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
        *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
        *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
    }
)


def _destination(path: str, destination: Destination | None) -> Iterator[Finding]:
    if destination is None:
        return
    if destination.host == "*":
        yield refuse(f"{path}.host", "a request cannot be sent to *")
    yield from host_defects(f"{path}.host", destination.host)
    if destination.subset and not is_label(destination.subset):
        yield refuse(f"{path}.subset", f"{destination.subset!r} is not the name of a subset")
    yield from port_defects(f"{path}.port.number", destination.port.number)


def _destinations(path: str, routes: Sequence[HTTPRouteDestination | RouteDestination]) -> Iterator[Finding]:
    for i, route in enumerate(routes):
        yield from _destination(f"{path}[{i}].destination", route.destination)
        if isinstance(route, HTTPRouteDestination):
            yield from _headers(f"{path}[{i}].headers", route.headers)


def _headers(path: str, headers: Headers | None) -> Iterator[Finding]:
    if headers is None:
        return
    for side, changed in (("request", headers.request), ("response", headers.response)):
        if changed is not None:
            yield from set_header_defects(f"{path}.{side}.set", changed.set, authority=side == "request")
            yield from set_header_defects(f"{path}.{side}.add", changed.add, authority=side == "request")
            for i, name in enumerate(changed.remove):
                yield from changed_header_defects(f"{path}.{side}.remove[{i}]", name)


def _text(path: str, match: StringMatch | None, *, empty_prefix: bool = False) -> Iterator[Finding]:
    if match is None:
        return
    if match.prefix == "" and not empty_prefix:
        yield refuse(f"{path}.prefix", "an empty prefix matches everything")
    if match.regex == "":
        yield refuse(f"{path}.regex", "a regular expression must not be empty")
    if match.regex is not None and len(match.regex) > _LONGEST_REGEX:
        yield refuse(f"{path}.regex", f"the regular expression has more than {_LONGEST_REGEX} characters")


def _http_match(path: str, match: HTTPMatchRequest, at_gateway: bool) -> Iterator[Finding]:
    yield from _text(f"{path}.uri", match.uri, empty_prefix=True)
    for name in ("scheme", "method", "authority"):
        yield from _text(f"{path}.{name}", getattr(match, name))
    for name, matches in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
        for header, text in matches.items():
            yield from header_name_defects(f"{path}.{name}.{header}", header)
            yield from _text(f"{path}.{name}.{header}", text)
            if header.startswith(_CLAIMS) and not at_gateway:
                yield refuse(f"{path}.{name}.{header}", "claims of tokens can be matched at gateways only")
    for name, text in match.query_params.items():
        yield from _text(f"{path}.queryParams.{name}", text)
    yield from port_defects(f"{path}.port", match.port)
    yield from _source(path, match)


def _source(path: str, match: HTTPMatchRequest | TLSMatchAttributes | L4MatchAttributes) -> Iterator[Finding]:
    yield from labels_defects(f"{path}.sourceLabels", match.source_labels)
    yield from gateway_defects(f"{path}.gateways", match.gateways)
    if match.source_namespace and not is_label(match.source_namespace):
        yield refuse(f"{path}.sourceNamespace", f"{match.source_namespace!r} is not a namespace")


def _actions(path: str, route: HTTPRoute, is_delegate: bool) -> Iterator[Finding]:
    if is_delegate and route.delegate is not None:
        yield refuse(f"{path}.delegate", "a delegate cannot delegate")
    action = "redirect" if route.redirect is not None else "directResponse" if route.direct_response is not None else ""
    for name in ("fault", "rewrite") if action else ():
        if getattr(route, name) is not None:
            yield refuse(f"{path}.{name}", f"{action} is given")
    if route.mirror is not None and route.mirrors:
        yield refuse(f"{path}.mirror", "mirrors is given")
    yield from _redirect(f"{path}.redirect", route.redirect, route.match)
    body = route.direct_response.body if route.direct_response is not None else None
    if body is not None and len(body.string or body.bytes or "") > _LARGEST_BODY:
        yield refuse(f"{path}.directResponse.body", "the body has more than 1 MiB")
    rewrite = route.rewrite
    if rewrite is not None:
        regex = rewrite.uri_regex_rewrite
        if not (rewrite.uri or rewrite.authority or regex is not None):
            yield refuse(f"{path}.rewrite", "nothing is rewritten")
        if rewrite.uri and regex is not None:
            yield refuse(f"{path}.rewrite.uri", "uriRegexRewrite is given")
        if regex is not None and not (regex.match and regex.rewrite):
            yield refuse(f"{path}.rewrite.uriRegexRewrite", "both match and rewrite are needed")
    changed = route.headers.request if route.headers is not None else None
    names = [name for values in ((changed.set, changed.add) if changed else ()) for name in values]
    if sum(map(is_authority, names)) + bool(rewrite is not None and rewrite.authority) > 1:
        yield refuse(f"{path}.headers.request", "the authority is set more than once")


def _redirect(path: str, redirect: HTTPRedirect | None, matches: Sequence[HTTPMatchRequest]) -> Iterator[Finding]:
    if redirect is None:
        return
    if redirect.uri and redirect.prefix_rewrite:
        yield refuse(f"{path}.uri", "prefixRewrite is given")
    if redirect.prefix_rewrite and any(m.uri is not None and m.uri.prefix is None for m in matches):
        yield refuse(f"{path}.prefixRewrite", "there is a match of uri that is no prefix")
    told = (redirect.uri, redirect.prefix_rewrite, redirect.authority, redirect.port, redirect.scheme)
    if not any(told) and not redirect.derive_port:
        yield refuse(path, "nothing says where to go")
    if redirect.scheme not in ("", "http", "https"):
        yield refuse(f"{path}.scheme", f"{redirect.scheme!r} is neither http nor https")
    yield from port_defects(f"{path}.port", redirect.port)


def _cors(path: str, policy: CorsPolicy | None) -> Iterator[Finding]:
    if policy is None:
        return
    for i, origin in enumerate(policy.allow_origins):
        if not (origin.exact or origin.prefix or origin.regex):
            yield refuse(f"{path}.allowOrigins[{i}]", "exact, prefix or regex is needed")
        yield from _text(f"{path}.allowOrigins[{i}]", origin, empty_prefix=True)
    for i, method in enumerate(policy.allow_methods):
        if method not in _METHODS:
            yield refuse(f"{path}.allowMethods[{i}]", f"{method!r} is not a method of HTTP")
    for name, headers in (("allowHeaders", policy.allow_headers), ("exposeHeaders", policy.expose_headers)):
        for i, header in enumerate(headers):
            if header != "*" and not is_header(header):
                yield refuse(f"{path}.{name}[{i}]", f"{header!r} is not the name of a header")
    yield from time_defects(f"{path}.maxAge", policy.max_age)
    if policy.max_age is not None and policy.max_age.nanos % 1_000_000_000:
        yield refuse(f"{path}.maxAge", "whole seconds are needed")


def _percent(path: str, percent: PercentValue | None) -> Iterator[Finding]:
    if percent is not None:
        yield from percent_defects(f"{path}.value", percent.value)


def _fault(path: str, fault: HTTPFaultInjection | None) -> Iterator[Finding]:
    if fault is None:
        return
    if fault.abort is None and fault.delay is None:
        yield refuse(path, "abort or delay is needed")
    if (abort := fault.abort) is not None:
        yield from _percent(f"{path}.abort.percentage", abort.percentage)
        if abort.http_status is not None and not 200 <= abort.http_status <= 600:
            yield refuse(f"{path}.abort.httpStatus", f"{abort.http_status} is not an HTTP status (200-599)")
        if abort.grpc_status is not None and abort.grpc_status not in _GRPC_STATUSES:
            yield refuse(f"{path}.abort.grpcStatus", f"{abort.grpc_status!r} is not a status of gRPC")
    if (delay := fault.delay) is not None:
        yield from _percent(f"{path}.delay.percentage", delay.percentage)
        yield from time_defects(f"{path}.delay.fixedDelay", delay.fixed_delay)
        if delay.exponential_delay is not None:
            yield refuse(f"{path}.delay.exponentialDelay", "it was never implemented")


def _retries(path: str, retries: HTTPRetry | None) -> Iterator[Finding]:
    if retries is None:
        return
    given = retries.per_try_timeout is not None or retries.retry_on or retries.retry_remote_localities is not None
    if retries.attempts == 0 and given:
        yield refuse(path, "there are no attempts")
    yield from time_defects(f"{path}.perTryTimeout", retries.per_try_timeout)
    yield from time_defects(f"{path}.backoff", retries.backoff)
    for word in retries.retry_on.split(",") if retries.retry_on else ():
        if word not in _RETRY_ON and word not in _STATUSES:
            yield refuse(f"{path}.retryOn", f"{word!r} is no reason to retry")


def _http(path: str, route: HTTPRoute, is_delegate: bool, at_gateway: bool) -> Iterator[Finding]:
    for i, match in enumerate(route.match):
        yield from _http_match(f"{path}.match[{i}]", match, at_gateway)
    yield from _actions(path, route, is_delegate)
    yield from _headers(f"{path}.headers", route.headers)
    yield from _cors(f"{path}.corsPolicy", route.cors_policy)
    yield from _fault(f"{path}.fault", route.fault)
    yield from _retries(f"{path}.retries", route.retries)
    yield from time_defects(f"{path}.timeout", route.timeout)
    yield from _destination(f"{path}.mirror", route.mirror)
    for i, mirror in enumerate(route.mirrors):
        yield from _destination(f"{path}.mirrors[{i}].destination", mirror.destination)
        yield from _percent(f"{path}.mirrors[{i}].percentage", mirror.percentage)
    yield from percent_defects(f"{path}.mirrorPercent", route.mirror_percent)
    yield from _percent(f"{path}.mirrorPercentage", route.mirror_percentage)
    yield from _destinations(f"{path}.route", route.route)


def _l4_match(path: str, match: TLSMatchAttributes | L4MatchAttributes) -> Iterator[Finding]:
    yield from port_defects(f"{path}.port", match.port)
    yield from _source(path, match)


def _covers(one: str, other: str) -> bool:
    """True if a host, which may begin with a wildcard, takes all that another one takes."""
    if not one.startswith("*"):
        return one == other
    return len(other) >= len(one) and other.removeprefix("*").endswith(one[1:])


def _hosts(service: VirtualService, at_gateway: bool) -> Iterator[Finding]:
    hosts = service.spec.hosts
    has_sni = any(match.sni_hosts for tls in service.spec.tls for match in tls.match)
    for i, host in enumerate(hosts):
        if not (at_gateway and has_sni and host.startswith("outbound_")):
            yield from host_defects(f"spec.hosts[{i}]", host, with_address=True)
    for (i, one), (j, other) in combinations(enumerate(hosts), 2):
        if one != other and (_covers(one, other) or _covers(other, one)):
            yield refuse(f"spec.hosts[{j}]", f"spec.hosts[{i}] and this one have hosts in common")


def _sni(path: str, name: str, hosts: Sequence[str], at_gateway: bool) -> Iterator[Finding]:
    if is_address(name) or (at_gateway and name.startswith("outbound_")):
        return
    yield from host_defects(path, name)
    if not any(_covers(host, name) for host in hosts):
        yield refuse(path, "it is not among spec.hosts")


def refusals(service: VirtualService) -> Iterator[Finding]:
    """All of them."""
    spec = service.spec
    at_gateway = bool(spec.gateways) and MESH not in spec.gateways
    yield from gateway_defects("spec.gateways", spec.gateways)
    yield from _hosts(service, at_gateway)
    for i, route in enumerate(spec.http):
        yield from _http(f"spec.http[{i}]", route, not spec.hosts, at_gateway)
    for i, tls in enumerate(spec.tls):
        for j, match in enumerate(tls.match):
            path = f"spec.tls[{i}].match[{j}]"
            yield from _l4_match(path, match)
            for k, name in enumerate(match.sni_hosts):
                yield from _sni(f"{path}.sniHosts[{k}]", name, spec.hosts, at_gateway)
        yield from _destinations(f"spec.tls[{i}].route", tls.route)
    for i, tcp in enumerate(spec.tcp):
        for j, l4_match in enumerate(tcp.match):
            yield from _l4_match(f"spec.tcp[{i}].match[{j}]", l4_match)
        yield from _destinations(f"spec.tcp[{i}].route", tcp.route)
    yield from refused(export_defects("spec.exportTo", service.namespace, spec.export_to))
