"""Small HTTP servers that say who they are and what they saw.

    async with serve(Backend("shop", "v1"), listening_socket) as backend: ...

Every answer is JSON: name, version, method, path, headers, and for TLS the server name that the client asked for.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from pypilot.cli.demo.certificates import Certificate


@dataclass(slots=True)
class Backend:
    """What a backend answers."""

    name: str
    version: str = ""
    delay: float = 0.0
    """Seconds before it answers."""
    redirect_to: str = ""
    """Answers 301 to this URL with the path added, instead of JSON."""
    certificate: Certificate | None = None
    """Speaks TLS with this certificate."""
    requests: int = field(default=0, init=False)
    server_names: list[str | None] = field(default_factory=list, init=False)
    """Server names of the TLS handshakes, in order."""

    def tls(self) -> ssl.SSLContext | None:
        return self.certificate.server_context(self.server_names.append) if self.certificate else None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        self.requests += 1
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.redirect_to:
            return web.Response(status=301, headers={"location": self.redirect_to + request.path_qs})
        seen = {
            "name": self.name,
            "version": self.version,
            "method": request.method,
            "path": request.path_qs,
            "headers": {k.lower(): v for k, v in request.headers.items()},
            "tls": request.secure,
            "server_name": self.server_names[-1] if self.server_names else None,
        }
        return web.json_response(seen, headers={"x-backend": f"{self.name}-{self.version}".rstrip("-")})


@asynccontextmanager
async def serve(backend: Backend, listening: socket.socket) -> AsyncIterator[Backend]:
    """Serve on a socket, which may belong to another network namespace, until the block ends."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", backend.answer)
    # A slow answer must not hold up the end of the demo.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.SockSite(runner, listening, ssl_context=backend.tls()).start()
        yield backend
    finally:
        await runner.cleanup()
