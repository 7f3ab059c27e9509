"""Certificates and roots that change under load: nobody notices."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from e2e.mesh.mesh import Mesh
from e2e.mesh.pod import Pod
from e2e.mesh.world import V1, V2, WEB, mutual
from pypilot.security.x509 import make_root

pytestmark = [pytest.mark.envoy, pytest.mark.netns, pytest.mark.asyncio(loop_scope="session")]
PATIENCE = 120.0


@dataclass
class Load:
    done: int = 0
    failures: list[str] = field(default_factory=list)

    async def further(self, count: int) -> None:
        goal = self.done + count
        async with asyncio.timeout(PATIENCE):
            while self.done < goal:  # noqa: ASYNC110 - nobody says when
                await asyncio.sleep(0.02)


@asynccontextmanager
async def load(pod: Pod) -> AsyncIterator[Load]:
    """Requests of a pod's application, one after the other."""
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
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def others(pods: list[Pod], before: list[set[str]]) -> None:
    """Wait until none has any of its certificates from before."""
    async with asyncio.timeout(PATIENCE):
        for pod, serials in zip(pods, before, strict=True):
            while serials & await pod.serials():  # noqa: ASYNC110 - nobody says when
                await asyncio.sleep(0.2)


def replace(directory: Path, **files: bytes) -> None:
    for name, content in files.items():
        draft = directory / f"{name}.draft"
        draft.touch(mode=0o600 if name == "ca-key" else 0o644)
        draft.write_bytes(content)
        draft.replace(directory / f"{name}.pem")


async def test_a_root_is_rotated_under_load(mesh: Mesh) -> None:
    await mesh.apply(mutual("STRICT"))
    pods = list(mesh.pods.values())
    old = (mesh.ca / "root-cert.pem").read_bytes()
    new = make_root("cluster.local", datetime.now(UTC))
    async with load(mesh[WEB]) as requests:
        await requests.further(50)
        before = [await pod.serials() for pod in pods]
        replace(mesh.ca, **{"root-cert": old + new.bundle})  # both are trusted
        await others(pods, [{s for s in serials if serials} for serials in before])
        replace(mesh.ca, **{"ca-key": new.key, "ca-cert": new.certificate})  # the new one signs
        await requests.further(50)
        signed = [await pod.serials() for pod in pods]
        replace(mesh.ca, **{"root-cert": new.bundle + old})  # and everybody asks anew
        await others(pods, signed)
        await requests.further(50)
    print(f"root rotated: {requests.done} requests, {len(requests.failures)} failures")
    assert requests.failures == []


async def test_certificates_are_renewed_under_load(mesh: Mesh) -> None:
    await mesh.apply(mutual("STRICT"))
    pods = [mesh[WEB], mesh[V1]]
    async with load(mesh[WEB]) as requests:
        before = [await pod.serials() for pod in pods]
        kept = await mesh[V2].serials()
        await others(pods, before)
        await requests.further(50)
        assert await mesh[V2].serials() == kept
    print(f"certificates renewed: {requests.done} requests, {len(requests.failures)} failures")
    assert requests.failures == []
