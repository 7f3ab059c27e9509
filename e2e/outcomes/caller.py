"""A client that sees both ends of a request: the answer, and what Envoy's access log says of it."""

import asyncio
import itertools
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from yarl import URL

from pypilot.cli.demo.access_log import AccessLog, Entry
from pypilot.cli.demo.clients import Answer

SECONDS = 60.0
"""Nothing here takes so long; a slow machine may."""


@dataclass(frozen=True, slots=True)
class Outcome(Answer):
    """What came back, and how Envoy logged it."""

    log: Entry = field(default_factory=dict)

    @property
    def brief(self) -> str:
        """`503 UF`: status and response flags."""
        return f"{self.status} {self.log.get('response_flags')}"

    @property
    def details(self) -> str:
        return str(self.log.get("response_code_details"))

    @property
    def cluster(self) -> str:
        return str(self.log.get("upstream_cluster"))

    @property
    def by(self) -> str:
        """Name and version of the server that answered."""
        return f"{self.seen.get('name', self.status)} {self.seen.get('version', '')}".strip()


class Caller:
    """Sends each request on a connection of its own to one Envoy, and finds it in its log by its user agent."""

    def __init__(self, session: aiohttp.ClientSession, access_log: AccessLog, address: tuple[str, int]) -> None:
        self.session = session
        self.access_log = access_log
        self.address = address
        self._numbers = itertools.count(1)

    @classmethod
    @asynccontextmanager
    async def of(
        cls, access_log: AccessLog, address: tuple[str, int], new_socket: Callable[[], socket.socket] = socket.socket
    ) -> AsyncIterator["Caller"]:
        """A caller.

        Args:
            access_log: The Envoy's.
            address: Where requests go unless they say otherwise.
            new_socket: Makes sockets, perhaps in another network namespace.
        """
        connector = aiohttp.TCPConnector(force_close=True, limit=0, socket_factory=lambda _: new_socket())
        timeout = aiohttp.ClientTimeout(total=SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            yield cls(session, access_log, address)

    async def ask(
        self,
        host: str,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        address: tuple[str, int] | None = None,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
        logged: bool = True,
    ) -> Outcome:
        """One request.

        Args:
            host: The Host header, and the TLS server name.
            path: Path and query, sent as they are.
            method: HTTP method.
            headers: Further headers.
            body: What is sent.
            address: Where to connect to.
            tls: Over TLS.
            server_name: Another TLS server name.
            logged: Wait for the access log's entry.
        """
        ip, port = address or self.address
        name = f"outcome-{next(self._numbers)}"
        since = self.access_log.mark()
        async with self.session.request(
            method,
            URL(f"{'https' if tls else 'http'}://{ip}:{port}{path}", encoded=True),
            headers={"host": host, "user-agent": name, **(headers or {})},
            data=body,
            allow_redirects=False,
            ssl=tls or True,
            server_hostname=(server_name or host) if tls else None,
        ) as response:
            body = await response.read()
            got = {k.lower(): v for k, v in response.headers.items()}
        entry = await self.logged(lambda e: e["user_agent"] == name, since) if logged else {}
        return Outcome(response.status, got, body, 0.0, entry)

    async def logged(self, wanted: Callable[[Entry], bool], since: int = 0) -> Entry:
        """The first such entry of the log."""
        entry = await self.access_log.wait_for(wanted, since=since, timeout=SECONDS)
        assert entry is not None, self.access_log.entries(since)[-5:]
        return entry

    async def logged_to(self, port: int, since: int) -> Entry:
        """The first entry of a connection to this port."""
        return await self.logged(lambda e: str(e["downstream_local_address"]).endswith(f":{port}"), since)

    async def count(self, host: str, times: int, path: str = "/", *, at_once: int = 16, **more: Any) -> Counter[str]:
        """How many of so many requests were answered by whom."""
        slots = asyncio.Semaphore(at_once)

        async def one() -> str:
            async with slots:
                return (await self.ask(host, path, logged=False, **more)).by

        return Counter(await asyncio.gather(*(one() for _ in range(times))))
