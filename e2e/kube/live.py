"""A whole `pypilot serve` on a cluster, a real Envoy behind it, and requests through that Envoy all the time.

    async with under_load(cluster, client, directory) as live:
        ...                                   # something happens
        await live.assert_unharmed(client)

Unharmed means: no request failed, the Envoy never lost or refused a resource, and what it is served at the end is, byte
by byte of its dump, what an engine of its own gives that reads the cluster anew (see `following.fresh_engine`).
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from e2e.kube import objects
from e2e.kube.client import Client
from e2e.kube.cluster import Cluster, free_port
from e2e.kube.following import SECONDS, fresh_engine, wait_until
from pypilot.admin.config_dump import config_dump
from pypilot.cli.demo.bootstrap import NodeIdentity, ads_bootstrap
from pypilot.cli.demo.envoy import Envoy
from pypilot.cli.demo.process import Child
from pypilot.wire.node import parse_node

PLACE = "live"
HOST = "shop.example"
_GATEWAY = NodeIdentity("router", "10.128.9.9", "gateway-0", PLACE, {"istio": "ingressgateway"})
_LOSSES = ("cluster_manager.cluster_removed", "listener_manager.listener_removed")


def world(port: int, backends: Sequence[int]) -> list[dict[str, Any]]:
    """A gateway on a loopback port, and a host with some endpoints; those of slices may not be loopback."""
    servers = [{"port": {"number": port, "name": "http", "protocol": "HTTP"}, "bind": "127.0.0.1", "hosts": [HOST]}]
    gateway = objects.gateway(PLACE, "gw")
    gateway["spec"]["servers"] = servers
    entry = objects.service_entry(PLACE, "shop")
    entry["spec"] = {
        "hosts": [HOST],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "endpoints": [{"address": "127.0.0.1", "ports": {"http": backend}} for backend in backends],
    }
    mine = ("Gateway", "ServiceEntry", "DestinationRule", "VirtualService")
    out = [d for d in objects.mesh(PLACE, 4) if d["kind"] not in mine]
    return [*out, gateway, entry, rule(), routes()]


def rule(connections: int = 1000) -> dict[str, Any]:
    """What becomes of the cluster's thresholds; no subset, so that no cluster goes with it."""
    data = objects.destination_rule(PLACE, "shop")
    data["spec"] = {"host": HOST, "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": connections}}}}
    return data


def routes(timeout: str = "30s") -> dict[str, Any]:
    """The rule of the gateway."""
    data = objects.virtual_service(PLACE, "shop")
    route = [{"destination": {"host": HOST, "port": {"number": 80}}}]
    data["spec"] = {"hosts": [HOST], "gateways": ["gw"], "http": [{"timeout": timeout, "route": route}]}
    return data


