"""Envoy's matchers of texts, headers and query parameters (envoy.type.matcher.v3, envoy.config.route.v3)."""

from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from tests.simulate.fields import Message, UnsupportedError, at, flag, number, only, text
from tests.simulate.model import Request
from tests.simulate.regex import full_match

_STRING_KINDS = ("exact", "prefix", "suffix", "safe_regex", "contains", "custom")
_HEADER_KINDS = (
    "string_match", "exact_match", "safe_regex_match", "range_match", "present_match", "prefix_match", "suffix_match",
    "contains_match",
)  # fmt: skip
_OLD_KINDS = {"exact_match": "exact", "prefix_match": "prefix", "suffix_match": "suffix", "contains_match": "contains"}


def string_matches(matcher: Message, value: str) -> bool:
    """`StringMatcher`."""
    kind = only(matcher, _STRING_KINDS)
    if kind == "safe_regex":
        return full_match(text(at(matcher, "safe_regex"), "regex"), value)
    if kind not in ("exact", "prefix", "suffix", "contains"):
        raise UnsupportedError(f"StringMatcher.{kind}")
    wanted = text(matcher, kind)
    if flag(matcher, "ignore_case"):
        wanted, value = wanted.lower(), value.lower()
    match kind:
        case "exact":
            return value == wanted
        case "prefix":
            return value.startswith(wanted)
        case "suffix":
            return value.endswith(wanted)
    return wanted in value


def _value_matches(matcher: Message, kind: str, value: str) -> bool:
    match kind:
        case "string_match":
            return string_matches(at(matcher, kind), value)
        case "safe_regex_match":
            return full_match(text(at(matcher, kind), "regex"), value)
        case "range_match":
            bounds = at(matcher, kind)
            digits = value[1:] if value[:1] in ("-", "+") else value
            return digits.isdigit() and number(bounds, "start") <= int(value) < number(bounds, "end")
    return string_matches({_OLD_KINDS[kind]: text(matcher, kind)}, value)


def header_matches(matcher: Message, request: Request) -> bool:
    """`HeaderMatcher`.

    A missing header satisfies no matcher of values, not even an inverted one, unless it is read as empty. Of several
    values one is enough (since Envoy 1.39; before, they were joined by commas).
    Source: envoy.config.route.v3.HeaderMatcher.
    """
    invert, values = flag(matcher, "invert_match"), request.values(text(matcher, "name").lower())
    if not values and flag(matcher, "treat_missing_header_as_empty"):
        values = ("",)
    kind = only(matcher, _HEADER_KINDS) or "present_match"
    if kind == "present_match":
        return (bool(values) == flag(matcher, "present_match", True)) != invert
    return bool(values) and any(_value_matches(matcher, kind, value) for value in values) != invert


def query_parameters(path: str) -> dict[str, str]:
    """The first value of each parameter, as it stands in the path."""
    found: dict[str, str] = {}
    _, _, query = path.partition("?")
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        found.setdefault(name, value)
    return found


def query_matches(matcher: Message, parameters: dict[str, str]) -> bool:
    """`QueryParameterMatcher`."""
    value = parameters.get(text(matcher, "name"))
    if value is None:
        return "present_match" in matcher and not flag(matcher, "present_match")
    if "string_match" in matcher:
        return string_matches(at(matcher, "string_match"), value)
    return flag(matcher, "present_match", True)


def percent_decoded(value: str) -> str:
    """As bytes that are no UTF-8 stand for themselves."""
    return unquote_to_bytes(value).decode("utf-8", "surrogateescape")


def all_headers_match(matchers: Iterable[Message], request: Request) -> bool:
    """True if each of the matchers holds."""
    return all(header_matches(matcher, request) for matcher in matchers)
