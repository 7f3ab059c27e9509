"""What VirtualServices say about a request, read straight from the API's text, without compiling anything.

The other half of the property that meaning is kept. Reads plain documents; shares nothing with the compiler, and with
the simulator only regular expressions. Where the text of the API is silent, it says what Istio does (behaviour IDs).
Must not know Envoy's messages.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

from tests.simulate.headers import with_header, without
from tests.simulate.matchers import query_parameters
from tests.simulate.model import Headers, Request
from tests.simulate.regex import full_match, replace_all

Document: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that may happen to a request; fields that do not matter are empty."""

    status: int = 0
    """Of an answer of the proxy itself."""
    location: str = ""
    body: bytes = b""
    host: str = ""
    """Destination, subset and port."""
    subset: str = ""
    port: int = 0
    path: str = ""
    authority: str = ""
    request: Headers = ()
    response: Headers = ()
    """What became of an answer of the upstream."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request arrives."""

    port: int
    gateway: str = ""
    """Empty: at a client's sidecar."""
    hosts: tuple[str, ...] = ()
    """Of the gateway's server, or the services that exist at the port."""


# -- which VirtualService ---------------------------------------------------------------------------------------------


def _covers(pattern: str, host: str) -> bool:
    """`*.suffix` stands for every name that ends so, itself a pattern or not."""
    if not pattern.startswith("*"):
        return pattern == host
    return host.endswith(pattern[1:]) and len(host.lstrip("*")) >= len(pattern) - 1


def _closest(patterns: Iterable[str], host: str) -> str | None:
    """Names before wildcards, longer wildcards before shorter ones."""
    found = [p for p in patterns if _covers(p, host) and (p == "*" or len(host) >= len(p))]
    return max(found, key=lambda p: (not p.startswith("*"), len(p)), default=None)


def _applies(match: Document, place: Place) -> bool:
    return bool(match.get("port", place.port) == place.port)


def _rules(spec: Document, place: Place) -> list[Document]:
    """The rules that some request at this place can satisfy."""
    found: list[Document] = []
    for rule in spec["http"]:
        matches = [match for match in rule.get("match", ()) if _applies(match, place)]
        if matches or not rule.get("match"):
            found.append({**rule, "match": matches})
    return found


def _takes_everything(match: Document) -> bool:
    uri = match.get("uri", {})
    anything = not uri or uri.get("prefix") == "/" or uri.get("regex") == ".*"
    return bool(anything and not set(match) - {"uri", "ignoreUriCase", "port"})


def _alternatives(rules: Iterable[Document]) -> Iterator[tuple[Document, Document]]:
    """Each match by itself; without one, everything matches."""
    for rule in rules:
        matches: Sequence[Document] = rule["match"] or ({},)
        for match in matches:
            yield rule, match


def _at_gateway(specs: Sequence[Document], place: Place, host: str) -> list[tuple[Document, Document]] | None:
    """Rules of all VirtualServices for the closest host, oldest first; those that take everything go last (VS-010)."""
    bound: dict[str, list[Document]] = {}
    for spec in specs:
        if place.gateway not in spec["gateways"] or not _rules(spec, place):
            continue
        own: dict[str, None] = {}
        for server in place.hosts:
            for wanted in spec["hosts"]:
                if _covers(server, wanted):
                    own[wanted] = None
                elif _covers(wanted, server):
                    own[server] = None
        for name in own:
            bound.setdefault(name, []).append(spec)
    closest = _closest(bound, host)
    if closest is None:
        return None
    found: list[tuple[Document, Document]] = []
    for spec in bound[closest]:
        for rule, match in _alternatives(_rules(spec, place)):
            found.append((rule, match))
            if _takes_everything(match):
                break  # within one VirtualService nothing comes behind it (VS-022)
    return sorted(found, key=lambda pair: _takes_everything(pair[1]))


