"""The agent's DNS server, over UDP and TCP (BOOT-002, NDS-005).

It answers from the last table that it was given, however old. Until there is one it answers nothing: a service's name,
asked elsewhere, would be an error that clients remember.
"""

import asyncio
import random
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, cast

from pypilot.proxy import log
from pypilot.proxy.dns.forward import Forwarder
from pypilot.proxy.dns.message import (
    LARGEST,
    Code,
    MessageError,
    Query,
    Type,
    answer,
    failure,
    read_query,
    refusal,
    shortened,
)
from pypilot.proxy.dns.table import Table

TTL: Final = 30
_MOST_FORWARDED: Final = 1024
"""Queries that wait for resolvers at a time: beyond, clients are told to come again."""
_MOST_CONNECTIONS: Final = 256
_IDLE_SECONDS: Final = 8.0


class DnsServer:
    """`start`, then `stop`; `table` may be set at any time."""

    def __init__(self, forwarder: Forwarder, shuffle: Callable[[list[Any]], None] = random.shuffle) -> None:
        """`shuffle` puts the addresses of a name into another order for each answer."""
        self.table: Table | None = None
        self._forwarder = forwarder
        self._shuffle = shuffle
        self._endpoints: list[asyncio.DatagramTransport] = []
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._forwarded = 0
        self._connections = 0

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens, over UDP and TCP."""
        return [endpoint.get_extra_info("sockname")[:2] for endpoint in self._endpoints]

    async def start(self, addresses: Sequence[tuple[str, int]]) -> None:
        """Listen; port 0 takes a free one.

        Raises:
            OSError: an address cannot be had.
        """
        loop = asyncio.get_running_loop()
        try:
            for host, port in addresses:
                endpoint, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self._take), local_addr=(host, port), family=_family(host)
                )
                self._endpoints.append(endpoint)
                taken = endpoint.get_extra_info("sockname")[1]
                serving = asyncio.start_server(self._connected, host, taken, family=_family(host), limit=LARGEST)
                self._servers.append(await serving)
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Listen no longer."""
        for endpoint in self._endpoints:
            endpoint.close()
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._endpoints, self._servers = [], []

    def _take(self, transport: asyncio.DatagramTransport, data: bytes, client: Any) -> None:
        """A datagram. What is known is answered at once, without a task."""
        reply = self._known(data, tcp=False)
        if isinstance(reply, Query):
            self._begin(self._forward_datagram(transport, reply, data, client))
        elif reply:
            transport.sendto(reply, client)

    def _begin(self, running: Any) -> None:
        task = asyncio.ensure_future(running)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _known(self, data: bytes, tcp: bool) -> bytes | Query:
        """The answer, or the query if others must be asked."""
        try:
            query = read_query(data)
        except MessageError:
            return refusal(data)
        if self.table is None:
            return failure(query)
        if query.flags & 0x7800:
            return refusal(data, Code.NOT_IMPLEMENTED)
        found = self.table.find(query.name) if query.is_internet and query.type in (Type.A, Type.AAAA) else None
        if found is None:
            return query
        addresses: list[IPv4Address | IPv6Address] = list(
            found.addresses.v4 if query.type == Type.A else found.addresses.v6
        )
        self._shuffle(addresses)
        # No address of this family is no error: the name exists.
        canonical = found.canonical if addresses else ""
        return answer(query, addresses, ttl=TTL, size=LARGEST if tcp else query.size, canonical=canonical)

    async def _forward(self, query: Query, data: bytes, tcp: bool) -> bytes:
        if self._forwarded >= _MOST_FORWARDED:
            return failure(query)
        self._forwarded += 1
        try:
            found = await self._forwarder.ask(query, data, tcp)
        finally:
            self._forwarded -= 1
        if found is None:
            log.warning("no resolver answers", name=query.name)
            return failure(query)
        return found if tcp else shortened(found, query, query.size)

    async def _forward_datagram(
        self, transport: asyncio.DatagramTransport, query: Query, data: bytes, client: Any
    ) -> None:
        reply = await self._forward(query, data, tcp=False)
        if not transport.is_closing():
            transport.sendto(reply, client)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._connections += 1
        try:
            if self._connections <= _MOST_CONNECTIONS:
                await self._converse(reader, writer)
        except (OSError, EOFError):
            pass
        finally:
            self._connections -= 1
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One query after the other."""
        while True:
            async with asyncio.timeout(_IDLE_SECONDS):
                data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            reply = self._known(data, tcp=True)
            if isinstance(reply, Query):
                reply = await self._forward(reply, data, tcp=True)
            if not reply:
                return
            async with asyncio.timeout(_IDLE_SECONDS):
                writer.write(len(reply).to_bytes(2, "big") + reply)
                await writer.drain()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, take: Callable[[asyncio.DatagramTransport, bytes, Any], None]) -> None:
        self._take = take
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, client: Any) -> None:
        if self._transport is not None:
            self._take(self._transport, data, client)
