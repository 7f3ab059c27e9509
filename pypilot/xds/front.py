"""The TLS end of the secure port: verifies what a client shows, and passes its bytes to gRPC's private listener.

gRPC for Python either requires a client certificate or does not ask for one, and Istio's agents come with either a
certificate or a token (XAUTH-001). So TLS ends here, and whom a connection belongs to is found by the address of this
end's own socket: as long as a connection is open, nobody else can have that address. Bytes are not looked at.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from pypilot.xds.tls import TlsContexts

_BACKLOG = 1024
_PAUSE_SECONDS = 0.5
_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


@dataclass(frozen=True, slots=True)
class FrontOptions:
    """Limits."""

    handshake_seconds: float = 10.0
    shutdown_seconds: float = 5.0
    """For a client to take what is left and say goodbye."""
    handshakes: int = 512
    """At a time; further clients wait."""
    buffer_bytes: int = 256 * 1024
    """Per connection and direction, after which the other end is no longer read from."""


@dataclass(frozen=True, slots=True)
class Verified:
    """The client of an open connection."""

    address: str
    """In gRPC's form, e.g. `ipv4:10.0.0.7:40312`."""
    certificate: bytes
    """PEM; empty if it showed none."""


def _grpc_form(address: tuple[str, int]) -> str:
    host, port = address[:2]
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"


class _End(asyncio.Protocol):
    """One of the two ends of a connection. What comes in here goes out at the other."""

    def __init__(self, limit: int) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.forget: Callable[[], None] = lambda: None
        """Called while this end's address is still its own."""
        self._limit = limit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=self._limit)
        transport.pause_reading()  # until there is another end
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, _: Exception | None) -> None:
        self.forget()
        if not self.closed.done():
            self.closed.set_result(None)
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()  # once everything is written


class TlsFront:
    """Listens, and opens one connection to `target` for each client whose handshake was good."""

    def __init__(self, contexts: TlsContexts, target: tuple[str, int], options: FrontOptions | None = None) -> None:
        self._contexts = contexts
        self._target = target
        self._options = options or FrontOptions()
        self._slots = asyncio.Semaphore(self._options.handshakes)
        self._verified: dict[str, Verified] = {}
        self._clients: set[_End] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._log = structlog.get_logger()
        self.refused = 0
        """Handshakes that came to nothing."""

    def who(self, peer: str) -> Verified | None:
        """The client behind one of gRPC's connections; None if that connection did not come from here."""
        return self._verified.get(peer)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._clients)

    def listen(self, address: str) -> int:
        """Start to accept at `HOST:PORT`; the port.

        Raises:
            OSError: it cannot be listened on.
        """
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        both = host == "::" and socket.has_dualstack_ipv6()
        try:
            self._listener = socket.create_server(
                (host, int(port)), family=family, backlog=_BACKLOG, dualstack_ipv6=both
            )
        except OSError as error:
            raise OSError(error.errno, f"{address}: {error.strerror or error}") from error
        self._listener.setblocking(False)
        self._accepting = asyncio.create_task(self._accept(self._listener))
        bound: int = self._listener.getsockname()[1]
        return bound

    def refuse(self) -> None:
        """Accept no further connections."""
        if self._accepting is not None:
            self._accepting.cancel()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def close(self) -> None:
        """End what is left; clients get what was written to them, if they take it soon."""
        self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *filter(None, [self._accepting]), return_exceptions=True)
        clients = tuple(self._clients)
        for client in clients:
            if client.transport is not None:
                client.transport.close()
        if clients:
            await asyncio.wait([client.closed for client in clients], timeout=self._options.shutdown_seconds)
        for client in clients:
            if client.transport is not None:
                client.transport.abort()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._slots.acquire()
            try:
                accepted, address = await loop.sock_accept(listener)
            except BaseException as error:
                self._slots.release()
                if not isinstance(error, OSError):
                    raise
                if error.errno in _FULL:
                    self._log.warning("xds.tls_not_accepting", reason=error.strerror)
                    await asyncio.sleep(_PAUSE_SECONDS)
                continue
            task = asyncio.create_task(self._admit(accepted, _grpc_form(address)))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("xds.tls_failed", reason=repr(error))

    async def _admit(self, accepted: socket.socket, address: str) -> None:
        options, loop = self._options, asyncio.get_running_loop()
        try:
            transport, client = await loop.connect_accepted_socket(
                lambda: _End(options.buffer_bytes),
                accepted,
                ssl=self._contexts.current(),
                ssl_handshake_timeout=options.handshake_seconds,
                ssl_shutdown_timeout=options.shutdown_seconds,
            )
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            accepted.close()
            self.refused += 1
            log = self._log.info if isinstance(error, ssl.SSLCertVerificationError) else self._log.debug
            log("xds.tls_refused", peer=address, reason=str(error) or type(error).__name__)
            return
        try:
            await self._join(client, Verified(address, _certificate(transport)))
        except OSError as error:
            self._log.warning("xds.tls_no_server", peer=address, reason=str(error))
            transport.abort()
        except BaseException:
            transport.abort()
            raise

    async def _join(self, client: _End, verified: Verified) -> None:
        """Give a client its connection to gRPC, which is known as the client's before it carries a byte."""
        loop = asyncio.get_running_loop()
        transport, server = await loop.create_connection(lambda: _End(self._options.buffer_bytes), *self._target)
        if client.closed.done():
            transport.close()
            return
        name = _grpc_form(transport.get_extra_info("sockname"))
        self._verified[name] = verified
        self._clients.add(client)
        server.forget = lambda: self._forget(name)
        client.forget = lambda: self._clients.discard(client)
        client.other, server.other = server, client
        transport.resume_reading()
        if client.transport is not None:
            client.transport.resume_reading()

    def _forget(self, name: str) -> None:
        del self._verified[name]


def _certificate(transport: asyncio.Transport) -> bytes:
    der = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return ssl.DER_cert_to_PEM_cert(der).encode() if der else b""
