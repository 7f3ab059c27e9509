"""Clients beside the usual: one that never stops, one that shows any certificate, one that only speaks TCP."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from e2e.mesh.mesh import Mesh
from e2e.mesh.pod import Pod
from e2e.mesh.world import HTTP, Resident
from e2e.outcomes.caller import Outcome
from pypilot.cli.demo.netns import NetworkNamespace
from pypilot.proxy.certificate import Credentials

PATIENCE = 120.0


@dataclass
class Load:
    """What became of the requests."""

    done: int = 0
    failures: list[str] = field(default_factory=list)

    async def further(self, count: int) -> None:
        """Wait for so many more."""
        goal = self.done + count
        async with asyncio.timeout(PATIENCE):
            while self.done < goal:  # noqa: ASYNC110 - nobody says when
                await asyncio.sleep(0.02)

    def check(self, what: str) -> None:
        """None failed."""
        print(f"{what}: {self.done} requests, {len(self.failures)} failures")
        assert self.failures == []


@asynccontextmanager
async def load(pod: Pod) -> AsyncIterator[Load]:
    """Requests of a pod's application, one after the other, each on a connection of its own."""
    made = Load()

    async def run() -> None:
        while True:
            try:
                answer = await pod.caller.ask("app.alpha", logged=False)
                if answer.status != 200:
                    made.failures.append(f"{answer.status} {answer.body[:200]!r}")
            except (aiohttp.ClientError, OSError) as error:
                made.failures.append(repr(error))
            made.done += 1
            await asyncio.sleep(0.005)

    task = asyncio.create_task(run())
    try:
        await made.further(50)
        yield made
        await made.further(50)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def others(pods: list[Pod], before: list[set[str]]) -> None:
    """Wait until none has any of its certificates from before."""
    async with asyncio.timeout(PATIENCE):
        for pod, serials in zip(pods, before, strict=True):
            while serials & await pod.serials():  # noqa: ASYNC110 - nobody says when
                await asyncio.sleep(0.2)


async def shown(mesh: Mesh, credentials: Credentials, to: Resident, directory: Path) -> int:
    """The status that a pod's sidecar answers to whoever shows these; 0 if it wants nothing to do with him."""
    chain, key = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(credentials.chain)
    key.write_bytes(credentials.key)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(chain, key)
    context.set_alpn_protocols(["istio-http/1.1", "istio", "http/1.1"])

    def speak() -> bytes:
        with mesh.hub.connect(to.address, HTTP, PATIENCE) as plain, context.wrap_socket(plain) as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n")
            return tls.recv(100)

    try:
        answer = await asyncio.to_thread(speak)
    except (ssl.SSLError, ConnectionError):
        return 0
    return int(answer.split()[1]) if answer else 0


async def echoed(place: NetworkNamespace, host: str, port: int) -> bytes:
    """What comes back of five bytes that are sent from there; nothing if the connection ends."""
    reader, writer = await asyncio.open_connection(sock=await asyncio.to_thread(place.connect, host, port, PATIENCE))
    try:
        writer.write(b"hello")
        return await asyncio.wait_for(reader.read(5), PATIENCE)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def answered(ask: Callable[[], Awaitable[Outcome]], status: int = 200) -> Outcome:
    """The first answer with this status: a gateway has no mark by which one knows that it has its configuration."""
    end, last = time.monotonic() + PATIENCE, "no answer"
    while True:
        with suppress(aiohttp.ClientError):
            answer = await ask()
            if answer.status == status:
                return answer
            last = f"{answer.status} {answer.body[:200]!r}"
        assert time.monotonic() < end, f"in vain for {status}: {last}"
        await asyncio.sleep(0.05)
