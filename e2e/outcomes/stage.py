"""A control plane that serves a directory, and Envoys that it configures.

A test says what the configuration is to be (`apply`) and goes on when all Envoys have it. No test sleeps: with each
configuration comes a mark, a route that answers with the configuration's number. Resources of a push arrive in order,
routes last; so when the mark is there and nothing is warming, everything is there.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from e2e.outcomes.caller import SECONDS, Caller
from e2e.outcomes.objects import (
    GATEWAY,
    NAMESPACE,
    SELECTOR,
    Json,
    gateway,
    made,
    mesh,
    server,
    service_entry,
    virtual_service,
)
from pypilot.cli.demo.addresses import Reservation, reserve
from pypilot.cli.demo.bootstrap import NodeIdentity, ads_bootstrap
from pypilot.cli.demo.control_plane import ControlPlane
from pypilot.cli.demo.envoy import Envoy
from pypilot.cli.demo.workspace import Workspace, workspace

MARK = "mark.example"
MARK_ADDRESS = ("198.51.100.1", 80)
MUTUAL = {"istio": "mutual"}
LOCALITY = {"region": "near", "zone": "a"}
ROUTER = NodeIdentity("router", "127.0.0.2", "gateway", NAMESPACE, SELECTOR)
_POLL_SECONDS = 0.01


@dataclass(slots=True)
class Proxy:
    """An Envoy, and whoever calls through it."""

    envoy: Envoy
    caller: Caller
    mark: tuple[str, int]
    """Where the mark is to be seen."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Refused updates that an earlier configuration was blamed for."""

    async def settle(self, number: int) -> None:
        """Wait until a configuration holds."""
        deadline = time.monotonic() + SECONDS
        while not (await self._marked(number) and await self._is_warm() and await self._marked(number)):
            self.envoy.child.check()
            assert time.monotonic() < deadline, f"{self.envoy.name}: {self.envoy.complaints()[-3:]}"
            await asyncio.sleep(_POLL_SECONDS)
        before, self.rejected = self.rejected, await self.envoy.rejected_updates()
        assert self.rejected == before, self.envoy.complaints()

    async def _marked(self, number: int) -> bool:
        try:
            answer = await self.caller.ask(MARK, address=self.mark, logged=False)
        except aiohttp.ClientError:
            return False
        return answer.body == str(number).encode()

    async def _is_warm(self) -> bool:
        warming = await self.envoy.stats(
            "^cluster_manager.warming_clusters$|^listener_manager.total_listeners_warming$"
        )
        return len(warming) == 2 and not any(warming.values())


Deliver = Callable[[str, Sequence[Json]], Awaitable[None]]
"""Puts objects where the control plane reads, in place of what was there by that name; the last one last."""


@dataclass(slots=True)
class Stage:
    """Everything that tests use."""

    work: Workspace
    control_plane: ControlPlane
    stack: AsyncExitStack
    deliver: Deliver
    proxies: list[Proxy] = field(default_factory=list)
    doors: dict[str, Reservation] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def port(self, name: str) -> int:
        """A port of loopback on which an Envoy may listen; always the same for a name."""
        if name not in self.doors:
            self.doors[name] = place = reserve("127.0.0.1", 0)
            self.stack.callback(place.close)
            place.leave_to_others()
        return self.doors[name].address[1]

    async def apply(self, *objects: Json) -> None:
        """Let these be the configuration, in place of what was before, and wait until they are.

        A ConfigMap among them replaces the usual MeshConfig.
        """
        number = next(self._numbers)
        usual = [] if any(o["kind"] == "ConfigMap" for o in objects) else [mesh()]
        answer = {"directResponse": {"status": 200, "body": {"string": str(number)}}}
        mark = virtual_service(MARK, answer, gateways=(GATEWAY, f"{NAMESPACE}/mutual", "mesh"))
        await self.deliver("test", [*usual, *objects, mark])
        try:
            await asyncio.gather(*(proxy.settle(number) for proxy in self.proxies))
        except AssertionError as error:
            error.add_note(f"problems: {[str(p) for p in await self.control_plane.problems()]}")
            raise
        assert [str(p) for p in await self.control_plane.problems() if p.severity == "error"] == []

    async def add_gateway(
        self,
        node: NodeIdentity = ROUTER,
        name: str = "http",
        *,
        clusters: Sequence[Json] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Proxy:
        """A gateway, on loopback.

        Args:
            node: Who it is.
            name: Of the port where it takes plain HTTP.
            clusters: Of its bootstrap, beside the control plane's.
            metadata: Of its node, beside the usual.
        """
        bootstrap = ads_bootstrap(node, self.control_plane.grpc)
        bootstrap["node"]["locality"] = LOCALITY
        bootstrap["node"]["metadata"] |= metadata or {}
        bootstrap["static_resources"]["clusters"].extend(clusters)
        started = Envoy.start(bootstrap, self.work.directory(node.name), name=node.name)
        envoy = await self.stack.enter_async_context(started)
        await envoy.wait_live(SECONDS)
        address = ("127.0.0.1", self.port(name))
        caller = await self.stack.enter_async_context(Caller.of(envoy.access_log, address))
        self.proxies.append(proxy := Proxy(envoy, caller, address))
        return proxy


Running = AbstractAsyncContextManager[ControlPlane]


def _usual(work: Workspace) -> Running:
    return ControlPlane.start(work.config, work.directory("control-plane"))


def files_in(work: Workspace) -> Deliver:
    """Objects as files of the served directory."""

    async def deliver(name: str, objects: Sequence[Json]) -> None:
        work.write(f"{name}.yaml", yaml.safe_dump_all(objects, sort_keys=False))

    return deliver


@asynccontextmanager
async def set_stage(
    directory: Path,
    *further: Json,
    start: Callable[[Workspace], Running] | None = None,
    deliver: Deliver | None = None,
) -> AsyncIterator[Stage]:
    """Start the control plane with what all tests have, and further objects; end everything with the block.

    `start` starts another than the usual one, `deliver` gives objects to it otherwise than as files.
    """
    async with AsyncExitStack() as stack:
        work = stack.enter_context(workspace(directory, directory, {}))
        control_plane = (start or _usual)(work)
        deliver = deliver or files_in(work)
        stage = Stage(work, await stack.enter_async_context(control_plane), stack, deliver)
        mark = service_entry(MARK, addresses=[MARK_ADDRESS[0]])
        gateways = [
            gateway(server(stage.port("http"), "HTTP", "*"), name="gateway"),
            made("Gateway", "mutual", {"selector": MUTUAL, "servers": [server(stage.port("mutual"), "HTTP", "*")]}),
        ]
        base = [*further, mark, *gateways]
        await deliver("base", base)
        await deliver("test", [mesh()])
        await stage.control_plane.wait_ready(SECONDS)
        yield stage
