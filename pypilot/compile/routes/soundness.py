"""Rules that Envoy would not take, and with them the whole RouteConfiguration: found before they get there.

One team's slip must not freeze the routes of all others. Only what no feature can leave out by itself is judged here;
an unsound match or rule is left out as a whole, for without it the rule would mean something else.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from pypilot.compile.features.text import is_sendable
from pypilot.compile.features.timeouts import LONGEST
from pypilot.kinds.base import Duration, StringMatch
from pypilot.kinds.re2 import is_re2
from pypilot.kinds.virtual_service import HTTPMatchRequest, HTTPRoute

MAX_UINT32 = 0xFFFFFFFF
MAX_QUERY_NAME = 1024


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Struct):
        for name in value.__struct_fields__:
            yield from _texts(getattr(value, name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from _texts(item)


def _durations(rule: HTTPRoute) -> Iterator[Duration | None]:
    yield rule.timeout
    if rule.retries is not None:
        yield rule.retries.per_try_timeout
        yield rule.retries.backoff
    if rule.fault is not None and rule.fault.delay is not None:
        yield rule.fault.delay.fixed_delay


def _is_sound_string(match: StringMatch | None) -> bool:
    if match is None or not match.regex or match.regex == "*":
        return True
    return is_re2(match.regex)


def is_sound_match(match: HTTPMatchRequest | None) -> bool:
    """True if Envoy takes the match."""
    if match is None:
        return True
    named = chain(match.headers.items(), match.without_headers.items(), match.query_params.items())
    plain = (match.uri, match.scheme, match.method, match.authority)
    return (
        all(map(is_sendable, _texts(match)))
        and all(name and _is_sound_string(value) for name, value in named)
        and all(map(_is_sound_string, plain))
        and not (match.uri is not None and match.uri.regex == "")
        and all(len(name.encode()) <= MAX_QUERY_NAME for name in match.query_params)
    )


def is_sound_rule(rule: HTTPRoute) -> bool:
    """True if Envoy takes the rule, matches and header operations apart: those are judged one by one."""
    routes = tuple(replace(route, headers=None) for route in rule.route)
    rest = replace(rule, match=(), headers=None, direct_response=None, route=routes)
    rewrite = rule.rewrite.uri_regex_rewrite if rule.rewrite is not None else None
    return (
        all(map(is_sendable, _texts(rest)))
        and all(duration is None or duration <= LONGEST for duration in _durations(rule))
        and sum(route.weight for route in rule.route) <= MAX_UINT32
        and (rule.retries is None or rule.retries.attempts <= MAX_UINT32)
        and (rewrite is None or not rewrite.match or is_re2(rewrite.match))
    )
