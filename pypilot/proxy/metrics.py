"""Envoy's and the application's metrics as one page (MESH-040). Blocks: call it in a thread."""

import http.client
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from pypilot.proxy.admin import Admin, AdminError

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = 5.0
_OPEN_METRICS: Final = "application/openmetrics-text"
_ACCEPTED: Final = (
    f"{_OPEN_METRICS};version=1.0.0;q=0.5,{_OPEN_METRICS};version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3"
)
_END: Final = b"# EOF"
_LARGEST: Final = 10 << 20
_SCRAPE_TIMEOUT: Final = "x-prometheus-scrape-timeout-seconds"


def _seconds(headers: Mapping[str, str]) -> float:
    said = next((v for k, v in headers.items() if k.lower() == _SCRAPE_TIMEOUT), "")
    try:
        return min(max(float(said), 0.1), 300.0) if said else _SECONDS
    except ValueError:
        return _SECONDS


def merged(admin: Admin, targets: Sequence[str], query: str, headers: Mapping[str, str]) -> tuple[str, bytes]:
    """Content type and page: what one of them does not give does not spoil the others.

    Args:
        admin: Envoy's.
        targets: URLs of the application.
        query: Passed on to Envoy (`usedonly`).
        headers: Of the one who asks: how long it waits, and what it takes.
    """
    seconds = _seconds(headers)
    wants_open = any(k.lower() == "accept" and _OPEN_METRICS in v for k, v in headers.items())
    page = b""
    try:
        path = "/stats/prometheus" + (f"?{query}" if query else "")
        status, body = admin.ask(path, seconds=seconds)
        page = body if status == 200 else b""
    except AdminError:
        pass
    found = [_fetched(url, seconds, _ACCEPTED if wants_open else TEXT) for url in targets]
    found = [(kind, body) for kind, body in found if body]
    kinds = {kind.startswith(_OPEN_METRICS) for kind, _ in found}
    for _, body in found:
        text = body.rstrip()
        page = _lines(page) + _lines(text.removesuffix(_END) if text.endswith(_END) else body)
    if kinds == {True}:  # what comes before has the same form, but for the end
        return found[0][0], page + _END + b"\n"
    return TEXT, page


def _lines(text: bytes) -> bytes:
    return text if not text or text.endswith(b"\n") else text + b"\n"


def _fetched(url: str, seconds: float, accepted: str) -> tuple[str, bytes]:
    """Content type and body; both empty if there is none."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=seconds)
    try:
        path = (parts.path or "/metrics") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"Accept": accepted})
        answer = connection.getresponse()
        body = answer.read(_LARGEST + 1)
        if answer.status != 200 or len(body) > _LARGEST:
            return "", b""
        return answer.getheader("Content-Type", TEXT), body
    except (OSError, http.client.HTTPException):
        return "", b""
    finally:
        connection.close()
