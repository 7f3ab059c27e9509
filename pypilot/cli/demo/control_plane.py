"""`pypilot serve` as a child process, and a client for what it says about itself over HTTP.

It is started the way a user starts it; nothing of its inside is touched.
"""

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from pypilot.cli.demo.addresses import free_port
from pypilot.cli.demo.process import Child

_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Problem:
    """One entry of `/debug/problems`: configuration that is refused or doubtful right now."""

    severity: str
    file: str
    line: int
    kind: str
    namespace: str
    name: str
    field: str
    message: str

    @staticmethod
    def of(entry: dict[str, Any]) -> "Problem":
        """Read an entry; absent fields are empty."""
        keys = ("severity", "file", "kind", "namespace", "name", "field", "message")
        text = {key: str(entry.get(key) or "") for key in keys}
        return Problem(line=int(entry.get("line") or 0), **text)

    def __str__(self) -> str:
        place = f"{Path(self.file).name}:{self.line}" if self.file else ""
        return ": ".join(part for part in (place, self.field, self.message) if part)


class ControlPlane:
    """A running `pypilot serve`."""

    def __init__(self, child: Child, grpc: tuple[str, int], http: str, monitoring: str, session: aiohttp.ClientSession):
        self.child = child
        self.grpc = grpc
        """Where it answers ADS in plaintext."""
        self.http = http
        self.monitoring = monitoring
        self._session = session
        self.ready_seconds = 0.0

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        config: Path,
        directory: Path,
        *,
        options: Sequence[str] = (),
        prefix: Sequence[str] = (),
        new_socket: Callable[[], socket.socket] = socket.socket,
    ) -> AsyncIterator["ControlPlane"]:
        """Serve a directory on free loopback ports until the block ends.

        Args:
            config: The directory of YAML.
            directory: Where its output goes.
            options: Further options of `pypilot serve`.
            prefix: Command that runs another somewhere else (`NetworkNamespace.prefix`).
            new_socket: Makes sockets there.
        """
        grpc, http, monitoring = (("127.0.0.1", free_port()) for _ in range(3))
        argv = [
            *(sys.executable, "-m", "pypilot", "serve", "--config", str(config)),
            *("--grpc-addr", "{}:{}".format(*grpc), "--secure-grpc-addr", ""),
            *("--http-addr", "{}:{}".format(*http), "--monitoring-addr", "{}:{}".format(*monitoring)),
            *("--log-format", "json", *options),
        ]
        connector = aiohttp.TCPConnector(socket_factory=lambda _: new_socket())
        async with (
            Child.start(argv, directory, name="pypilot", prefix=prefix) as child,
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=5)) as session,
        ):
            yield cls(child, grpc, "http://{}:{}".format(*http), "http://{}:{}".format(*monitoring), session)

    async def wait_ready(self, seconds: float = 20.0) -> None:
        """Wait until `/ready` answers 200.

        Raises:
            ChildDiedError: it has ended.
            TimeoutError: it is not ready in time.
        """
        start = time.monotonic()
        while (waited := time.monotonic() - start) < seconds:
            self.child.check()
            try:
                async with self._session.get(f"{self.http}/ready") as response:
                    if response.status == 200:
                        self.ready_seconds = waited
                        return
            except (aiohttp.ClientError, OSError):
                pass
            await asyncio.sleep(_POLL_SECONDS)
        raise TimeoutError(f"pypilot serve is not ready after {seconds:.0f} s; its last lines:\n{self.child.tail()}")

    async def get_json(self, path: str) -> Any:
        """The JSON of a debug endpoint."""
        async with self._session.get(self.http + path) as response:
            response.raise_for_status()
            return await response.json()

    async def problems(self) -> list[Problem]:
        """What is wrong with the configuration right now."""
        return [Problem.of(entry) for entry in await self.get_json("/debug/problems")]

    async def wait_problem(self, wanted: Callable[[Problem], bool], seconds: float = 10.0) -> Problem | None:
        """The first wanted problem, or None if it is not reported in time."""
        deadline = time.monotonic() + seconds
        while True:
            for problem in await self.problems():
                if wanted(problem):
                    return problem
            if time.monotonic() > deadline:
                return None
            await asyncio.sleep(_POLL_SECONDS)
