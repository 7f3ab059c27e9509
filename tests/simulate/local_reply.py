"""Answers as the client sees them: those that Envoy gives itself, and what it does to those of upstreams."""

from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import quote

from tests.simulate.headers import apply_all, with_header
from tests.simulate.model import Edits, Forward, Headers, Reply, Request

_GRPC_STATUS = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
"""HTTP status -> gRPC status; any other is UNKNOWN (2)."""


def local_reply(
    request: Request,
    status: int,
    body: bytes = b"",
    *,
    flags: str = "",
    details: str = "",
    edits: Iterable[Edits] = (),
    headers: Headers = (),
) -> Reply:
    """The reply. gRPC gets its status in a header, and a body as `grpc-message`.

    Args:
        edits: the route's operations on response headers, in order.
        headers: set before them.
    """
    headers = apply_all(headers, edits, request)
    if request.is_grpc:
        headers = with_header(headers, "content-type", "application/grpc")
        headers = with_header(headers, "grpc-status", str(_GRPC_STATUS.get(status, 2)))
        if body and request.method != "HEAD":
            headers = with_header(headers, "grpc-message", quote(body.decode("utf-8", "replace"), safe=_GRPC_SAFE))
        return Reply(200, flags, details, headers)
    if body and not any(name == "content-type" for name, _ in headers):
        headers = with_header(headers, "content-type", "text/plain")
    if not body:
        headers = tuple(pair for pair in headers if pair[0] != "content-type")
    return Reply(status, flags, details, headers, b"" if request.method == "HEAD" else body)


_GRPC_SAFE = "".join(chr(c) for c in range(0x20, 0x7F) if chr(c) != "%")


def with_headers(reply: Reply, headers: Headers) -> Reply:
    """The reply with some headers set by the filters that it passes on its way out."""
    merged = reply.headers
    for name, value in headers:
        merged = with_header(merged, name, value)
    return replace(reply, headers=merged)


def response_headers(outcome: Forward, headers: Headers) -> Headers:
    """What the client gets of an upstream's headers. Formats see the request as it was sent on."""
    headers = apply_all(headers, outcome.response_edits, outcome.request)
    for name, value in outcome.response_set:
        headers = with_header(headers, name, value)
    return headers
