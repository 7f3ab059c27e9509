"""What the upstream sees as path: `http[].rewrite` (VS-061, VS-062). The authority is the business of `headers`."""

import re

from envoy.config.route.v3 import route_components_pb2 as routes
from envoy.type.matcher.v3 import regex_pb2

from pypilot.compile.features.string_match import regex
from pypilot.kinds.virtual_service import HTTPRewrite


def apply_rewrite(
    action: routes.RouteAction, rewrite: HTTPRewrite, match: routes.RouteMatch, segments: bool = False
) -> None:
    """Set `regex_rewrite` or `prefix_rewrite`; an expression wins over a plain rewrite.

    `segments`: prefixes match whole path segments (Gateway API). To replace such a prefix by `/` takes an expression:
    Envoy would leave `//` behind.
    """
    if rewrite.uri_regex_rewrite is not None and rewrite.uri_regex_rewrite.match:
        action.regex_rewrite.CopyFrom(
            regex_pb2.RegexMatchAndSubstitute(
                pattern=regex(rewrite.uri_regex_rewrite.match), substitution=rewrite.uri_regex_rewrite.rewrite
            )
        )
    elif segments and rewrite.uri == "/":
        action.regex_rewrite.CopyFrom(
            regex_pb2.RegexMatchAndSubstitute(
                pattern=regex(f"^{_quote(match.path_separated_prefix)}(/?)(.*)"), substitution=r"/\2"
            )
        )
    elif rewrite.uri:
        action.prefix_rewrite = rewrite.uri


def _quote(text: str) -> str:
    """Escape what RE2 would read as syntax, and nothing else."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)
