"""Fields of a VirtualService without effect together with others, and rules that are never reached (VAL-003).

Judged of the object alone. Errors are the business of `virtual_service_validation`.
"""

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from pypilot.kinds.base import Finding, no_effect
from pypilot.kinds.virtual_service import (
    MESH,
    HTTPMatchRequest,
    HTTPRoute,
    L4MatchAttributes,
    TCPRoute,
    TLSMatchAttributes,
    TLSRoute,
    VirtualService,
    gateway_name,
)

_FORWARDING = ("rewrite", "timeout", "retries", "mirror", "mirrors")
"""Fields that are about requests that are forwarded."""
Match = HTTPMatchRequest | TLSMatchAttributes | L4MatchAttributes


def _action(route: HTTPRoute, path: str) -> Iterator[Finding]:
    action = "redirect" if route.redirect is not None else "directResponse" if route.direct_response is not None else ""
    if action:
        for name in _FORWARDING:
            if getattr(route, name):
                yield no_effect(f"{path}.{name}", f"a rule with {action} forwards nothing")
    if route.redirect is not None:
        if route.redirect.uri and route.redirect.prefix_rewrite:
            yield no_effect(f"{path}.redirect.uri", "prefixRewrite is given")
        if route.redirect.port and route.redirect.derive_port == "FROM_REQUEST_PORT":
            yield no_effect(f"{path}.redirect.port", "derivePort is given")
    if route.rewrite is not None and route.rewrite.uri and route.rewrite.uri_regex_rewrite is not None:
        yield no_effect(f"{path}.rewrite.uri", "uriRegexRewrite is given")


def _extras(route: HTTPRoute, path: str) -> Iterator[Finding]:
    if route.mirror is None:
        for name, value in (("mirrorPercentage", route.mirror_percentage), ("mirrorPercent", route.mirror_percent)):
            if value is not None:
                yield no_effect(f"{path}.{name}", "there is no mirror")
    elif route.mirror_percentage is not None and route.mirror_percent is not None:
        yield no_effect(f"{path}.mirrorPercent", "mirrorPercentage is given")
    retries = route.retries
    if retries is not None and retries.attempts == 0:
        because = "attempts is 0 or absent, so there are no retries"
        given = (retries.per_try_timeout, retries.retry_on, retries.backoff)
        names = ("perTryTimeout", "retryOn", "backoff")
        yield from (no_effect(f"{path}.retries.{n}", because) for n, value in zip(names, given, strict=True) if value)
    delay = route.fault.delay if route.fault is not None else None
    if delay is not None and delay.percent and delay.percentage is not None:
        yield no_effect(f"{path}.fault.delay.percent", "percentage is given")


def _match(match: Match, path: str, bound: frozenset[str], namespace: str) -> Iterator[Finding]:
    if isinstance(match, HTTPMatchRequest):
        if match.ignore_uri_case and (match.uri is None or match.uri.regex):
            yield no_effect(f"{path}.ignoreUriCase", "there is no uri to compare, or it is a regex")
        if match.gateways:  # SEEN-017
            for name, value in (("sourceLabels", match.source_labels), ("sourceNamespace", match.source_namespace)):
                if value:
                    yield no_effect(f"{path}.{name}", "the match names gateways")
    names = [gateway_name(name, namespace) for name in match.gateways]
    if names and bound and not bound & set(names):
        yield no_effect(f"{path}.gateways", "none of these is among spec.gateways, so nothing matches")


def _matches(matches: Sequence[Match], path: str, bound: frozenset[str], namespace: str) -> Iterator[Finding]:
    for i, match in enumerate(matches):
        yield from _match(match, f"{path}.match[{i}]", bound, namespace)


def _takes_all(match: HTTPMatchRequest) -> bool:
    """True if no request, from wherever, fails to match."""
    uri = match.uri
    if uri is None or not (uri.prefix == "/" or uri.regex in (".*", "*")):
        return False
    return _same(match, HTTPMatchRequest(uri=uri))


def _unreachable_http(routes: Sequence[HTTPRoute]) -> Iterator[Finding]:
    """Delegates decide by themselves what they take."""
    taken_by: int | None = None
    seen: list[tuple[int, HTTPMatchRequest]] = []
    for i, route in enumerate(routes):
        path = f"spec.http[{i}]"
        if taken_by is not None:
            message = f"is never reached: spec.http[{taken_by}] takes every request"
            yield Finding(path, message, "warning", "unreachable-rule")
            continue
        earlier = [next((n for n, other in seen if _same(other, match)), None) for match in route.match]
        if earlier and all(n is not None for n in earlier):
            message = f"is never reached: spec.http[{earlier[0]}] has the same match"
            yield Finding(path, message, "warning", "unreachable-rule")
        else:
            for j, n in enumerate(earlier):
                if n is not None:
                    yield no_effect(f"{path}.match[{j}]", f"spec.http[{n}] has the same match")
        if route.delegate is not None:
            continue
        seen.extend((i, match) for match in route.match)
        if not route.match or any(map(_takes_all, route.match)):
            taken_by = i


def _same(one: HTTPMatchRequest, other: HTTPMatchRequest) -> bool:
    """Equal but for what names them in statistics."""
    return replace(one, name="", stat_prefix="") == replace(other, name="", stat_prefix="")


def _unreachable_l4(routes: Sequence[TCPRoute | TLSRoute], path: str) -> Iterator[Finding]:
    seen: list[tuple[int, object]] = []
    taken_by: int | None = None
    for i, route in enumerate(routes):
        earlier = [next((n for n, other in seen if other == match), None) for match in route.match]
        if taken_by is not None:
            message = f"is never reached: {path}[{taken_by}] takes every connection"
            yield Finding(f"{path}[{i}]", message, "warning", "unreachable-rule")
        elif earlier and all(n is not None for n in earlier):
            message = f"is never reached: {path}[{earlier[0]}] has the same match"
            yield Finding(f"{path}[{i}]", message, "warning", "unreachable-rule")
        seen.extend((i, match) for match in route.match)
        if taken_by is None and not route.match:
            taken_by = i


def advise(service: VirtualService) -> Iterable[Finding]:
    """The warnings."""
    spec, namespace = service.spec, service.namespace
    # A delegate's matches are restricted by those of its roots, which may be bound anywhere.
    bound = frozenset(gateway_name(n, namespace) for n in spec.gateways or (MESH,)) if spec.hosts else frozenset()
    for i, route in enumerate(spec.http):
        path = f"spec.http[{i}]"
        yield from _action(route, path)
        yield from _extras(route, path)
        yield from _matches(route.match, path, bound, namespace)
    for i, tls in enumerate(spec.tls):
        yield from _matches(tls.match, f"spec.tls[{i}]", bound, namespace)
    for i, tcp in enumerate(spec.tcp):
        yield from _matches(tcp.match, f"spec.tcp[{i}]", bound, namespace)
    yield from _unreachable_http(spec.http)
    yield from _unreachable_l4(spec.tls, "spec.tls")
    yield from _unreachable_l4(spec.tcp, "spec.tcp")
