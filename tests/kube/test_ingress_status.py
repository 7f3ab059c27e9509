"""Statuses of Ingresses: written once, again if somebody else writes, and never at the cost of another."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pypilot.kube.errors import ApiError
from pypilot.kube.ingress_status import IngressStatusWriter
from tests.kube.fake_api import FakeApi

PATIENCE = 60.0


def path(name: str) -> str:
    return f"/apis/networking.k8s.io/v1/namespaces/shop/ingresses/{name}/status"


class Harness:
    """What is wrong is what the API server does not have."""

    def __init__(self, *names: str) -> None:
        self.api = FakeApi()
        self.wanted = {("shop", name): [{"ip": "192.0.2.1"}] for name in names}
        self.now = 0.0
        for name in names:
            self.api.put(path(name), {})
        self.writer = IngressStatusWriter(self.api, self.wrong, clock=lambda: self.now)

    def status(self, name: str) -> object:
        return self.api.objects[path(name)].get("status", {}).get("loadBalancer", {}).get("ingress")

    def wrong(self) -> dict[tuple[str, str], list[dict[str, str]]]:
        return {key: entries for key, entries in self.wanted.items() if (self.status(key[1]) or []) != entries}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.writer.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_what_is_wrong_is_written_once() -> None:
    at = Harness("a", "b")
    async with at.running():
        await at.until(lambda: not at.wrong())
        at.now += 10
        at.writer.changed()
        await asyncio.sleep(0.1)
    assert at.api.writes() == [("PATCH", path("a")), ("PATCH", path("b"))]
    assert at.writer.statistics().writes == 2


async def test_an_address_that_has_gone_is_taken_away() -> None:
    at = Harness("a")
    async with at.running():
        await at.until(lambda: not at.wrong())
        at.wanted[("shop", "a")] = []
        at.now += 10
        at.writer.changed()
        await at.until(lambda: at.status("a") is None)


async def test_one_that_is_refused_costs_the_others_nothing() -> None:
    at = Harness("a", "b")
    at.api.fault = lambda method, where: ApiError(403, "no") if where == path("a") else None
    async with at.running():
        await at.until(lambda: at.status("b") is not None)
        assert list(at.writer.statistics().errors) == ["shop/a"]
        at.api.fault = lambda method, where: None
        at.now += 100
        at.writer.changed()
        await at.until(lambda: at.status("a") is not None)
    assert at.writer.statistics().errors == {}


async def test_one_that_is_not_in_the_cluster_is_no_error() -> None:
    at = Harness("a")
    at.wanted[("shop", "file")] = [{"hostname": "x"}]
    at.api.objects[path("file")] = {}
    at.api.fault = lambda method, where: ApiError(404, "gone") if where == path("file") else None
    async with at.running():
        await at.until(lambda: at.status("a") is not None and ("PATCH", path("file")) in at.api.writes())
        await asyncio.sleep(0.05)
    assert at.writer.statistics().errors == {}


async def test_who_writes_something_else_is_answered_more_and_more_slowly() -> None:
    at = Harness("a")
    written_at = []
    async with at.running():
        for _ in range(6):
            before = len(at.api.writes())
            at.api.put(path("a"), {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.66"}]}}})
            while len(at.api.writes()) == before:
                at.now += 0.1
                at.writer.changed()
                await asyncio.sleep(0)
            written_at.append(at.now)
    pauses = [after - before for before, after in itertools.pairwise(written_at)]
    assert pauses[-1] > 3 * pauses[0]
