"""Answers every request with what it is and what it saw, as JSON. Needs nothing but Python."""

import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Echo(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        """Answer one request."""
        self.rfile.read(int(self.headers.get("content-length") or 0))
        seen = {
            "app": os.environ["APP"],
            "version": os.environ["VERSION"],
            "pod": os.environ["POD_NAME"],
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
        }
        body = json.dumps(seen, indent=1).encode() + b"\n"
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - names that http.server calls

    def log_message(self, *_: object) -> None:
        """Be quiet: Envoy writes the access log."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("", 8080), Echo)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
