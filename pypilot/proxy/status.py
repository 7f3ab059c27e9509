"""The agent's HTTP port (BOOT-002): readiness, merged metrics, the application's probes, and the request to end.

Runs in threads of its own; knows Envoy and the agent only through what it is given.
"""

import http.client
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from pypilot.proxy.admin import Admin, AdminError
from pypilot.proxy.probes import probe

_METRICS_SECONDS: Final = 5.0
_PLAIN: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class StatusFacts:
    """What the port answers from."""

    admin: Admin
    why_not_ready: Callable[[], str]
    """Empty if the proxy may be sent traffic."""
    quit: Callable[[], None] | None
    """Ends the agent; None where nobody may ask that."""
    probes: Mapping[str, Any]
    address: str
    application_metrics: str = ""


class StatusServer:
    """`start`, then `stop`."""

    def __init__(self, facts: StatusFacts) -> None:
        self._facts = facts
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    def start(self, port: int, host: str = "0.0.0.0") -> None:  # noqa: S104 - the kubelet asks it
        """Listen; port 0 takes a free one.

        Raises:
            OSError: the port is taken.
        """
        facts = self._facts

        class Handler(_Handler):
            """Answers from these facts."""

            FACTS = facts

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="status", daemon=True).start()

    def stop(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    FACTS: StatusFacts
    timeout = 30

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/healthz/ready":
            reason = self.FACTS.why_not_ready()
            self._answer(503 if reason else 200, reason)
        elif path in ("/stats/prometheus", "/metrics"):
            self._metrics()
        elif path in self.FACTS.probes:
            self._answer(*probe(self.FACTS.probes[path], self.FACTS.address))
        elif path == "/quitquitquit":
            self._answer(405, "POST it")
        else:
            self._answer(404, "")

    def do_POST(self) -> None:
        if urlsplit(self.path).path != "/quitquitquit":
            self._answer(404, "")
        elif self.FACTS.quit is None or not ip_address(self.client_address[0].partition("%")[0]).is_loopback:
            self._answer(403, "not allowed")
        else:
            self._answer(200, "")
            self.FACTS.quit()

    def _metrics(self) -> None:
        """Envoy's and the application's: what one of them does not give does not spoil the other."""
        found = b""
        try:
            status, body = self.FACTS.admin.ask("/stats/prometheus", seconds=_METRICS_SECONDS)
            found = body if status == 200 else b""
        except AdminError:
            pass
        if self.FACTS.application_metrics:
            found += _fetched(self.FACTS.application_metrics)
        self._answer(200, found.decode(errors="replace"), _PLAIN)

    def _answer(self, status: int, text: str, content_type: str = "text/plain") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every second or two: nothing is logged."""


def _fetched(url: str) -> bytes:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=_METRICS_SECONDS)
    try:
        connection.request("GET", parts.path or "/metrics")
        answer = connection.getresponse()
        body = answer.read()
        return b"\n" + body if answer.status == 200 else b""
    except (OSError, http.client.HTTPException):
        return b""
    finally:
        connection.close()
