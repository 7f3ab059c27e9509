"""Which requests a rule is for: `http[].match[]` as `RouteMatch`, and what pilot itself decides (VS-021…036).

Port, source labels, source namespace and gateways never reach Envoy: a match that cannot hold for a proxy is left out.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from envoy.config.route.v3 import route_components_pb2 as routes
from envoy.type.matcher.v3 import metadata_pb2, string_pb2, value_pb2
from google.protobuf import wrappers_pb2

from pypilot.compile.features.string_match import header_matcher, is_present_match, query_matcher, regex, string_matcher
from pypilot.kinds.base import StringMatch
from pypilot.kinds.virtual_service import MESH, HTTPMatchRequest
from pypilot.wire.node import Labels

CLAIM_PREFIX = "@request.auth.claims"
JWT_FILTER = "envoy.filters.http.jwt_authn"
_PAYLOAD = "payload"
_SEPARABLE = re.compile(r"[^?#]+[^?#/]\Z")
"""What Envoy takes as `path_separated_prefix`."""


class Source(NamedTuple):
    """Where requests come from, as far as a match may ask."""

    port: int
    """Port of the listener; on gateways the number that the server names."""
    gateway: str = MESH
    namespace: str = ""
    labels: Labels = ()


def holds(match: HTTPMatchRequest | None, source: Source) -> bool:
    """True if requests from there can satisfy the match (VS-027, VS-028, SEEN-017)."""
    if match is None:
        return True
    if match.port not in (0, source.port):
        return False
    if match.gateways:
        return source.gateway in match.gateways
    labels = dict(source.labels)
    return all(labels.get(k) == v for k, v in match.source_labels.items()) and (
        match.source_namespace in ("", source.namespace)
    )


def _claims(name: str) -> list[str] | None:
    """The path of a claim: `@request.auth.claims.a.b` or `@request.auth.claims[a][b]`; None for a header (VS-034)."""
    if not name.lower().startswith(CLAIM_PREFIX):
        return None
    path = name[len(CLAIM_PREFIX) :]
    if path.startswith("."):
        claims = path[1:].split(".")
    elif path.startswith("[") and path.endswith("]"):
        claims = path[1:-1].split("][")
    else:
        return None
    return claims if all(claims) else None


def _claim_matcher(claims: list[str], text: string_pb2.StringMatcher, invert: bool) -> metadata_pb2.MetadataMatcher:
    """A claim that is this text, or a list that holds it."""
    value = value_pb2.ValueMatcher(string_match=text)
    listed = value_pb2.ValueMatcher(list_match=value_pb2.ListMatcher(one_of=value))
    return metadata_pb2.MetadataMatcher(
        filter=JWT_FILTER,
        path=[metadata_pb2.MetadataMatcher.PathSegment(key=key) for key in (_PAYLOAD, *claims)],
        value=value_pb2.ValueMatcher(or_match=value_pb2.OrMatcher(value_matchers=[listed, value])),
        invert=invert,
    )


def _any_text() -> string_pb2.StringMatcher:
    return string_pb2.StringMatcher(safe_regex=regex(".*"))


def _add_headers(out: routes.RouteMatch, headers: Mapping[str, StringMatch], invert: bool) -> None:
    for name, match in sorted(headers.items()):
        claims = _claims(name)
        if claims is not None:
            text = _any_text() if is_present_match(match) else string_matcher(match)
            if text is not None:
                out.dynamic_metadata.append(_claim_matcher(claims, text, invert))
            continue
        matcher = header_matcher(name, match)
        if invert:
            matcher.invert_match = True
            # Does not go together with present_match (VS-033).
            matcher.treat_missing_header_as_empty = not is_present_match(match)
        out.headers.append(matcher)


def _set_path(out: routes.RouteMatch, uri: StringMatch, separated: bool) -> None:
    if uri.exact is not None:
        out.path = uri.exact
    elif uri.prefix is not None:
        path = uri.prefix.rstrip("/")
        if separated and _SEPARABLE.match(path):
            out.path_separated_prefix = path
        else:
            out.prefix = uri.prefix
    elif uri.regex is not None:
        out.safe_regex.CopyFrom(regex(uri.regex))


def route_match(match: HTTPMatchRequest | None, separated: bool = False) -> routes.RouteMatch:
    """The matcher; everything for a rule without match (VS-022).

    `separated`: prefixes end at a `/` (Ingress and Gateway API, VS-030).
    """
    out = routes.RouteMatch(prefix="/")
    if match is None:
        return out
    _add_headers(out, match.headers, invert=False)
    _add_headers(out, match.without_headers, invert=True)
    out.headers.sort(key=lambda header: header.name)
    if match.uri is not None:
        _set_path(out, match.uri, separated)
    out.case_sensitive.CopyFrom(wrappers_pb2.BoolValue(value=not match.ignore_uri_case))
    for name, text in ((":method", match.method), (":authority", match.authority), (":scheme", match.scheme)):
        if text is not None:
            out.headers.append(header_matcher(name, text))
    out.query_parameters.extend(query_matcher(name, text) for name, text in sorted(match.query_params.items()))
    return out


def is_catch_all(match: routes.RouteMatch) -> bool:
    """True if every request matches: rules behind it can never be reached (VS-023)."""
    anything = match.prefix == "/" or match.path_separated_prefix == "/" or match.safe_regex.regex == ".*"
    return anything and not (match.headers or match.query_parameters or match.dynamic_metadata)
