"""What the upstream sees as path and host: `prefix_rewrite`, `regex_rewrite`, `host_rewrite_…` of a route action."""

from dataclasses import replace

from tests.simulate.fields import Message, UnsupportedError, at, flag, only, text
from tests.simulate.headers import with_header
from tests.simulate.model import Request
from tests.simulate.regex import replace_all
from tests.simulate.route_match import PATH_KINDS

_HOST_KINDS = ("host_rewrite_literal", "auto_host_rewrite", "host_rewrite_header", "host_rewrite_path_regex")


def _replaced(action: Message, request: Request) -> str:
    rewrite_ = at(action, "regex_rewrite")
    return replace_all(text(at(rewrite_, "pattern"), "regex"), request.pure_path, text(rewrite_, "substitution"))


def rewritten_path(action: Message, match: Message, request: Request) -> str:
    """Path and query. A prefix is replaced by its length; an exact path and an expression are replaced whole."""
    pure, rest = request.pure_path, request.path[len(request.pure_path) :]
    if "path_rewrite_policy" in action or "path_rewrite" in action:
        raise UnsupportedError("path_rewrite_policy")
    if "regex_rewrite" in action:
        new = _replaced(action, request)
        return new + rest if new else request.path  # an empty path is no path
    prefix = text(action, "prefix_rewrite")
    if not prefix:
        return request.path
    kind = only(match, PATH_KINDS)
    matched = len(text(match, kind)) if kind in ("prefix", "path_separated_prefix") else len(pure)
    return prefix + pure[matched:] + rest


def rewrite(action: Message, match: Message, request: Request, keep_original: bool) -> Request:
    """The request with a new path and host.

    Args:
        keep_original: Envoy's own headers tell the upstream what was there before.
    """
    kind = only(action, _HOST_KINDS)
    if kind == "host_rewrite_path_regex":
        rewritten = at(action, kind)
        host = replace_all(text(at(rewritten, "pattern"), "regex"), request.pure_path, text(rewritten, "substitution"))
    elif kind == "host_rewrite_header":
        host = request.value(text(action, kind)) or ""
    elif kind == "host_rewrite_literal":
        host = text(action, kind)
    else:
        host = ""  # auto_host_rewrite knows the endpoint's name only later
    headers, path = request.headers, rewritten_path(action, match, request)
    if host:
        if flag(action, "append_x_forwarded_host"):
            before = request.value("x-forwarded-host")
            headers = with_header(
                headers, "x-forwarded-host", f"{before},{request.authority}" if before else request.authority
            )
        if keep_original:
            headers = with_header(headers, "x-envoy-original-host", request.authority)
    emptied = "regex_rewrite" in action and path == request.path and not _replaced(action, request)
    if keep_original and not emptied and any(name in action for name in ("prefix_rewrite", "regex_rewrite")):
        headers = with_header(headers, "x-envoy-original-path", request.path)
    return replace(request, path=path, authority=host or request.authority, headers=headers)
