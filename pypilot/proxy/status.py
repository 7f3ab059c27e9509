"""The agent's HTTP port (BOOT-002): readiness, merged metrics, the application's probes, requests to drain and to end.

Runs in threads of its own; knows Envoy and the agent only through what it is given.
"""

import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv6Address, ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from pypilot.proxy import metrics
from pypilot.proxy.admin import Admin
from pypilot.proxy.probes import Target, probe

_PLAIN: Final = "text/plain"
_PROBES: Final = ("/app-health/", "/app-lifecycle/")
_FROM_ENVOY: Final = ip_address("127.0.0.6")
"""From here Envoy passes on what it took from others."""


@dataclass(frozen=True, slots=True)
class StatusFacts:
    """What the port answers from."""

    admin: Admin
    why_not_ready: Callable[[], str]
    """Empty if the proxy may be sent traffic."""
    target: Target
    """Where the application is."""
    quit: Callable[[], None] | None = None
    """Ends the agent at once; None where nobody may ask that."""
    drain: Callable[[], None] | None = None
    """Has Envoy refuse new connections, and go on."""
    probes: Mapping[str, Any] = field(default_factory=dict)
    application_metrics: Sequence[str] = ()
    """URLs."""
    names: Callable[[], Mapping[str, Sequence[str]] | None] = lambda: None
    """What DNS answers, for whoever looks for a fault."""
    metrics_for_all: bool = True
    """Not from loopback alone."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _Server6(_Server):
    address_family = socket.AF_INET6


class StatusServer:
    """`start`, then `stop`."""

    def __init__(self, facts: StatusFacts) -> None:
        self._facts = facts
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    def start(self, port: int, host: str = "0.0.0.0") -> None:  # noqa: S104 - the kubelet asks it
        """Listen; port 0 takes a free one. `::` takes IPv4, too.

        Raises:
            OSError: the port is taken.
        """
        facts = self._facts

        class Handler(_Handler):
            """Answers from these facts."""

            FACTS = facts

        self._server = (_Server6 if ":" in host else _Server)((host, port), Handler)
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
        facts = self.FACTS
        parts = urlsplit(self.path)
        if parts.path == "/healthz/ready":
            reason = facts.why_not_ready()
            self._answer(503 if reason else 200, reason)
        elif parts.path in ("/stats/prometheus", "/metrics"):
            if facts.metrics_for_all or self._is_local():
                kind, page = metrics.merged(facts.admin, facts.application_metrics, parts.query, dict(self.headers))
                self._answer(200, page, kind)
            else:
                self._answer(403, "only from loopback")
        elif parts.path.startswith(_PROBES):
            if parts.path in facts.probes:
                self._answer(*probe(facts.probes[parts.path], facts.target, dict(self.headers)))
            else:
                self._answer(400, f"no probe is known as {parts.path}")
        elif parts.path == "/debug/ndsz":
            self._names()
        elif parts.path in ("/quitquitquit", "/drain"):
            self._answer(405, "POST it")
        else:
            self._answer(404, "")

    def do_POST(self) -> None:
        wanted = {"/quitquitquit": self.FACTS.quit, "/drain": self.FACTS.drain}
        path = urlsplit(self.path).path
        if path not in wanted:
            self._answer(404, "")
        elif (act := wanted[path]) is None or not self._is_local():
            self._answer(403, "not allowed")
        else:
            self._answer(200, "OK")
            act()

    def _is_local(self) -> bool:
        address = ip_address(self.client_address[0].partition("%")[0])
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        found = mapped or address
        return found.is_loopback and found != _FROM_ENVOY

    def _names(self) -> None:
        found = self.FACTS.names()
        if not self._is_local():
            self._answer(403, "only from loopback")
        elif found is None:
            self._answer(404, "{}", "application/json")
        else:
            table = {host: {"ips": list(ips)} for host, ips in found.items()}
            self._answer(200, json.dumps({"table": table}), "application/json")

    def _answer(self, status: int, text: str | bytes, content_type: str = _PLAIN) -> None:
        body = text.encode() if isinstance(text, str) else text
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every second or two: nothing is logged."""
