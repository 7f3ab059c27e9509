"""Machines outside Kubernetes on a real Envoy: shares by weight and place, health, and the way into another network."""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientError

from pypilot.cli.demo.addresses import free_port
from pypilot.cli.demo.backends import Backend, serve
from pypilot.cli.demo.bootstrap import NodeIdentity, ads_bootstrap
from pypilot.cli.demo.certificates import Authority
from pypilot.cli.demo.checks import split_bounds
from pypilot.cli.demo.clients import HttpClient
from pypilot.cli.demo.control_plane import ControlPlane
from pypilot.cli.demo.envoy import Envoy

pytestmark = pytest.mark.envoy

PATIENCE = 60.0
SPACE = "machines"
HOST = "prices.example"
REQUESTS = 400


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """Wait until a coroutine function says something true."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                if got := await condition():
                    return got
            except (ClientError, OSError):
                pass
            await asyncio.sleep(0.05)


def made(kind: str, name: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """An object of Istio's networking API."""
    whole = {"name": name, "namespace": SPACE, **metadata}
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": whole, "spec": spec}


def machine(name: str, port: int, locality: str, weight: int = 1, **more: Any) -> dict[str, Any]:
    """A WorkloadEntry on loopback."""
    spec = {"address": "127.0.0.1", "ports": {"http": port}, "labels": {"app": "prices"}}
    return made("WorkloadEntry", name, {**spec, "locality": locality, "weight": weight}, **more)


def entry(**more: Any) -> dict[str, Any]:
    """The ServiceEntry that selects them."""
    port = {"number": 80, "name": "http", "protocol": "HTTP"}
    spec = {"hosts": [HOST], "resolution": "STATIC", "location": "MESH_INTERNAL", "ports": [port]}
    return made("ServiceEntry", "prices", {**spec, "workloadSelector": {"labels": {"app": "prices"}}, **more})


def door(port: int) -> list[dict[str, Any]]:
    """A Gateway of the label `at: door`, and a way through it to the machines."""
    server = {"port": {"number": port, "name": "http", "protocol": "HTTP"}, "bind": "127.0.0.1", "hosts": [HOST]}
    route = {"route": [{"destination": {"host": HOST}}]}
    return [
        made("Gateway", "door", {"selector": {"at": "door"}, "servers": [server]}),
        made("VirtualService", "door", {"hosts": [HOST], "gateways": ["door"], "http": [route]}),
    ]


class Stage:
    """A control plane over one file, and what runs beside it."""

    def __init__(self, stack: AsyncExitStack, directory: Path, binary: Path) -> None:
        self.stack, self.directory, self.binary = stack, directory, binary
        self.config = directory / "config"
        self.config.mkdir()

    def write(self, *objects: dict[str, Any]) -> None:
        (self.config / "world.yaml").write_text(yaml.safe_dump_all(objects))

    async def start(self, *objects: dict[str, Any]) -> None:
        self.write(*objects)
        self.pypilot = await self.stack.enter_async_context(ControlPlane.start(self.config, self.directory))
        await self.pypilot.wait_ready(PATIENCE)
        assert [str(p) for p in await self.pypilot.problems()] == []

    async def backend(self, version: str, **more: Any) -> tuple[Backend, int]:
        listening = socket.create_server(("127.0.0.1", 0))
        found = await self.stack.enter_async_context(serve(Backend("prices", version, **more), listening))
        return found, listening.getsockname()[1]

    async def envoy(self, name: str, **metadata: str) -> Envoy:
        identity = NodeIdentity("router", "10.1.0.9", name, SPACE, {"at": name})
        bootstrap = ads_bootstrap(identity, self.pypilot.grpc)
        bootstrap["node"]["metadata"].update(metadata)
        bootstrap["node"]["locality"] = {"region": "r1", "zone": "z1"}
        directory = self.directory / name
        directory.mkdir()
        envoy = await self.stack.enter_async_context(Envoy.start(bootstrap, directory, binary=self.binary, name=name))
        await envoy.wait_live(PATIENCE)
        return envoy


async def answers(client: HttpClient, url: str, count: int) -> Counter[str]:
    """Which version answered how often."""
    got = await client.get_many(url, count)
    assert {answer.status for answer in got} == {200}
    return Counter(str(answer.seen["version"]) for answer in got)


