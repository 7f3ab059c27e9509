"""HTTP clients that look closely: which certificate, which status, how long, and whether anything ever failed.

They speak HTTP/1.1 over sockets that may come from anywhere (another network namespace too) and know no step.
"""

import asyncio
import http.client
import json
import re
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from pypilot.cli.demo.netns import NetworkNamespace


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Keys in lower case."""
    body: bytes
    seconds: float

    @property
    def seen(self) -> dict[str, Any]:
        """What a demo backend says of the request; empty if the body is not its JSON."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


class _Everywhere(AbstractResolver):
    """Resolves every name to one address."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            {
                "hostname": host,
                "host": self._address,
                "port": port,
                "family": family,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
        ]

    async def close(self) -> None:
        pass


class HttpClient:
    """Sends requests for any host name to one address, keeping connections open."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @classmethod
    @asynccontextmanager
    async def to(cls, address: str, tls: ssl.SSLContext | None = None) -> AsyncIterator["HttpClient"]:
        """A client whose every host name is `address`; over https it trusts what `tls` trusts."""
        connector = aiohttp.TCPConnector(resolver=_Everywhere(address), ssl=tls or True, limit=16)
        timeout = aiohttp.ClientTimeout(total=15)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            yield cls(session)

    async def get(self, url: str, *, host: str = "") -> Answer:
        """GET; `host` replaces the Host header (the TLS server name stays the URL's)."""
        start = time.perf_counter()
        headers = {"host": host} if host else {}
        async with self._session.get(url, headers=headers, allow_redirects=False) as response:
            body = await response.read()
            got = {k.lower(): v for k, v in response.headers.items()}
            return Answer(response.status, got, body, time.perf_counter() - start)

    async def get_many(self, url: str, count: int, *, at_once: int = 8) -> list[Answer]:
        """The same GET `count` times, `at_once` at a time."""
        slots = asyncio.Semaphore(at_once)

        async def one() -> Answer:
            async with slots:
                return await self.get(url)

        return list(await asyncio.gather(*(one() for _ in range(count))))


class NoAnswerError(ConnectionError):
    """The connection was closed before any answer."""


async def get_from(
    namespace: NetworkNamespace, address: str, port: int, *, host: str, path: str = "/", seconds: float = 5.0
) -> Answer:
    """GET from inside a namespace: a plain TCP connection to `address:port`, any Host header, no name resolution.

    Raises:
        NoAnswerError: refused, or closed before any answer.
    """

    def blocking() -> Answer:
        start = time.perf_counter()
        connection = http.client.HTTPConnection(address, port)
        try:
            connection.sock = namespace.connect(address, port, seconds)
            connection.request("GET", path, headers={"Host": host})
            response = connection.getresponse()
            body = response.read()
        except (ConnectionError, http.client.BadStatusLine) as error:
            raise NoAnswerError(f"{address}:{port}: {type(error).__name__}") from error
        finally:
            connection.close()
        got = {k.lower(): v for k, v in response.getheaders()}
        return Answer(response.status, got, body, time.perf_counter() - start)

    return await asyncio.to_thread(blocking)


@dataclass(slots=True)
class SteadyClient:
    """Opens a TLS connection, sends one request, closes, and begins again, without pause."""

    address: tuple[str, int]
    host: str
    tls: ssl.SSLContext
    path: str = "/"
    done: int = field(default=0, init=False)
    serials: Counter[int] = field(default_factory=Counter, init=False)
    """Serial numbers of the certificates that were shown."""
    failures: list[str] = field(default_factory=list, init=False)
    _task: asyncio.Task[None] | None = field(default=None, init=False)
    _progress: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["SteadyClient"]:
        """Run in the background until the block ends."""
        self._task = asyncio.create_task(self._run())
        try:
            yield self
        finally:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def wait_more(self, count: int) -> None:
        """Wait until it has finished that many further requests, well or badly."""
        goal = self.done + count
        while self.done < goal:
            await self._another()

    async def wait_serial(self, serial: int, seconds: float) -> bool:
        """Wait until a certificate with this serial number is shown; False if it is not in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while serial not in self.serials:
                    await self._another()
        return serial in self.serials

    async def _another(self) -> None:
        """Wait for the next request to finish."""
        if self._task is None or self._task.done():
            raise RuntimeError("the steady client is not running")
        self._progress.clear()
        await self._progress.wait()

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(10):  # wait_for of Python 3.11 can lose the cancellation that ends this
                    status, serial = await self._once()
                self.serials[serial] += 1
                if status != "200":
                    self.failures.append(f"status {status}")
            except (OSError, EOFError, TimeoutError, ValueError, IndexError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(0.01)
            self.done += 1
            self._progress.set()

    async def _once(self) -> tuple[str, int]:
        reader, writer = await asyncio.open_connection(*self.address, ssl=self.tls, server_hostname=self.host)
        try:
            shown = writer.get_extra_info("ssl_object").getpeercert()
            writer.write(f"GET {self.path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
            first, _, rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").partition("\r\n")
            length = re.search(r"^content-length: (\d+)\r$", rest, re.MULTILINE | re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
            # This side closes first: the server's port is not left in TIME_WAIT for the next run.
            return first.split(" ")[1], int(shown["serialNumber"], 16)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
