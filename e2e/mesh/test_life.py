"""How an agent and its Envoy end (BOOT-002): together, and after the connections that they have."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from e2e.mesh.mesh import Mesh
from e2e.mesh.pod import Pod, started
from e2e.mesh.world import HTTP, Resident
from e2e.outcomes.caller import SECONDS
from e2e.outcomes.servers import App

pytestmark = [pytest.mark.envoy, pytest.mark.netns, pytest.mark.asyncio(loop_scope="session")]
NUMBERS = iter(range(51, 60))


@asynccontextmanager
async def pod(mesh: Mesh, **variables: str) -> AsyncIterator[Pod]:
    who = Resident(f"mortal-{(number := next(NUMBERS))}", f"10.79.0.{number}")
    directory = mesh.stage.work.directory(who.name)
    more = {"XDS_ROOT_CA": str(mesh.backing.roots), **variables}
    async with started(who, mesh.hub, directory, await mesh.backing.mint(who), more) as made:
        yield made


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def gone(pid: int) -> None:
    async with asyncio.timeout(SECONDS):
        while there(pid):  # noqa: ASYNC110 - nobody says when
            await asyncio.sleep(0.05)


async def refuses(one: Pod) -> None:
    """Wait until it takes no connection from outside."""
    async with asyncio.timeout(SECONDS):
        while "draining" not in one.envoy.child.stderr.read_text():  # noqa: ASYNC110 - nobody says when
            await asyncio.sleep(0.05)


async def test_a_killed_agent_leaves_no_envoy(mesh: Mesh) -> None:
    async with pod(mesh) as one:
        (envoy,) = children(one.envoy.child.pid)
        assert there(envoy)
        os.kill(one.envoy.child.pid, signal.SIGKILL)
        await gone(envoy)


async def test_an_agent_does_not_outlive_its_envoy(mesh: Mesh) -> None:
    async with pod(mesh) as one:
        (envoy,) = children(one.envoy.child.pid)
        os.kill(envoy, signal.SIGKILL)
        await gone(one.envoy.child.pid)


async def test_it_ends_when_nobody_is_connected_any_more(mesh: Mesh) -> None:
    variables = {"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true", "MINIMUM_DRAIN_DURATION": "1s"}
    async with pod(mesh, **variables) as one:
        app = App("app", "v", listen=one.inside.listen, where=("0.0.0.0", HTTP))
        await app.start()
        try:
            client = await asyncio.to_thread(mesh.hub.connect, one.who.address, HTTP, SECONDS)
            client.sendall(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
            assert await asyncio.to_thread(client.recv, 12) == b"HTTP/1.1 200"
            agent = one.envoy.child.pid
            os.kill(agent, signal.SIGTERM)
            await refuses(one)
            begun = time.monotonic()
            while time.monotonic() < begun + 4:  # several times the shortest drain
                assert there(agent)
                await asyncio.sleep(0.2)
            client.close()
            await gone(agent)
        finally:
            await app.stop()


async def test_a_drained_agent_ends_at_once_and_so_does_one_that_is_told_to_quit(mesh: Mesh) -> None:
    config = '{"discoveryAddress": "10.79.0.1:15012", "terminationDrainDuration": "1000s"}'
    async with pod(mesh, PROXY_CONFIG=config) as one:
        assert (await one.status("/drain", "POST"))[0] == 200
        assert (await one.status("/healthz/ready"))[0] == 200
        os.kill(one.envoy.child.pid, signal.SIGTERM)
        await gone(one.envoy.child.pid)
    async with pod(mesh, PROXY_CONFIG=config) as one:
        try:
            assert (await one.status("/quitquitquit", "POST"))[0] == 200
        except aiohttp.ClientError:
            pass
        await gone(one.envoy.child.pid)
