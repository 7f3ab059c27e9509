"""Leader election on a server in memory, in a time of its own: never two at once, whatever fails."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest

from pypilot.kube.errors import ApiError, UnreachableError
from pypilot.kube.lease import Election, LeaseTiming
from tests.kube.fake_api import FakeApi

PATH = "/apis/coordination.k8s.io/v1/namespaces/root/leases/leader"


class World:
    """A clock that moves on when everybody sleeps."""

    def __init__(self):
        self.now = 100.0
        self._sleepers = []

    async def sleep(self, seconds):
        future = asyncio.get_running_loop().create_future()
        entry = (self.now + seconds, future)
        self._sleepers.append(entry)
        try:
            await future
        finally:
            self._sleepers.remove(entry)

    async def settle(self):
        for _ in range(60):
            await asyncio.sleep(0)

    async def pass_by(self, seconds, each=lambda: None):
        end = self.now + seconds
        while True:
            await self.settle()
            each()
            due = [at for at, future in self._sleepers if not future.done()]
            at = min(due, default=end)
            if at > end:
                self.now = end
                await self.settle()
                each()
                return
            self.now = max(self.now, at)
            for when, future in list(self._sleepers):
                if when <= self.now and not future.done():
                    future.set_result(None)
                    break


class Candidate:
    def __init__(self, world, api, name, skew=0.0, chance=lambda: 0.5):
        self.working = False
        self.begun = 0
        self.fails = False
        self.world = world
        timing = LeaseTiming(
            clock=lambda: world.now * 1.0 + skew,
            sleep=world.sleep,
            chance=chance,
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=world.now + skew * 1000),
        )
        self.election = Election(api, "root", "leader", name, timing)
        self.task = asyncio.create_task(self.election.run(self.work))

    async def work(self):
        self.working, self.begun = True, self.begun + 1
        try:
            if self.fails:
                raise ValueError("a defect")
            await asyncio.Event().wait()
        finally:
            self.working = False

    async def stop(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
def world():
    return World()


@pytest.fixture
async def made(world):
    candidates = []

    def make(api, name, **more):
        candidates.append(Candidate(world, api, name, **more))
        return candidates[-1]

    yield make
    for candidate in candidates:
        await candidate.stop()


def spec(api):
    return api.objects[PATH]["spec"]


async def test_the_first_leads_and_renews(world, made):
    api = FakeApi()
    a = made(api, "a")
    await world.pass_by(1)
    assert a.working
    assert a.election.is_leading
    assert a.election.leading.is_set()
    assert spec(api)["holderIdentity"] == "a"
    assert spec(api)["leaseDurationSeconds"] == 15
    first = spec(api)["renewTime"]
    b = made(api, "b")
    await world.pass_by(120)
    assert a.working
    assert not b.working
    assert b.election.holder == "a"
    assert spec(api)["renewTime"] > first
    assert a.begun == 1


async def test_a_dead_leader_is_followed_after_the_duration_and_not_before(world, made):
    api = FakeApi()
    api.put(
        PATH, {"spec": {"holderIdentity": "dead", "leaseDurationSeconds": 15, "renewTime": "x", "leaseTransitions": 4}}
    )
    b = made(api, "b")
    await world.pass_by(14.9)
    assert not b.working
    await world.pass_by(5)
    assert b.working
    assert spec(api)["leaseTransitions"] == 5


@pytest.mark.parametrize("renewed", ["1999-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"])
async def test_timestamps_of_other_clocks_mean_nothing(world, made, renewed):
    api = FakeApi()
    body = {"spec": {"holderIdentity": "other", "leaseDurationSeconds": 15, "renewTime": renewed}}
    api.put(PATH, body)
    b = made(api, "b", skew=-5000)
    for n in range(10):
        await world.pass_by(10)
        assert not b.working
        body["spec"]["renewTime"] = f"{renewed}{n}"
        api.put(PATH, body)
    await world.pass_by(20)
    assert b.working


async def test_a_longer_lease_of_the_holder_is_respected(world, made):
    api = FakeApi()
    api.put(PATH, {"spec": {"holderIdentity": "other", "leaseDurationSeconds": 60}})
    b = made(api, "b")
    await world.pass_by(59)
    assert not b.working
    await world.pass_by(6)
    assert b.working


async def test_who_stops_releases(world, made):
    api = FakeApi()
    a, b = made(api, "a"), made(api, "b")
    await world.pass_by(3)
    first, second = (a, b) if a.working else (b, a)
    await first.stop()
    assert not first.working
    assert spec(api)["holderIdentity"] == ""
    await world.pass_by(3)
    assert second.working


async def test_who_cannot_renew_stops_before_the_other_begins(world, made):
    api = FakeApi()
    cut = FakeApi()
    cut.objects = api.objects
    cut.put = api.put
    a = made(cut, "a")
    await world.pass_by(1)
    b = made(api, "b")
    await world.pass_by(5)
    cut.fault = lambda method, path: UnreachableError("away")
    stopped = began = 0.0

    def look():
        nonlocal stopped, began
        assert not (a.working and b.working)
        if not a.election.is_leading and not stopped:
            stopped = world.now
        if b.working and not began:
            began = world.now

    await world.pass_by(40, look)
    assert 0 < stopped < began
    assert began - stopped >= 1
    cut.fault = lambda method, path: None
    await world.pass_by(40, look)
    assert b.working


async def test_leading_ends_by_time_alone_when_the_process_stalls(world, made):
    api = FakeApi()
    a = made(api, "a")
    await world.pass_by(1)
    world.now += 11  # nothing of the process ran meanwhile
    assert not a.election.is_leading
    assert not (await _run_out(world, a))


async def _run_out(world, candidate):
    await world.settle()
    await world.pass_by(0.1)
    return candidate.election.is_leading and candidate.begun == 1


async def test_a_lost_answer_is_no_lost_lease(world, made):
    api = FakeApi()
    a = made(api, "a")
    await world.pass_by(1)
    lost = iter([UnreachableError("lost")])
    api.lost = lambda method, path: next(lost, None)
    await world.pass_by(30)
    assert a.working
    assert a.begun == 1
    assert spec(api)["leaseTransitions"] == 0


async def test_a_lost_answer_to_the_first_claim(world, made):
    api = FakeApi()
    lost = iter([UnreachableError("lost")])
    api.lost = lambda method, path: next(lost, None)
    a = made(api, "a")
    await world.pass_by(10)
    assert a.working


async def test_a_lease_that_another_took_is_lost_at_once(world, made):
    api = FakeApi()
    a = made(api, "a")
    await world.pass_by(1)
    api.put(PATH, {"spec": {**spec(api), "holderIdentity": "thief"}})
    await world.pass_by(3)
    assert not a.working
    assert not a.election.leading.is_set()
    assert a.election.holder == "thief"


async def test_a_lease_that_was_deleted_is_made_again(world, made):
    api = FakeApi()
    a = made(api, "a")
    await world.pass_by(1)
    api.remove(PATH)
    await world.pass_by(5)
    assert spec(api)["holderIdentity"] == "a"
    assert a.begun == 1


async def test_somebody_who_changes_the_lease_otherwise_does_no_harm(world, made):
    api = FakeApi()
    a = made(api, "a")
    for _ in range(20):
        await world.pass_by(1)
        api.put(PATH, {**api.objects[PATH], "metadata": {**api.objects[PATH]["metadata"], "labels": {"a": "b"}}})
    assert a.begun == 1
    assert a.working
    assert api.objects[PATH]["metadata"]["labels"] == {"a": "b"}


async def test_work_that_fails_hands_over(world, made):
    api = FakeApi()
    a = made(api, "a")
    a.fails = True
    await world.pass_by(1)
    b = made(api, "b")
    await world.pass_by(60)
    assert a.begun >= 1
    assert b.working


@pytest.mark.parametrize("steps", range(8))
async def test_it_can_be_stopped_at_any_moment(world, made, steps):
    api = FakeApi()
    a = made(api, "a")
    await world.pass_by(2.1)
    for entry in list(world._sleepers):
        entry[1].set_result(None)  # the next renewal begins
    for _ in range(steps):
        await asyncio.sleep(0)
    a.task.cancel()
    _, running_on = await asyncio.wait([a.task], timeout=30)
    assert not running_on
    assert not a.working
    assert spec(api)["holderIdentity"] == ""


@pytest.mark.parametrize("status", [403, 429, 500])
async def test_a_server_that_refuses_is_tried_again(world, made, status):
    api = FakeApi()
    api.fault = lambda method, path: ApiError(status, "no")
    a = made(api, "a")
    await world.pass_by(60)
    assert not a.working
    api.fault = lambda method, path: None
    await world.pass_by(10)
    assert a.working


@pytest.mark.parametrize("seed", range(12))
async def test_never_two_at_a_time_whatever_fails(world, made, seed):
    chance = random.Random(seed)
    api = FakeApi()
    connections = []
    for _ in range(3):
        connection = FakeApi()
        connection.objects, connection.put = api.objects, api.put
        connection.rate = 0.0

        def fails(method, path, connection=connection):
            return UnreachableError("x") if chance.random() < connection.rate else None

        connection.fault = connection.lost = fails
        connections.append(connection)
    candidates = [
        made(c, f"c{n}", skew=chance.uniform(-9999, 9999), chance=chance.random) for n, c in enumerate(connections)
    ]
    led = set()

    def look():
        leading = [c for c in candidates if c.election.is_leading]
        assert len(leading) <= 1
        led.update(c.election.identity for c in leading)

    for _ in range(60):
        for connection in connections:
            connection.rate = chance.choice([0.0, 0.0, 0.3, 0.7, 1.0])
        await world.pass_by(chance.uniform(1, 20), look)
    assert len(led) > 1
    for connection in connections:
        connection.rate = 0.0
    await world.pass_by(60, look)
    assert sum(c.working for c in candidates) == 1