def _at_sidecar(specs: Sequence[Document], place: Place, host: str) -> list[tuple[Document, Document]] | None:
    """Rules of the one VirtualService that speaks for a service: the closest host, then the oldest
    that has a rule for the port (VS-007, VS-018)."""
    closest = _closest((pattern for spec in specs for pattern in spec["hosts"]), host)
    speaking = (rules for spec in specs if closest in spec["hosts"] and (rules := _rules(spec, place)))
    rules = next(speaking, [])
    if not rules:
        return [({"route": [{"destination": {"host": host}}]}, {})]
    return list(_alternatives(rules))


# -- which rule -------------------------------------------------------------------------------------------------------


def _text(match: Document, value: str) -> bool:
    if "exact" in match:
        return value == str(match["exact"])
    if "prefix" in match:
        return value.startswith(str(match["prefix"]))
    return full_match(str(match["regex"]), value)


def _uri(match: Document, path: str, ignore_case: bool) -> bool:
    if ignore_case and "regex" not in match:
        return _text({kind: text.lower() for kind, text in match.items()}, path.lower())
    return _text(match, path)


def _header(match: Document, values: Sequence[str]) -> bool:
    return bool(values) if not match else any(_text(match, value) for value in values)


def _holds(match: Document, request: Request) -> bool:
    parameters = query_parameters(request.path)
    plain = {"method": request.method, "authority": request.authority, "scheme": request.scheme}
    return (
        ("uri" not in match or _uri(match["uri"], request.pure_path, match.get("ignoreUriCase", False)))
        and all(_text(match[name], value) for name, value in plain.items() if name in match)
        and all(_header(wanted, request.values(name)) for name, wanted in match.get("headers", {}).items())
        # A header that is missing counts as an empty one (VS-033).
        and not any(
            _header(wanted, request.values(name) or (("",) if wanted else ()))
            for name, wanted in match.get("withoutHeaders", {}).items()
        )
        and all(
            name in parameters and (not wanted or _text(wanted, parameters[name]))
            for name, wanted in match.get("queryParams", {}).items()
        )
    )


# -- what it does -----------------------------------------------------------------------------------------------------


def _changed(headers: Headers, operations: Document) -> Headers:
    """`remove`, then `set`, then `add`."""
    for name in operations.get("remove", ()):
        headers = without(headers, name)
    for name, value in operations.get("set", {}).items():
        if name != "host":
            headers = with_header(headers, name, value)
    return (*headers, *((name, value) for name, value in sorted(operations.get("add", {}).items())))


def doubtful(rule: Document) -> frozenset[str]:
    """Headers of which the API does not say what becomes of them: changed at two levels, formats, empty values."""
    found: set[str] = set()
    for side in ("request", "response"):
        above = _touched(rule.get("headers", {}).get(side, {}))
        for destination in rule.get("route", ()):
            found |= above.keys() & _touched(destination.get("headers", {}).get(side, {})).keys()
        for level in (rule, *rule.get("route", ())):
            values = _touched(level.get("headers", {}).get(side, {}))
            found |= {name for name, texts in values.items() if any("%" in text or not text for text in texts)}
    return frozenset(found)


def _touched(operations: Document) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {name: ["removed"] for name in operations.get("remove", ())}
    for kind in ("set", "add"):
        for name, value in operations.get(kind, {}).items():
            found.setdefault(name, []).append(value)
    return found


def _redirect(redirect: Document, request: Request) -> Said:
    scheme = redirect.get("scheme", request.scheme)
    host = redirect.get("authority", request.authority)
    port = redirect.get("port", 0)
    if port and port != {"http": 80, "https": 443}[scheme]:  # a port that goes without saying is not written (VS-059)
        if "authority" not in redirect and host.rpartition(":")[0]:
            host = host.rpartition(":")[0]
        host = f"{host}:{port}"
    path = request.path
    if "uri" in redirect:
        query = path[len(request.pure_path) :]
        path = redirect["uri"] if "?" in redirect["uri"] else redirect["uri"] + query
    return Said(status=redirect.get("redirectCode", 301), location=f"{scheme}://{host}{path}")