class Live:
    """The running parts, and what became of the requests."""

    def __init__(self, kubeconfig: Path, directory: Path, port: int) -> None:
        self.kubeconfig = kubeconfig
        self.port = port
        self.answered = 0
        self.failures: list[str] = []
        self.envoy: Envoy
        self.pypilot: Child
        self._directory = directory
        self._grpc, self._http = free_port(), free_port()
        self._starts = 0
        self._children = AsyncExitStack()

    # -- pypilot ------------------------------------------------------------------------------------------------------

    async def start(self, kubeconfig: Path | None = None) -> None:
        """Start `pypilot serve`, always on the same ports; does not wait."""
        self._starts += 1
        argv = [
            *(sys.executable, "-m", "pypilot", "serve", "--kubeconfig", str(kubeconfig or self.kubeconfig)),
            *("--grpc-addr", f"127.0.0.1:{self._grpc}", "--http-addr", f"127.0.0.1:{self._http}"),
            *("--monitoring-addr", "", "--log-format", "json"),
        ]
        child = Child.start(argv, self._directory, name=f"pypilot-{self._starts}")
        self.pypilot = await self._children.enter_async_context(child)

    async def kill(self) -> None:
        """End pypilot as a crash would."""
        os.kill(self.pypilot.pid, signal.SIGKILL)
        await wait_until(lambda: not self.pypilot.running, "the end of pypilot")

    async def is_ready(self) -> bool:
        """What `/ready` says."""
        self.pypilot.check()
        try:
            async with aiohttp.ClientSession() as session, session.get(self._url("/ready")) as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def wait_ready(self) -> None:
        """Wait for `/ready`."""
        end = time.monotonic() + SECONDS
        while not await self.is_ready():
            assert time.monotonic() < end, self.pypilot.tail()
            await asyncio.sleep(0.02)

    async def page(self, path: str) -> Any:
        """One of pypilot's debug pages."""
        async with aiohttp.ClientSession() as session, session.get(self._url(path)) as response:
            return await response.json()

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._http}{path}"

    # -- Envoy --------------------------------------------------------------------------------------------------------

    def bootstrap(self) -> dict[str, Any]:
        """The Envoy's."""
        return ads_bootstrap(_GATEWAY, ("127.0.0.1", self._grpc))

    async def timeout(self) -> str:
        """The timeout of the rule, as Envoy has it."""
        text = json.dumps(await self.envoy.config_dump("dynamic_route_configs"))
        return text.partition('"timeout": "')[2].partition('"')[0]

    async def wait_timeout(self, wanted: str) -> None:
        """Wait until a change of the rule has come to Envoy."""
        end = time.monotonic() + SECONDS
        while await self.timeout() != wanted:
            assert time.monotonic() < end, f"Envoy has a timeout of {await self.timeout()}"
            await asyncio.sleep(0.02)

    async def request(self) -> None:
        """Requests, one after the other, for ever; each on a connection of its own, as new users have."""
        connector = aiohttp.TCPConnector(force_close=True)
        limit = aiohttp.ClientTimeout(total=SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=limit) as session:
            while True:
                try:
                    url = f"http://127.0.0.1:{self.port}/"
                    async with session.get(url, headers={"Host": HOST}) as response:
                        text = await response.text()
                        if response.status != 200 or not text.startswith("backend"):
                            self.failures.append(f"{response.status} {text}")
                except (aiohttp.ClientError, OSError) as error:
                    self.failures.append(repr(error))
                self.answered += 1
                await asyncio.sleep(0.005)

    async def wait_requests(self, count: int = 20) -> None:
        """Wait for some more requests."""
        goal = self.answered + count
        await wait_until(lambda: self.answered >= goal, "requests")

    async def assert_unharmed(self, client: Client) -> None:
        """See above."""
        await self.wait_ready()
        await self.wait_requests()
        assert not self.failures, (len(self.failures), self.answered, self.failures[:3])
        losses = await self.envoy.stats("|".join(_LOSSES))
        assert losses == dict.fromkeys(_LOSSES, 0), losses
        assert await self.envoy.rejected_updates() == {}
        proxy = parse_node(await self._node())
        end = time.monotonic() + SECONDS
        while True:
            wanted = config_dump((await fresh_engine(client)).compile_for(proxy), with_endpoints=True)
            found = await self.page(f"/debug/config_dump?proxyID={proxy.id}&include_eds")
            if json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True):
                break
            assert time.monotonic() < end, "what is served is not what the cluster says"
            await asyncio.sleep(0.1)
        (connection,) = [c for c in await self.page("/debug/connections") if c["node"] == proxy.id]
        assert all(t["synced"] and not t["error"] for t in connection["types"].values()), connection
        assert {k["state"] for k in (await self.page("/debug/kinds"))["cluster"]["kinds"]} == {"synced"}

    async def _node(self) -> dict[str, Any]:
        """Who the Envoy said it is, with the extensions that it has."""
        dump = await self.envoy.config_dump()
        found: dict[str, Any] = next(d["bootstrap"]["node"] for d in dump if "bootstrap" in d)
        return found


@asynccontextmanager
async def backend(name: str) -> AsyncIterator[int]:
    """An HTTP server that says its name."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=name)

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def under_load(
    cluster: Cluster, client: Client, directory: Path, kubeconfig: Path | None = None
) -> AsyncIterator[Live]:
    """Everything up and serving; `kubeconfig` if pypilot is to reach the cluster by way of a proxy."""
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(backend(f"backend {i}")) for i in range(2)]
        live = Live(kubeconfig or cluster.kubeconfig(), directory, free_port())
        await client.apply_all(world(live.port, ports))
        await stack.enter_async_context(live._children)
        await live.start()
        await live.wait_ready()
        live.envoy = await stack.enter_async_context(Envoy.start(live.bootstrap(), directory, concurrency=2))
        await live.envoy.wait_live(SECONDS)
        await live.wait_timeout("30s")
        requests = asyncio.create_task(live.request())
        try:
            await live.wait_requests()
            yield live
            live.envoy.child.check()
            assert not requests.done()
        finally:
            requests.cancel()
            await asyncio.gather(requests, return_exceptions=True)
