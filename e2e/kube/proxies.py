"""Proxies before the API server that misbehave on demand: one of HTTP, one of TCP. Tests tell them how."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from e2e.kube.cluster import Cluster

Rule = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
"""Answers a request in the server's place, or delays it and returns None."""


def is_watch(request: web.Request) -> bool:
    """True for a watch."""
    return "watch" in request.query


class HttpProxy:
    """Plain HTTP in front, the administrator (or the caller's own token) behind."""

    def __init__(self, cluster: Cluster) -> None:
        self.rule: Rule | None = None
        self.requests: list[tuple[float, str, bool]] = []
        """When, which path, and whether it was a watch."""
        self.port = 0
        self._cluster = cluster

    @asynccontextmanager
    async def running(self) -> AsyncIterator["HttpProxy"]:
        connector = aiohttp.TCPConnector(ssl=self._cluster.tls, limit=0)
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        async with aiohttp.ClientSession(self._cluster.url, connector=connector, auto_decompress=False) as session:
            self._session = session
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.port = runner.addresses[0][1]
            try:
                yield self
            finally:
                await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((asyncio.get_running_loop().time(), request.path, is_watch(request)))
        if self.rule is not None:
            answer = await self.rule(request)
            if answer is not None:
                return answer
        headers = {"Accept": request.headers["Accept"], "Accept-Encoding": "identity"}
        timeout = aiohttp.ClientTimeout(total=None)
        try:
            async with self._session.get(request.path_qs, headers=headers, timeout=timeout) as behind:
                content_type = behind.headers.get("Content-Type", "application/json")
                response = web.StreamResponse(status=behind.status, headers={"Content-Type": content_type})
                await response.prepare(request)
                async for chunk in behind.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except (aiohttp.ClientError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
            raise


def refusing(status: int, times: int, **headers: str) -> Rule:
    """The first `times` requests of every path get an error, then they pass."""
    left: dict[tuple[str, bool], int] = {}

    async def rule(request: web.Request) -> web.StreamResponse | None:
        key = (request.path, is_watch(request))
        left[key] = left.get(key, times) - 1
        if left[key] < 0:
            return None
        body: dict[str, Any] = {"kind": "Status", "status": "Failure", "code": status, "message": "not now"}
        return web.json_response(body, status=status, headers=headers)

    return rule


class TcpProxy:
    """Passes bytes, until told to cut connections, also in the middle of something, or to let them hang."""

    def __init__(self, port: int) -> None:
        self.is_refusing = False
        self.is_stalled = False
        self.cuts_in_half = False
        """The next bytes of the server on each connection are forwarded by half, then the connection is reset."""
        self.cuts = 0
        self.port = 0
        self._target = port
        self._writers: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["TcpProxy"]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut_all()

    def cut_all(self) -> None:
        """Reset every connection."""
        for writer in list(self._writers):
            self.cuts += 1
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_refusing:
            writer.transport.abort()
            return
        try:
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back_writer}
        try:
            await asyncio.gather(
                self._copy(reader, back_writer, is_answer=False), self._copy(back_reader, writer, is_answer=True)
            )
        except OSError:
            pass
        finally:
            for end in (writer, back_writer):
                self._writers.discard(end)
                end.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_answer: bool) -> None:
        while data := await reader.read(65536):
            while self.is_stalled and is_answer:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            if self.cuts_in_half and is_answer:
                writer.write(data[: len(data) // 2])
                await writer.drain()
                await asyncio.sleep(0.05)  # so that the half arrives before the reset
                self.cuts += 1
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