def _direct(response: Document, request: Request) -> Said:
    body = response.get("body", {})
    content = base64.b64decode(body["bytes"]) if "bytes" in body else str(body.get("string", "")).encode()
    return Said(status=response["status"], body=b"" if request.method == "HEAD" else content)


def _rewritten(rewrite: Document, match: Document, request: Request) -> str:
    pure, rest = request.pure_path, request.path[len(request.pure_path) :]
    if "uriRegexRewrite" in rewrite:
        expression = rewrite["uriRegexRewrite"]
        return (replace_all(expression["match"], pure, expression["rewrite"]) or pure) + rest
    if "uri" not in rewrite:
        return request.path
    uri = match.get("uri", {"prefix": "/"})  # every path begins so
    return str(rewrite["uri"]) + (pure[len(uri["prefix"]) :] if "prefix" in uri else "") + rest


def _preflight_answered(cors: Document, request: Request) -> bool:
    origin = request.value("origin")
    if request.method != "OPTIONS" or not origin or not request.value("access-control-request-method"):
        return False
    allowed = any(_text(wanted, origin) for wanted in cors["allowOrigins"])
    return allowed or cors.get("unmatchedPreflights") == "IGNORE"


def _aborted(rule: Document) -> int:
    """The status of a fault that hits every request; one of gRPC reaches others with 200."""
    abort = rule.get("fault", {}).get("abort", {})
    if abort.get("percentage", {}).get("value") != 100:
        return 0
    return int(abort.get("httpStatus", 200))


def _host_of(operations: Document) -> str:
    return str(operations.get("set", {}).get("host", ""))


def _sent(rule: Document, match: Document, place: Place, request: Request, upstream: Headers) -> Iterator[Any]:
    destinations = rule["route"]
    total = sum(destination.get("weight", 0) for destination in destinations)
    rewrite, above = rule.get("rewrite", {}), rule.get("headers", {})
    for destination in destinations:
        share = Fraction(destination.get("weight", 0), total) if len(destinations) > 1 else Fraction(1)
        own, to = destination.get("headers", {}), destination["destination"]
        asked, told = above.get("request", {}), above.get("response", {})
        # The rule's word on the host counts before the destination's (VS-065).
        host = rewrite.get("authority") or _host_of(asked) or _host_of(own.get("request", {}))
        yield (
            share,
            Said(
                host=to["host"],
                subset=to.get("subset", ""),
                port=to.get("port", {}).get("number", place.port),
                path=_rewritten(rewrite, match, request),
                authority=host or request.authority,
                request=_changed(_changed(request.headers, own.get("request", {})), asked),
                response=_changed(_changed(upstream, own.get("response", {})), told),
            ),
        )


def interpret(
    specs: Sequence[Document], place: Place, request: Request, upstream: Headers
) -> tuple[list[tuple[Fraction, Said]], frozenset[str]] | None:
    """What may happen to a request, with probabilities, and the headers that do not count; None where nobody speaks.

    Args:
        specs: the VirtualServices, oldest first.
        upstream: headers of the upstream's answer.
    """
    host = request.authority.partition(":")[0].lower()
    if not place.gateway and host not in place.hosts:
        return None
    rules = _at_gateway(specs, place, host) if place.gateway else _at_sidecar(specs, place, host)
    for rule, match in rules or ():
        if _holds(match, request):
            return _done(rule, match, place, request, upstream), doubtful(rule)
    return [(Fraction(1), Said(status=404))], frozenset()


def _done(
    rule: Document, match: Document, place: Place, request: Request, upstream: Headers
) -> list[tuple[Fraction, Said]]:
    if status := _aborted(rule):
        return [(Fraction(1), Said(status=status))]
    if "redirect" in rule:
        return [(Fraction(1), _redirect(rule["redirect"], request))]
    if "directResponse" in rule:
        return [(Fraction(1), _direct(rule["directResponse"], request))]
    if _preflight_answered(rule.get("corsPolicy", {"allowOrigins": ()}), request):
        return [(Fraction(1), Said(status=200))]
    return list(_sent(rule, match, place, request, upstream))
