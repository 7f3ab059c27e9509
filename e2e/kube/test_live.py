"""Faults as a connected Envoy sees them: not at all. Each with requests through it all the time."""

import asyncio
from pathlib import Path

import pytest

from e2e.kube import objects
from e2e.kube.client import Client
from e2e.kube.cluster import Cluster
from e2e.kube.crds import custom_kinds, definition
from e2e.kube.following import wait_until
from e2e.kube.live import PLACE, routes, rule, under_load
from e2e.kube.proxies import HttpProxy, TcpProxy

pytestmark = pytest.mark.envoy


async def test_envoy_under_load_while_the_apiserver_is_killed_and_restarted(
    cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    async with under_load(cluster, client, tmp_path) as live:
        await asyncio.to_thread(cluster.kill_apiserver)
        await live.wait_requests()
        await asyncio.to_thread(cluster.start_apiserver)
        await client.apply(routes("31s"))
        await live.wait_timeout("31s")
        await live.assert_unharmed(client)


async def test_envoy_under_load_while_etcd_is_compacted_and_the_watch_is_down(
    cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    async with HttpProxy(cluster).running() as http, TcpProxy(http.port).running() as tcp:
        kubeconfig = cluster.kubeconfig(f"http://127.0.0.1:{tcp.port}", name="live")
        async with under_load(cluster, client, tmp_path, kubeconfig) as live:
            tcp.is_refusing = True
            tcp.cut_all()
            await client.apply(routes("31s"))
            await client.delete(objects.secret(PLACE, "plain"))
            await asyncio.to_thread(cluster.compact)
            await asyncio.to_thread(cluster.kill_apiserver)
            await asyncio.to_thread(cluster.start_apiserver)
            assert await live.timeout() == "30s"
            tcp.is_refusing = False
            await live.wait_timeout("31s")
            await live.assert_unharmed(client)


async def test_envoy_under_load_while_a_crd_is_deleted_and_recreated(
    cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    crd = definition(next(k for k in custom_kinds() if k.name == "DestinationRule"))
    async with under_load(cluster, client, tmp_path) as live:

        async def state() -> str:
            kinds = (await live.page("/debug/kinds"))["cluster"]["kinds"]
            return next(str(k["state"]) for k in kinds if k["kind"] == "DestinationRule")

        await client.delete(crd)
        await client.wait_gone(crd)
        while await state() != "not served":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await live.wait_requests()
        await client.apply_all([crd])
        await client.apply(rule(connections=7))
        while '"max_connections": 7' not in str(await live.envoy.admin("/config_dump")):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await live.assert_unharmed(client)


async def test_envoy_under_load_while_300_objects_change_within_a_second(
    cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    await client.apply(objects.namespace(PLACE))
    await client.apply_all(objects.service(PLACE, f"burst{i}") for i in range(300))
    async with under_load(cluster, client, tmp_path) as live:
        labelled = [objects.service(PLACE, f"burst{i}") for i in range(300)]
        for data in labelled:
            data["spec"]["ports"][0]["targetPort"] = 8081
        await client.apply_all([*labelled, routes("31s")])
        await live.wait_timeout("31s")
        await live.assert_unharmed(client)


@pytest.mark.parametrize("how", ["orderly", "killed"])
async def test_envoy_under_load_while_pypilot_restarts(
    how: str, cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    async with under_load(cluster, client, tmp_path) as live:
        await (live.pypilot.stop() if how == "orderly" else live.kill())
        await client.apply(routes("31s"))
        await live.wait_requests()
        await live.start()
        await live.wait_timeout("31s")
        await live.assert_unharmed(client)


async def test_envoy_under_load_while_pypilot_and_the_apiserver_restart_together(
    cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    """The API server answers some requests before it knows of all its kinds: that is no complete state."""
    async with under_load(cluster, client, tmp_path) as live:
        await asyncio.to_thread(cluster.kill_apiserver)
        await live.kill()
        await live.start()
        await live.wait_requests()
        assert not await live.is_ready()
        await asyncio.to_thread(cluster.start_apiserver)
        await live.assert_unharmed(client)


async def test_envoy_under_load_while_pypilot_restarts_and_lists_are_slow(
    cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    """One kind after the other comes late: nothing is served until the last has come."""
    async with HttpProxy(cluster).running() as http:
        held = asyncio.Event()

        async def rule(request: object) -> None:
            if "serviceentries" in str(request):
                await held.wait()

        async with under_load(cluster, client, tmp_path) as live:
            http.rule = rule
            await live.kill()
            await live.start(cluster.kubeconfig(f"http://127.0.0.1:{http.port}", name="slow"))
            await wait_until(lambda: "/api/v1/services" in {path for _, path, _ in http.requests}, "lists")
            await live.wait_requests()
            assert not await live.is_ready()
            held.set()
            await live.assert_unharmed(client)
