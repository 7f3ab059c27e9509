"""Ways to an API server that differ from the usual: old discovery, HTTP proxies, certificates that run out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from e2e.kube import objects
from e2e.kube.client import Client
from e2e.kube.cluster import Cluster
from e2e.kube.following import assert_converges, following, wait_until
from e2e.kube.proxies import HttpProxy, TcpProxy


async def test_discovery_that_is_not_aggregated(cluster: Cluster, client: Client) -> None:
    """Of a server before 1.27, which knows only the old form of the list of groups."""
    await client.apply_all(objects.mesh("path-discovery"))
    async with HttpProxy(cluster).running() as proxy:

        async def rule(request: web.Request) -> web.StreamResponse | None:
            if request.path == "/apis":
                return web.json_response({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})
            return None

        proxy.rule = rule
        async with following(cluster.kubeconfig(f"http://127.0.0.1:{proxy.port}", name="old")) as follower:
            assert {k.state for k in follower.source.statistics().kinds} == {"synced"}
            await assert_converges(follower, client)


@asynccontextmanager
async def connect_proxy() -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy that knows CONNECT only; its URL, and what it was asked for."""
    asked: list[str] = []
    tasks: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split()[1].decode())
        host, _, port = asked[-1].partition(":")
        back_reader, back_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for ends in ((reader, back_writer), (back_reader, writer)):
            task = asyncio.create_task(copy(*ends))
            tasks.add(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_proxy_of_the_environment(cluster: Cluster, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await client.apply_all(objects.mesh("path-proxy"))
    async with connect_proxy() as (url, asked):
        with monkeypatch.context() as environment:
            environment.delenv("NO_PROXY", raising=False)
            environment.delenv("no_proxy", raising=False)
            environment.setenv("HTTPS_PROXY", url)
            async with following(cluster.kubeconfig()) as follower:
                await assert_converges(follower, client)
                assert set(asked) == {f"127.0.0.1:{cluster.port}"}
                count = len(asked)
        with monkeypatch.context() as environment:
            environment.setenv("HTTPS_PROXY", url)
            environment.setenv("NO_PROXY", "127.0.0.1")
            async with following(cluster.kubeconfig()) as follower:
                await assert_converges(follower, client)
        assert len(asked) == count, "NO_PROXY is honoured"


async def test_expired_client_certificate_is_read_again(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    place = "path-certificate"
    await client.apply_all(objects.mesh(place))
    certificate, key = cluster.pki.issue("brief", groups=("system:masters",), seconds=4)
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    async with TcpProxy(cluster.port).running() as proxy:
        kubeconfig = cluster.kubeconfig(f"https://127.0.0.1:{proxy.port}", user, name="brief")
        async with following(kubeconfig) as follower:
            await wait_until(lambda: proxy.cut_all() or "401" in follower.kind("Service").error, "the expiry")
            await client.apply(objects.virtual_service(place, "app0", weight=44))
            await wait_until(lambda: bool(follower.problems), "the expiry to be reported")
            assert not follower.removed
            cluster.pki.issue("brief", groups=("system:masters",))
            await assert_converges(follower, client)
            await wait_until(lambda: not follower.problems, "the end of all problems")


async def test_token_file_that_is_rotated_before_it_expires(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    """The old token is revoked with its service account's uid; nobody sees anything of it."""
    place = "path-rotation"
    await client.apply_all([*objects.mesh(place), objects.service_account(place, "pilot")])
    account = await client.request("GET", f"/api/v1/namespaces/{place}/serviceaccounts/pilot")
    token = tmp_path / "token"

    def write(seconds: float) -> None:
        token.write_text(cluster.pki.token(place, "pilot", account["metadata"]["uid"], seconds))

    rbac = "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "e2e-rotation"},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "pilot", "namespace": place}],
    }
    await client.apply(binding)
    try:
        write(3600)
        kubeconfig = cluster.kubeconfig(user={"tokenFile": str(token)}, name="rotation")
        async with TcpProxy(cluster.port).running() as proxy:
            kubeconfig = cluster.kubeconfig(
                f"https://127.0.0.1:{proxy.port}", {"tokenFile": str(token)}, name="rotation"
            )
            async with following(kubeconfig) as follower:
                for weight in (10, 20):
                    write(3600)
                    proxy.cut_all()
                    await client.apply(objects.virtual_service(place, "app0", weight))
                    await assert_converges(follower, client)
                assert not follower.removed
    finally:
        await client.delete(binding)
