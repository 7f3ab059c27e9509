"""Who comes, goes and how they are is told to whoever takes note (WE-004, WE-006, WE-007)."""

import grpc
import pytest

from pypilot.wire.types import CLUSTER
from pypilot.xds.attendance import HEALTH
from pypilot.xds.auth import DeniedError
from tests.xds.harness import HandCatalog, connected, node_id, serving, until


class Notes:
    def __init__(self, refuse=False):
        self.refuse = refuse
        self.lines = []

    async def arrived(self, proxy, identity, at):
        if self.refuse:
            raise DeniedError("FAILED_PRECONDITION", "no such group")
        self.lines.append(("arrived", proxy.name, identity))
        return proxy.name if proxy.register_group else None

    def left(self, present):
        self.lines.append(("left", present))

    def reported(self, present, healthy, message):
        self.lines.append(("reported", present, healthy, message))


@pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
async def test_a_machine_comes_reports_and_goes(delta):
    notes, catalog = Notes(), HandCatalog()
    catalog.put(CLUSTER, {"a": "1"})
    async with serving(catalog, attendance=notes) as server:
        async with connected(server, delta) as client:
            await client.ask(CLUSTER, node=node_id("vm"), metadata={"AUTO_REGISTER_GROUP": "machines"})
            assert (await client.next()).resources == {"a": "1"}
            await client.ask(HEALTH, error="refused")
            await client.ask(HEALTH)
            await until(lambda: len(notes.lines) == 3)
            (status,) = server.connections()
            assert [t.type_url for t in status.types] == [CLUSTER]  # no subscription
        await until(lambda: len(notes.lines) == 4)
    assert notes.lines == [
        ("arrived", "vm", None),
        ("reported", "vm", False, "refused"),
        ("reported", "vm", True, ""),
        ("left", "vm"),
    ]


async def test_nothing_is_noted_of_others():
    notes, catalog = Notes(), HandCatalog()
    catalog.put(CLUSTER, {"a": "1"})
    async with serving(catalog, attendance=notes) as server, connected(server) as client:
        await client.ask(CLUSTER, node=node_id("pod"))
        await client.next()
        await client.ask(HEALTH)
        await client.ask(CLUSTER, ["a"])
    assert [line[0] for line in notes.lines] == ["arrived"]


async def test_who_is_refused_is_told_why():
    async with serving(HandCatalog(), attendance=Notes(refuse=True)) as server, connected(server) as client:
        await client.ask(CLUSTER, node=node_id("vm"))
        assert await client.call.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert await client.call.details() == "no such group"
        assert server.connections() == ()
