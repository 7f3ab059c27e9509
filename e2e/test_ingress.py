"""Ingresses on a real Envoy: the mesh's class is served over HTTP and HTTPS by path, another class is ignored."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientError, web

from pypilot.cli.demo.addresses import reserve
from pypilot.cli.demo.bootstrap import NodeIdentity, ads_bootstrap
from pypilot.cli.demo.certificates import Authority
from pypilot.cli.demo.clients import HttpClient
from pypilot.cli.demo.control_plane import ControlPlane
from pypilot.cli.demo.envoy import Envoy

pytestmark = pytest.mark.envoy

PATIENCE = 60.0
ROOT = "istio-system"
HOST = "shop.example.com"
OTHER = "nginx.example.com"
GATEWAY = NodeIdentity("router", "10.1.0.9", "gateway-0", ROOT, {"istio": "ingressgateway"})


def service(name: str, namespace: str, ports: dict[int, int], address: str) -> list[dict[str, Any]]:
    """A Service whose port numbers stand for others at one address."""
    metadata = {"name": name, "namespace": namespace}
    named = {number: f"http-{number}" for number in ports}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {
                "clusterIP": "10.96.0.9",
                "selector": {"istio": "ingressgateway"} if address == GATEWAY.ip else {},
                "ports": [{"name": named[n], "port": n, "targetPort": target} for n, target in ports.items()],
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "addressType": "IPv4",
            "metadata": {**metadata, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": [{"addresses": [address]}],
            "ports": [{"name": named[n], "port": target} for n, target in ports.items()],
        },
    ]


def ingress(name: str, of_class: str, host: str, **spec: object) -> dict[str, Any]:
    """`/cart` and what is below it goes to one backend, by the name of its port; everything else to another."""
    cart = {"service": {"name": "cart", "port": {"name": "http-80"}}}
    web = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": p, "pathType": "Prefix", "backend": b} for p, b in (("/", web), ("/cart", cart))]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": "shop", "annotations": {"kubernetes.io/ingress.class": of_class}},
        "spec": {"rules": [{"host": host, "http": {"paths": paths}}], **spec},
    }


@asynccontextmanager
async def backend(name: str) -> AsyncIterator[int]:
    """An HTTP server that says its name for every path."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=name)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def until(condition: Callable[[], Any]) -> None:
    """Wait until a coroutine function says something true."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_an_ingress_is_served_by_host_path_and_certificate(envoy_binary: Path, tmp_path: Path) -> None:
    """KSVC-045…051: TLS from the Secret, two paths, a port by name; an Ingress of class nginx is not served."""
    authority = Authority("ingress")
    config = tmp_path / "config"
    config.mkdir()
    async with AsyncExitStack() as stack:
        places = [stack.enter_context(closing(reserve("127.0.0.1", 0))) for _ in range(2)]
        plain, secure = (place.address[1] for place in places)
        for place in places:
            place.leave_to_others()
        ports = {name: await stack.enter_async_context(backend(name)) for name in ("web", "cart")}
        tls = [{"hosts": [HOST], "secretName": "shop-tls"}]
        world = [
            *service("istio-ingressgateway", ROOT, {80: plain, 443: secure}, GATEWAY.ip),
            *(doc for name, port in ports.items() for doc in service(name, "shop", {80: port}, "127.0.0.1")),
            ingress("shop", "istio", HOST, tls=tls),
            ingress("theirs", "nginx", OTHER, defaultBackend={"service": {"name": "web", "port": {"number": 80}}}),
        ]
        secret = authority.issue(HOST).secret_yaml("shop-tls", ROOT)
        (config / "world.yaml").write_text(yaml.safe_dump_all(world) + "---\n" + secret)
        pypilot = await stack.enter_async_context(ControlPlane.start(config, tmp_path))
        await pypilot.wait_ready(PATIENCE)
        assert await pypilot.problems() == []
        bootstrap = ads_bootstrap(GATEWAY, pypilot.grpc)
        envoy = await stack.enter_async_context(Envoy.start(bootstrap, tmp_path, binary=envoy_binary))
        await envoy.wait_live(PATIENCE)
        client = await stack.enter_async_context(HttpClient.to("127.0.0.1", authority.client_context()))

        bases = (f"https://{HOST}:{secure}", f"http://{HOST}:{plain}")

        async def answered() -> bool:
            try:
                return all([(await client.get(f"{base}/")).status == 200 for base in bases])
            except ClientError:
                return False

        await until(answered)
        for base in bases:
            got = {p: (await client.get(base + p)).body for p in ("/", "/cart", "/cart/1", "/carting", "/else")}
            assert got == {"/": b"web", "/cart": b"cart", "/cart/1": b"cart", "/carting": b"web", "/else": b"web"}
        assert (await client.get(f"http://{OTHER}:{plain}/")).status == 404
        with pytest.raises(ClientError):  # no certificate for that name
            await client.get(f"https://{OTHER}:{secure}/")

        world[-2]["spec"]["defaultBackend"] = {"service": {"name": "web", "port": {"number": 80}}}
        world[-1]["metadata"]["annotations"] = {"kubernetes.io/ingress.class": "istio"}
        del world[-1]["spec"]["defaultBackend"]
        (config / "world.yaml").write_text(yaml.safe_dump_all(world) + "---\n" + secret)

        async def taken_over() -> bool:
            return (await client.get(f"http://{OTHER}:{plain}/")).status == 200

        await until(taken_over)
        (problem,) = await pypilot.problems()
        lines = (config / "world.yaml").read_text().splitlines()
        assert (problem.kind, problem.name, problem.field) == ("Ingress", "shop", "spec.defaultBackend")
        assert "defaultBackend" in lines[problem.line - 1]
        assert await envoy.rejected_updates() == {}
