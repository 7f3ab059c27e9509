"""Istio's StringMatch as Envoy's matchers (VS-032, VS-033, VS-035, VS-036).

Envoy rejects a whole RouteConfiguration for an empty prefix or expression; such a match gets its equal here, or none.
"""

from collections.abc import Iterable

from envoy.config.route.v3 import route_components_pb2 as routes
from envoy.type.matcher.v3 import regex_pb2, string_pb2

from pypilot.kinds.base import StringMatch
from pypilot.kinds.re2 import is_re2


def is_present_match(match: StringMatch) -> bool:
    """True if any value will do: nothing is given, the expression `*` (VS-032), or the prefix is empty."""
    if match.exact is None and match.prefix is None and match.regex is None:
        return True
    return match.regex == "*" or (match.exact is None and match.prefix == "")


def regex(text: str) -> regex_pb2.RegexMatcher:
    """An RE2 expression."""
    return regex_pb2.RegexMatcher(regex=text)


def string_matcher(match: StringMatch) -> string_pb2.StringMatcher | None:
    """The matcher of a value; None where Envoy has none for it."""
    if match.exact is not None:
        return string_pb2.StringMatcher(exact=match.exact)
    if match.prefix:
        return string_pb2.StringMatcher(prefix=match.prefix)
    if match.regex and is_re2(match.regex):
        return string_pb2.StringMatcher(safe_regex=regex(match.regex))
    # The empty expression matches the empty text alone.
    return string_pb2.StringMatcher(exact="") if match.regex == "" else None


def string_matchers(matches: Iterable[StringMatch]) -> list[string_pb2.StringMatcher]:
    """Matchers of those that have one."""
    return [found for match in matches if (found := string_matcher(match)) is not None]


def header_matcher(name: str, match: StringMatch) -> routes.HeaderMatcher:
    """A matcher of a request header (or of `:method`, `:authority`, `:scheme`)."""
    if is_present_match(match):
        return routes.HeaderMatcher(name=name, present_match=True)
    return routes.HeaderMatcher(name=name, string_match=string_matcher(match))


def query_matcher(name: str, match: StringMatch) -> routes.QueryParameterMatcher:
    """A matcher of a query parameter."""
    if is_present_match(match):
        return routes.QueryParameterMatcher(name=name, present_match=True)
    return routes.QueryParameterMatcher(name=name, string_match=string_matcher(match))
