"""The writer of addresses on a server in memory: nothing twice, nothing over what others wrote, nobody stopped."""

import asyncio

import pytest

from pypilot.kinds.base import Ref
from pypilot.kinds.service_entry import ServiceEntry
from pypilot.kube.errors import ApiError, UnreachableError
from pypilot.upkeep.addresses import AddressWriter
from tests.upkeep.api import Api
from tests.world.objects import make
from tests.xds.harness import until

SPEC = {"resolution": "DNS", "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}


def path(name):
    return f"/apis/networking.istio.io/v1/namespaces/default/serviceentries/{name}"


def entry(name, given=(), /, **spec):
    status = {"addresses": [{"host": f"{name}.example", "value": a} for a in given]}
    made = make("ServiceEntry", name, spec={"hosts": [f"{name}.example"], **SPEC, **spec}, status=status)
    assert isinstance(made, ServiceEntry)
    return made


class Stage:
    def __init__(self):
        self.api = Api()
        self.now = 1000.0
        self.writer = AddressWriter(self.api, clock=lambda: self.now)
        self.task = asyncio.create_task(self.writer.run())

    def store(self, made):
        """As a user, and as the watch shows it."""
        status = {"addresses": [{"host": a.host, "value": a.value} for a in made.status.addresses]}
        self.api.put(
            path(made.name),
            {"spec": {"hosts": list(made.spec.hosts)}, **({"status": status} if made.status.addresses else {})},
        )
        self.writer.changed([made], [])

    def given(self, name):
        status = self.api.objects[path(name)].get("status") or {}
        return [a["value"] for a in status.get("addresses", ())]

    def wake(self):
        self.writer.changed([], [Ref("ServiceEntry", "default", "nobody")])
        self.writer._wake.set()


@pytest.fixture
async def stage():
    made = Stage()
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def test_each_host_gets_addresses_once_before_the_watch_shows_them(stage):
    stage.store(entry("a"))
    await until(lambda: stage.given("a"))
    stage.store(entry("b"))
    await until(lambda: stage.given("b"))
    assert stage.given("a") == ["240.240.0.1", "2001:2::1"]
    assert stage.given("b") == ["240.240.0.2", "2001:2::2"]
    assert stage.api.objects[path("a")]["spec"] == {"hosts": ["a.example"]}
    for name in "ab":  # what the watch shows changes nothing
        stage.writer.changed([entry(name, stage.given(name))], [])
    await asyncio.sleep(0.05)
    assert [method for method, _ in stage.api.writes()] == ["PUT", "PUT"]
    assert stage.writer.statistics().written == 2


async def test_what_others_wrote_meanwhile_is_not_overwritten(stage):
    stage.store(entry("a"))
    stage.api.put(path("a"), {"spec": {}, "status": {"addresses": [{"host": "a.example", "value": "240.240.0.9"}]}})
    await asyncio.sleep(0.05)
    assert stage.given("a") == ["240.240.0.9"]
    assert stage.api.writes() == []


async def test_addresses_are_cleared_where_they_no_longer_belong(stage):
    stage.store(entry("a", ["240.240.0.1"], resolution="STATIC", addresses=["192.0.2.1"]))
    await until(lambda: not stage.given("a"))


async def test_one_that_cannot_be_written_stops_nobody_and_is_tried_again(stage):
    refuse = True
    stage.api.fault = lambda method, p: (
        ApiError(403, "no")
        if refuse and p.endswith("/a/status")
        else UnreachableError("gone")
        if refuse and p == path("c")
        else None
    )
    for name in "abc":
        stage.store(entry(name))
    await until(lambda: stage.given("b"))
    await until(lambda: len(stage.writer.statistics().errors) == 2)
    assert not stage.given("a")
    refuse = False
    stage.now += 100
    stage.wake()
    await until(lambda: stage.given("a") and stage.given("c"))
    values = [v for name in "abc" for v in stage.given(name)]
    assert len(values) == len(set(values)) == 6
    assert stage.writer.statistics().errors == {}


async def test_an_entry_of_a_file_has_no_status(stage):
    stage.writer.changed([entry("file")], [])
    await until(lambda: any(p == path("file") for _, p, _ in stage.api.calls))
    await asyncio.sleep(0.05)
    assert stage.api.writes() == []


async def test_a_status_that_never_comes_back_is_given_again(stage):
    stage.store(entry("a"))
    await until(lambda: stage.given("a"))
    stage.api.put(path("a"), {"spec": {}})
    stage.now += 100
    stage.wake()
    await until(lambda: stage.given("a"))
