"""Turns at writing: how many streams, and how many bytes, may be under way at once.

A push to every stream is megabytes times hundreds of streams. A stream computes its responses only when its turn has
come, so that changes that come while it waits merge, and so that the bytes in flight stay bounded. Turns are given in
order of asking. A peer that does not read keeps its turn for `patience` seconds, then the others go on without it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turn:
    """A stream's turn; it ends when all was written, or when patience has run out."""

    def __init__(self, turns: "WriteTurns", patience: float) -> None:
        self._turns = turns
        self._bytes = 0
        self._held = True
        self._timer = asyncio.get_running_loop().call_later(patience, self.end)

    def charge(self, size: int) -> None:
        """These bytes are about to be written."""
        if self._held:
            self._bytes += size
            self._turns.bytes_in_flight += size

    def written(self, size: int) -> None:
        """Some of them were taken by the transport."""
        if self._held:
            self._bytes -= size
            self._turns.bytes_in_flight -= size
            self._turns.wake()

    def end(self) -> None:
        """Give the turn back."""
        if self._held:
            self._held = False
            self._timer.cancel()
            self._turns.streams -= 1
            self._turns.bytes_in_flight -= self._bytes
            self._turns.wake()


class WriteTurns:
    """Gives turns, first come first served."""

    def __init__(self, max_streams: int, max_bytes: int, patience: float) -> None:
        self._max_streams = max_streams
        self._max_bytes = max_bytes
        self._patience = patience
        self._order = asyncio.Lock()
        self._room = asyncio.Event()
        self.streams = 0
        self.bytes_in_flight = 0
        self.waiting = 0

    def wake(self) -> None:
        """Something ended: the first in the queue looks again."""
        self._room.set()

    def _full(self) -> bool:
        return self.streams >= self._max_streams or self.bytes_in_flight >= self._max_bytes

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """Wait for a turn. Charge it before the first `await` inside."""
        self.waiting += 1
        try:
            async with self._order:
                while self._full():
                    self._room.clear()
                    await self._room.wait()
                turn = Turn(self, self._patience)
                self.streams += 1
        finally:
            self.waiting -= 1
        try:
            yield turn
        finally:
            turn.end()
