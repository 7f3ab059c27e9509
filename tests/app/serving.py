"""`pypilot serve` as a child process, for tests."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

LONG = 30.0  # seconds until a test gives up; never a measure


async def until(condition: Callable[[], Any]) -> Any:
    """Wait for a true value, and return it."""
    async with asyncio.timeout(LONG):
        while not (value := condition()):  # noqa: ASYNC110 - what is waited for knows no events
            await asyncio.sleep(0.01)
    return value


class Child:
    """A running `pypilot serve` whose log is read line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []
        self.ready: dict[str, Any] = {}

    async def line(self, event: str) -> dict[str, Any]:
        """The next log line with this event, the earlier ones among them."""
        for known in self.log:
            if known["event"] == event:
                return known
        assert self.process.stderr is not None
        while raw := await asyncio.wait_for(self.process.stderr.readline(), LONG):
            entry = json.loads(raw)
            self.log.append(entry)
            if entry["event"] == event:
                return dict(entry)
        raise AssertionError(f"ended without {event!r}: {self.log}")

    async def json(self, path: str) -> Any:
        url = f"http://127.0.0.1:{self.ready['http']}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            response.raise_for_status()
            return await response.json()

    async def problems(self, count: int | None = None) -> Any:
        """The problems, once there are any, or as many as this."""
        async with asyncio.timeout(LONG):
            while True:
                found = await self.json("/debug/problems")
                if found if count is None else len(found) == count:
                    return found

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it, and return its exit code."""
        self.process.send_signal(number)
        assert self.process.stderr is not None
        rest = await asyncio.wait_for(self.process.stderr.read(), LONG)
        self.log += [json.loads(line) for line in rest.splitlines()]
        return await asyncio.wait_for(self.process.wait(), LONG)


def arguments(*paths: Path, **more: str) -> list[str]:
    flags = {"grpc-addr": "127.0.0.1:0", "http-addr": "127.0.0.1:0", "monitoring-addr": "127.0.0.1:0", **more}
    configs = [a for p in paths for a in ("--config", str(p))]
    options = [a for k, v in flags.items() for a in (f"--{k.replace('_', '-')}", v)]
    return [sys.executable, "-m", "pypilot", "serve", *configs, *options, "--log-format", "json"]


@asynccontextmanager
async def serving(*paths: Path, **more: str) -> AsyncIterator[Child]:
    """Serve these paths on free ports until the block ends."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYPILOT_")}
    process = await asyncio.create_subprocess_exec(
        *arguments(*paths, **more), stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL, env=environment
    )
    child = Child(process)
    try:
        child.ready = await child.line("ready")
        yield child
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
