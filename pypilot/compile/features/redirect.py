"""Redirects: `http[].redirect` (VS-058, VS-059)."""

from envoy.config.route.v3 import route_components_pb2 as routes

from pypilot.kinds.virtual_service import HTTPRedirect

_CODES = {
    0: routes.RedirectAction.MOVED_PERMANENTLY,
    301: routes.RedirectAction.MOVED_PERMANENTLY,
    302: routes.RedirectAction.FOUND,
    303: routes.RedirectAction.SEE_OTHER,
    307: routes.RedirectAction.TEMPORARY_REDIRECT,
    308: routes.RedirectAction.PERMANENT_REDIRECT,
}
_OWN_PORT = {"http": 80, "https": 443}


def redirect_action(redirect: HTTPRedirect, listener_port: int, tls: bool) -> routes.RedirectAction | None:
    """The action; None for a status that is no redirect. The port that the scheme implies is not written."""
    code = _CODES.get(redirect.redirect_code)
    if code is None:
        return None
    action = routes.RedirectAction(host_redirect=redirect.authority, response_code=code)
    if redirect.prefix_rewrite:
        action.prefix_rewrite = redirect.prefix_rewrite
    else:
        # Set even if empty: Envoy takes an empty one as "keep the path".
        action.path_redirect = redirect.uri
    if redirect.scheme:
        action.scheme_redirect = redirect.scheme
    port = listener_port if redirect.derive_port == "FROM_REQUEST_PORT" else redirect.port
    if port <= 65535 and port != _OWN_PORT.get(redirect.scheme or ("https" if tls else "http")):
        action.port_redirect = port
    return action
