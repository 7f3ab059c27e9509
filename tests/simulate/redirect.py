"""Where a redirect sends the client (envoy.config.route.v3.RedirectAction, VirtualHost.require_tls)."""

from tests.simulate.fields import Message, flag, number, text
from tests.simulate.model import Request

STATUS = {
    "MOVED_PERMANENTLY": 301,
    "FOUND": 302,
    "SEE_OTHER": 303,
    "TEMPORARY_REDIRECT": 307,
    "PERMANENT_REDIRECT": 308,
}
_OWN_PORT = {"http": ":80", "https": ":443"}


def status_of(action: Message) -> int:
    """The status; 301 if none is given."""
    return STATUS[text(action, "response_code", "MOVED_PERMANENTLY")]


def _request_host(request: Request, scheme: str, port: str) -> str:
    """The host of the request, without its port if the redirect has one, or leaves the scheme whose own port it is."""
    host = request.authority
    begin = host.rfind("]:") + 1 if host.startswith("[") else host.rfind(":")
    if begin <= 0:
        return host
    leaves = scheme != request.scheme and host[begin:] == _OWN_PORT.get(request.scheme)
    return host[:begin] if port or leaves else host


def location(action: Message, request: Request, path: str) -> str:
    """The `location` header.

    Args:
        path: path and query of the request, rewritten if the action rewrites prefixes or expressions.
    """
    scheme = text(action, "scheme_redirect") or ("https" if flag(action, "https_redirect") else request.scheme)
    port = f":{number(action, 'port_redirect')}" if number(action, "port_redirect") else ""
    host = text(action, "host_redirect") or _request_host(request, scheme, port)
    fixed, strip = text(action, "path_redirect"), flag(action, "strip_query")
    pure, mark, query = path.partition("?")
    if fixed:
        path = fixed if "?" in fixed or strip else f"{fixed}{mark}{query}"
    elif strip:
        path = pure
    return f"{scheme}://{host}{port}{path}"


def tls_location(request: Request) -> str:
    """The same address with https."""
    return f"https://{request.authority}{request.path}"
