"""Answers that the proxy gives itself: `http[].directResponse` (VS-060)."""

import base64

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2 as routes

from pypilot.kinds.virtual_service import HTTPBody, HTTPDirectResponse

MAX_BODY_BYTES = 1024 * 1024
"""The limit that every RouteConfiguration states; Envoy rejects the configuration for a longer body."""


def _body(body: HTTPBody) -> base_pb2.DataSource | None:
    if body.string is not None:
        source = base_pb2.DataSource(inline_string=body.string)
        return source if len(body.string.encode()) <= MAX_BODY_BYTES else None
    try:
        data = base64.b64decode(body.bytes or "", validate=True)
    except ValueError:
        return None
    return base_pb2.DataSource(inline_bytes=data) if body.bytes is not None and len(data) <= MAX_BODY_BYTES else None


def direct_response_action(response: HTTPDirectResponse) -> routes.DirectResponseAction:
    """The action; a body that is too long or not base64 is left out."""
    source = _body(response.body) if response.body is not None else None
    return routes.DirectResponseAction(status=response.status, body=source)