async def test_machines_get_traffic_by_place_weight_and_health(envoy_binary: Path, tmp_path: Path) -> None:
    """WE-001…003, SE-013: 3 to 1 in the zone, none elsewhere until the near ones are not healthy."""
    async with AsyncExitStack() as stack:
        stage = Stage(stack, tmp_path, envoy_binary)
        ports = {version: (await stage.backend(version))[1] for version in ("heavy", "light", "far")}
        policy = {"outlierDetection": {"consecutive5xxErrors": 100}}  # without it there is no failover
        rule = {"host": HOST, "trafficPolicy": {**policy, "loadBalancer": {"simple": "ROUND_ROBIN"}}}
        port = free_port()
        rest = [entry(), made("DestinationRule", "prices", rule), *door(port)]
        far = machine("far", ports["far"], "r2/z9", 100)
        near = [machine("heavy", ports["heavy"], "r1/z1", 3), machine("light", ports["light"], "r1/z1", 1)]
        await stage.start(*rest, *near, far)
        envoy = await stage.envoy("door")
        client = await stack.enter_async_context(HttpClient.to("127.0.0.1"))
        url = f"http://{HOST}:{port}/"

        async def serves() -> bool:
            return (await client.get(url)).status == 200

        await until(serves)
        seen = await answers(client, url, REQUESTS)
        low, high = split_bounds(REQUESTS, 0.75)
        assert seen.keys() == {"heavy", "light"}
        assert low <= seen["heavy"] <= high

        for vm in near:
            vm["metadata"]["annotations"] = {"proxy.istio.io/health-checks-enabled": "true"}
        near[0]["status"] = {"conditions": [{"type": "Healthy", "status": "False"}]}
        stage.write(*rest, *near, far)  # the other one has not said anything yet

        async def only_far() -> bool:
            return (await answers(client, url, 20)).keys() == {"far"}

        await until(only_far)
        near[1]["status"] = {"conditions": [{"type": "Healthy", "status": "True"}]}
        stage.write(*rest, *near, far)

        async def only_light() -> bool:
            return (await answers(client, url, 20)).keys() == {"light"}

        await until(only_light)
        assert await envoy.rejected_updates() == {}


async def through(port: int, server_name: str) -> tuple[bytes, bytes]:
    """The certificate and the answer at the end of a TLS connection, whoever forwards it."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["istio"])  # as a sidecar does
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=server_name)
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(True)
        writer.write(f"GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n".encode())
        return shown, await reader.read()
    finally:
        writer.close()


async def test_another_network_is_reached_by_its_gateway(envoy_binary: Path, tmp_path: Path) -> None:
    """EDS-008, EDS-009, MESH-045, GW-039: the far machine is its gateway's address, which forwards TLS by the SNI."""
    async with AsyncExitStack() as stack:
        stage = Stage(stack, tmp_path, envoy_binary)
        certificate = Authority("machines").issue(HOST)
        near = (await stage.backend("near"))[1]
        far, far_port = await stage.backend("far", certificate=certificate)
        east_west, unused, port = free_port(), free_port(), free_port()
        networks = {"networks": {"b": {"gateways": [{"address": "127.0.0.1", "port": p} for p in (east_west, unused)]}}}
        tls = {"mode": "AUTO_PASSTHROUGH"}
        server = {
            "port": {"number": east_west, "name": "tls", "protocol": "TLS"},
            "bind": "127.0.0.1",
            "hosts": ["*.example"],
            "tls": tls,
        }
        remote = machine("far", far_port, "r1/z1", 3)
        remote["spec"] |= {"network": "b", "serviceAccount": "prices"}
        plain = machine("far-without-tls", far_port, "r1/z1")
        plain["spec"]["network"] = "b"
        config_map = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"meshNetworks": yaml.safe_dump(networks)},
        }
        local = machine("near", near, "r1/z1")
        local["spec"]["network"] = "a"
        await stage.start(
            config_map,
            entry(),
            local,
            remote,
            plain,
            *door(port),
            made("Gateway", "east-west", {"selector": {"at": "east-west"}, "servers": [server]}),
        )

        async def hosts(envoy: Envoy, cluster: str) -> dict[int, int]:
            """Port of each host of a cluster, and its weight."""
            data = await envoy.admin_json("/clusters?format=json")
            return {
                host["address"]["socket_address"]["port_value"]: host["weight"]
                for status in data["cluster_statuses"]
                if status["name"] == cluster
                for host in status.get("host_statuses", ())
            }

        client = await stage.envoy("door", NETWORK="a")
        name = f"outbound|80||{HOST}"
        seen = await until(lambda: hosts(client, name))
        assert seen == {near: 2, east_west: 3, unused: 3}  # weights of 1 and 3, doubled for two gateways

        gateway = await stage.envoy("east-west", NETWORK="b")
        sni = f"outbound_.80_._.{HOST}"
        assert await until(lambda: hosts(gateway, sni)) == {far_port: 6}  # itself, and only what speaks TLS

        async def forwarded() -> tuple[bytes, bytes]:
            return await through(east_west, sni)

        shown, answer = await until(forwarded)
        assert shown == ssl.PEM_cert_to_DER_cert(
            certificate.certificate.decode().partition("-----END")[0] + "-----END CERTIFICATE-----"
        )
        assert answer.startswith(b"HTTP/1.1 200")
        assert far.server_names == [sni] * len(far.server_names)
        assert [await e.rejected_updates() for e in (client, gateway)] == [{}, {}]
