"""Turns at writing: order, bounds, and peers that do not read."""

import asyncio

import pytest

from pypilot.xds.writing import WriteTurns
from tests.xds.harness import until


class Writers:
    """Streams that hold their turn until told to end."""

    def __init__(self, turns):
        self.turns, self.started, self.ends, self.tasks = turns, [], {}, []

    def start(self, name, size=0):
        self.ends[name] = asyncio.Event()
        self.tasks.append(asyncio.create_task(self._write(name, size)))

    async def _write(self, name, size):
        async with self.turns.turn() as turn:
            turn.charge(size)
            self.started.append(name)
            await self.ends[name].wait()
            turn.written(size)

    async def settle(self):
        for _ in range(20):
            await asyncio.sleep(0)


async def test_turns_are_given_in_order_and_no_more_than_allowed():
    turns = WriteTurns(2, 1000, 60)
    writers = Writers(turns)
    for name in "abcd":
        writers.start(name)
    await writers.settle()
    assert writers.started == ["a", "b"]
    assert (turns.streams, turns.waiting) == (2, 2)
    writers.ends["b"].set()
    await writers.settle()
    assert writers.started == ["a", "b", "c"]
    for name in "acd":
        writers.ends[name].set()
    await asyncio.gather(*writers.tasks)
    assert writers.started == ["a", "b", "c", "d"]
    assert (turns.streams, turns.waiting, turns.bytes_in_flight) == (0, 0, 0)


async def test_bytes_in_flight_are_bounded_to_one_response_too_many():
    turns = WriteTurns(100, 1000, 60)
    writers = Writers(turns)
    for name in "abcd":
        writers.start(name, 800)
    await writers.settle()
    assert writers.started == ["a", "b"]
    assert turns.bytes_in_flight == 1600
    writers.ends["a"].set()
    await writers.settle()
    assert writers.started == ["a", "b", "c"]
    for name in "bcd":
        writers.ends[name].set()
    await asyncio.gather(*writers.tasks)
    assert turns.bytes_in_flight == 0


async def test_patience_runs_out():
    turns = WriteTurns(1, 1000, 0.01)
    writers = Writers(turns)
    writers.start("lazy", 5000)
    writers.start("next", 10)
    await until(lambda: writers.started == ["lazy", "next"])
    for name in ("lazy", "next"):
        writers.ends[name].set()
    await asyncio.gather(*writers.tasks)
    assert (turns.streams, turns.bytes_in_flight) == (0, 0)


async def test_a_stream_that_is_cancelled_gives_its_turn_and_its_place_back():
    turns = WriteTurns(1, 1000, 60)
    writers = Writers(turns)
    for name in "abc":
        writers.start(name, 2000)
    await writers.settle()
    writers.tasks[1].cancel()
    writers.tasks[0].cancel()
    await writers.settle()
    assert writers.started == ["a", "c"]
    assert (turns.streams, turns.waiting, turns.bytes_in_flight) == (1, 0, 2000)
    writers.ends["c"].set()
    await writers.tasks[2]
    for task in writers.tasks[:2]:
        with pytest.raises(asyncio.CancelledError):
            await task
