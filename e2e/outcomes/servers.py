"""Servers of applications: what stands behind an Envoy, says what it saw, and misbehaves on demand."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import grpc
from aiohttp import web

from pypilot.cli.demo.backends import Backend, serve
from pypilot.cli.demo.certificates import Authority

Listen: TypeAlias = Callable[[str, int], socket.socket]
"""Makes a listening socket, here or in another network namespace."""
Respond: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Place(Protocol):
    """Something with an address."""

    @property
    def address(self) -> tuple[str, int]: ...


def here(host: str, port: int) -> socket.socket:
    """A listening socket in this network namespace."""
    return socket.create_server((host, port))


@dataclass(frozen=True, slots=True)
class Nobody:
    """An address at which nobody listens, and nobody will: it is held by a socket that does not."""

    held: socket.socket

    @classmethod
    def anywhere(cls) -> "Nobody":
        held = socket.socket()
        held.bind(("127.0.0.1", 0))
        return cls(held)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.held.getsockname()
        return host, port


@dataclass(slots=True)
class App(Backend):
    """An HTTP server that can be stopped and started again at the same address."""

    status: int = 200
    failures: int = 0
    """So many requests are answered 503 first."""
    respond: Respond | None = None
    """Answers in its place."""
    trusts: Authority | None = None
    """Demands a client certificate of this authority."""
    listen: Listen = here
    where: tuple[str, int] = ("127.0.0.1", 0)
    seen: list[dict[str, Any]] = field(default_factory=list, init=False)
    """Method, path, headers, and the peer's address and certificate, of each request."""
    address: tuple[str, int] = field(default=("", 0), init=False)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack, init=False)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): ",".join(request.headers.getall(name)) for name in request.headers}
        about = {"peer": request.get_extra_info("peername"), "certificate": request.get_extra_info("peercert")}
        self.seen.append({"method": request.method, "path": request.path_qs, "headers": headers, **about})
        if self.respond is not None:
            self.requests += 1
            return await self.respond(request)
        response = await Backend.answer(self, request)
        if self.requests <= self.failures:
            return web.Response(status=503)
        if isinstance(response, web.Response) and self.status != 200:
            response.set_status(self.status)
        return response

    def tls(self) -> ssl.SSLContext | None:
        context = Backend.tls(self)
        if context is not None and self.trusts is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=self.trusts.pem.decode())
        return context

    async def start(self) -> None:
        """Listen; where it listened before, if it did."""
        listening = self.listen(*(self.address if self.address[1] else self.where))
        host, port = listening.getsockname()
        self.address = (host, port)
        await self._stack.enter_async_context(serve(self, listening))

    async def stop(self) -> None:
        """Close the socket and all connections."""
        await self._stack.aclose()


Talk: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class TcpServer:
    """A TCP server that counts its connections and holds a conversation on each."""

    talk: Talk
    address: tuple[str, int] = ("", 0)
    connections: int = 0

    @classmethod
    @asynccontextmanager
    async def start(cls, talk: Talk, listening: socket.socket | None = None) -> AsyncIterator["TcpServer"]:
        bound = listening or here("127.0.0.1", 0)
        host, port = bound.getsockname()
        made = cls(talk, (host, port))
        server = await asyncio.start_server(made._accept, sock=bound)
        try:
            yield made
        finally:
            server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(OSError, EOFError):
            await self.talk(reader, writer)
        writer.close()


GREETING = b"J\x00\x00\x00\n8.0.36\x00"
"""How a MySQL server begins, before the client has said anything."""


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The server speaks first; then it repeats what it hears."""
    writer.write(GREETING)
    await echo(reader, writer)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Repeat everything."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


class _Echo(grpc.GenericRpcHandler):
    def service(self, call: Any) -> Any:
        async def say(request: bytes, _: Any) -> bytes:
            return call.method.encode() + b" " + request

        return grpc.unary_unary_rpc_method_handler(say)


@dataclass(frozen=True, slots=True)
class GrpcServer:
    """A gRPC server that answers every unary call with its name and the request."""

    address: tuple[str, int]

    @classmethod
    @asynccontextmanager
    async def start(cls) -> AsyncIterator["GrpcServer"]:
        running = grpc.aio.server()
        running.add_generic_rpc_handlers((_Echo(),))
        port = running.add_insecure_port("127.0.0.1:0")
        await running.start()
        try:
            yield cls(("127.0.0.1", port))
        finally:
            await running.stop(0)
