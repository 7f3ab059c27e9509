"""Names that are not known here, asked of the pod's own resolvers (NDS-005). Messages pass unchanged but for their id.

A query goes out from a port of its own with an id of its own, and only its own answer is taken.
"""

import asyncio
import random
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pypilot.proxy.dns.message import LARGEST, Query, answers_to, with_id

PORT: Final = 53
_SYSTEM: Final = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Forwarder:
    """`ask` it."""

    servers: Sequence[tuple[str, int]]
    seconds: float
    """How long one of them is waited for."""
    at_once: bool = False
    """All are asked, and the first answer counts; else one after the other, in any order."""

    async def ask(self, query: Query, data: bytes, tcp: bool) -> bytes | None:
        """An answer with the query's id; None if no server gives one."""
        number = _SYSTEM.randrange(1 << 16)
        sent = with_id(data, number)
        ask = _over_tcp if tcp else _over_udp

        def asked(server: tuple[str, int]) -> Coroutine[Any, Any, bytes | None]:
            return self._within(ask(server, sent, number, query.question))

        if self.at_once:
            found = await _first([asked(server) for server in self.servers])
        else:
            found = None
            for server in _SYSTEM.sample(list(self.servers), len(self.servers)):
                if (found := await asked(server)) is not None:
                    break
        return with_id(found, query.id) if found is not None else None

    async def _within(self, asking: Coroutine[Any, Any, bytes]) -> bytes | None:
        try:
            async with asyncio.timeout(self.seconds):
                return await asking
        except (OSError, EOFError):  # a timeout is an OSError
            return None


async def _first(asking: Sequence[Coroutine[Any, Any, bytes | None]]) -> bytes | None:
    tasks = [asyncio.ensure_future(a) for a in asking]
    try:
        for done in asyncio.as_completed(tasks):
            if (found := await done) is not None:
                return found
        return None
    finally:
        for task in tasks:
            task.cancel()


class _Exchange(asyncio.DatagramProtocol):
    def __init__(self, number: int, question: bytes, outcome: "asyncio.Future[bytes]") -> None:
        self._number, self._question, self._outcome = number, question, outcome

    def datagram_received(self, data: bytes, _: Any) -> None:
        if not self._outcome.done() and answers_to(data, self._number, self._question):
            self._outcome.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self._outcome.done():
            self._outcome.set_exception(error)


async def _over_udp(server: tuple[str, int], sent: bytes, number: int, question: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[bytes] = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Exchange(number, question, outcome), remote_addr=server)
    try:
        transport.sendto(sent)
        return await outcome
    finally:
        transport.close()


async def _over_tcp(server: tuple[str, int], sent: bytes, number: int, question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server, limit=LARGEST)
    try:
        writer.write(len(sent).to_bytes(2, "big") + sent)
        await writer.drain()
        while True:
            found = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            if answers_to(found, number, question):
                return found
    finally:
        writer.close()
