"""Changes under load, after which nothing has failed: certificates, endpoints, routes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from e2e.outcomes.caller import Caller
from e2e.outcomes.conftest import Start
from e2e.outcomes.objects import service_entry, to, virtual_service
from e2e.outcomes.stage import Stage
from e2e.outcomes.test_tls import AUTHORITY, Https
from pypilot.cli.demo.clients import SteadyClient

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session")]


class Load:
    """Requests without pause until the block ends."""

    def __init__(self, caller: Caller, host: str) -> None:
        self.answers = Counter[str]()
        self._caller, self._host = caller, host
        self._progress = asyncio.Condition()

    async def more(self, count: int) -> None:
        """Wait for so many further answers."""
        goal = self.answers.total() + count
        async with self._progress:
            await self._progress.wait_for(lambda: self.answers.total() >= goal)

    async def _run(self) -> None:
        while True:
            try:
                answer = (await self._caller.ask(self._host, logged=False)).by
            except Exception as error:  # counted, not raised: the test asks what there was
                answer = type(error).__name__
            async with self._progress:
                self.answers[answer] += 1
                self._progress.notify_all()

    @asynccontextmanager
    async def running(self, at_once: int = 4) -> AsyncIterator["Load"]:
        tasks = [asyncio.create_task(self._run()) for _ in range(at_once)]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


@pytest.mark.usefixtures("gateway")
async def test_a_secret_is_rotated_without_a_failed_handshake(stage: Stage, app: Start, host: str) -> None:
    https = Https(stage, host, mode="SIMPLE")
    backend = await app()
    await stage.apply(*https.objects(backend))
    steady = SteadyClient(https.address, host, AUTHORITY.client_context())
    async with steady.running():
        await steady.wait_more(30)
        for _ in range(3):
            old, https.certificate = https.certificate, AUTHORITY.issue(host)
            await stage.apply(*https.objects(backend))
            assert await steady.wait_serial(https.certificate.serial, 60)
            before = steady.serials[old.serial]
            await steady.wait_more(10)
            assert steady.serials[old.serial] == before
    assert steady.failures == []
    assert len(steady.serials) == 4


async def test_an_endpoint_is_removed_without_a_failed_request(
    stage: Stage, web: Caller, app: Start, host: str
) -> None:
    stays, goes = await app("stays", delay=0.01), await app("goes", delay=0.01)
    route = {"route": [to(host)], "retries": {"attempts": 0}}
    await stage.apply(service_entry(host, stays, goes), virtual_service(host, route))
    async with Load(web, host).running() as load:
        await load.more(40)
        await stage.apply(service_entry(host, stays), virtual_service(host, route))
        await load.more(10)  # those that were on the way have been answered
        seen = goes.requests
        await goes.stop()
        await load.more(40)
    assert set(load.answers) == {"stays", "goes"}
    assert goes.requests == seen


async def test_routes_change_without_a_failed_request(stage: Stage, web: Caller, app: Start, host: str) -> None:
    blue, green = await app("blue"), await app("green")
    entries = [service_entry(f"blue.{host}", blue), service_entry(f"green.{host}", green)]
    await stage.apply(*entries, virtual_service(host, {"route": [to(f"blue.{host}")]}))
    async with Load(web, host).running() as load:
        for colour in ("green", "blue", "green"):
            await load.more(10)
            await stage.apply(*entries, virtual_service(host, {"route": [to(f"{colour}.{host}")]}))
    assert set(load.answers) == {"blue", "green"}


async def test_a_new_service_takes_over_and_leaves_again_without_a_failed_request(
    stage: Stage, web: Caller, app: Start, host: str
) -> None:
    """In the order that Istio's users know: the service before the route to it, the route away before its end."""
    usual = service_entry(host, await app("old"))
    back = virtual_service(host, {"route": [to(host)], "retries": {"attempts": 0}})
    new = await app("new")
    await stage.apply(usual, back)
    async with Load(web, host).running() as load:
        await load.more(10)
        for i in range(3):
            fresh = service_entry(f"fresh-{i}.{host}", new)
            there = virtual_service(host, {"route": [to(f"fresh-{i}.{host}")], "retries": {"attempts": 0}})
            await stage.apply(usual, fresh, back)
            await stage.apply(usual, fresh, there)
            await load.more(5)
            await stage.apply(usual, fresh, back)
            await stage.apply(usual, back)
    assert set(load.answers) == {"old", "new"}


async def test_a_service_and_the_route_to_it_come_and_go_in_one_change_without_a_failed_request(
    stage: Stage, web: Caller, app: Start, host: str
) -> None:
    """Routes wait until the clusters that they mean are warm, and clusters go when no route means them."""
    usual = service_entry(host, await app("old"))
    back = virtual_service(host, {"route": [to(host)], "retries": {"attempts": 0}})
    new = await app("new")
    await stage.apply(usual, back)
    async with Load(web, host).running() as load:
        await load.more(10)
        for i in range(8):
            fresh = service_entry(f"sudden-{i}.{host}", new)
            there = virtual_service(host, {"route": [to(f"sudden-{i}.{host}")], "retries": {"attempts": 0}})
            await stage.apply(usual, fresh, there)
            await load.more(5)
            await stage.apply(usual, back)
            await load.more(5)
    assert set(load.answers) == {"old", "new"}
