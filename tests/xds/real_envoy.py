"""A real Envoy for the tests of the streams: minimal resources, bootstrap, backends, questions to its admin port."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from cryptography import x509
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.config_source_pb2 import ApiVersion, ConfigSource
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext

from pypilot.cli.demo.envoy import EnvoyNotFoundError, find_envoy
from pypilot.wire.resource import Chunk, Resource, ResourceSet
from tests.xds.certificates import Authority
from tests.xds.harness import HandCatalog

PATIENCE = 60.0


def envoy_binary() -> str:
    try:
        return str(find_envoy(os.environ))
    except EnvoyNotFoundError as error:
        pytest.skip(str(error))


def ads() -> ConfigSource:
    source = ConfigSource(resource_api_version=ApiVersion.V3)
    source.ads.SetInParent()
    source.initial_fetch_timeout.seconds = 0  # wait for ever: what is not sent shows
    return source


def cluster(name: str, timeout: int = 1) -> Cluster:
    message = Cluster(name=name, type=Cluster.EDS)
    message.connect_timeout.seconds = timeout
    message.eds_cluster_config.service_name = name
    message.eds_cluster_config.eds_config.CopyFrom(ads())
    return message


def endpoints(name: str, port: int) -> ClusterLoadAssignment:
    message = ClusterLoadAssignment(cluster_name=name)
    address = message.endpoints.add().lb_endpoints.add().endpoint.address.socket_address
    address.address, address.port_value = "127.0.0.1", port
    return message


def route(name: str, target: str) -> RouteConfiguration:
    message = RouteConfiguration(name=name)
    host = message.virtual_hosts.add(name="all", domains=["*"])
    rule = host.routes.add()
    rule.match.prefix = "/"
    rule.route.cluster = target
    return message


def listener(name: str, secret: str = "") -> Listener:
    manager = HttpConnectionManager(stat_prefix=name)
    manager.rds.route_config_name = name
    manager.rds.config_source.CopyFrom(ads())
    http_filter = manager.http_filters.add(name="envoy.filters.http.router")
    http_filter.typed_config.Pack(Router())
    message = Listener(name=name)
    message.address.socket_address.address = "127.0.0.1"
    message.address.socket_address.port_value = 0
    chain = message.filter_chains.add()
    chain.filters.add(name="http").typed_config.Pack(manager)
    if secret:
        context = DownstreamTlsContext()
        config = context.common_tls_context.tls_certificate_sds_secret_configs.add(name=secret)
        config.sds_config.CopyFrom(ads())
        chain.transport_socket.name = "tls"
        chain.transport_socket.typed_config.Pack(context)
    return message


def secret(name: str, authority: Authority) -> Secret:
    pair = authority.issue(dns=name)
    message = Secret(name=name)
    message.tls_certificate.certificate_chain.inline_bytes = pair.certificate
    message.tls_certificate.private_key.inline_bytes = pair.key
    return message


def serial(message: Secret) -> int:
    return x509.load_pem_x509_certificate(message.tls_certificate.certificate_chain.inline_bytes).serial_number


def put(catalog: HandCatalog, type_url: str, *messages: Any) -> None:
    resources = [
        Resource.of(getattr(m, "name", "") or m.cluster_name, type_url, m.SerializeToString(deterministic=True))
        for m in messages
    ]
    catalog.sets[type_url] = ResourceSet((Chunk(resources),))


@asynccontextmanager
async def backend(answer: str) -> AsyncIterator[int]:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(text=answer)

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class Envoy:
    def __init__(self, admin: str) -> None:
        self.admin = admin
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))

    async def get(self, url: str) -> str:
        async with self.http.get(url, ssl=False) as response:
            return await response.text()

    async def stats(self) -> dict[str, int]:
        got = json.loads(await self.get(f"{self.admin}/stats?format=json&type=Gauges"))
        more = json.loads(await self.get(f"{self.admin}/stats?format=json&type=Counters"))
        return {s["name"]: s["value"] for s in got["stats"] + more["stats"] if "name" in s}

    async def port(self, name: str) -> int:
        """The port that a listener took."""
        got = json.loads(await self.get(f"{self.admin}/listeners?format=json"))
        for status in got.get("listener_statuses", ()):
            if status["name"] == name:
                return int(status["local_address"]["socket_address"]["port_value"])
        return 0

    async def answer(self, name: str, scheme: str = "http") -> str:
        try:
            return await self.get(f"{scheme}://127.0.0.1:{await self.port(name)}/")
        except aiohttp.ClientError:
            return ""

    async def serial(self, name: str) -> int:
        """The serial number of the certificate that a listener shows."""
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", await self.port(name), ssl=_trust_all())
        except OSError:
            return 0
        certificate = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(True))
        writer.close()
        return certificate.serial_number

    async def assert_calm(self) -> None:
        """Nothing was rejected and nothing waits."""
        stats = await self.stats()
        assert stats["cluster_manager.warming_clusters"] == 0
        assert stats["listener_manager.total_listeners_warming"] == 0
        rejected = {name: value for name, value in stats.items() if name.endswith("update_rejected") and value}
        assert rejected == {}
        dump = json.loads(await self.get(f"{self.admin}/config_dump"))
        for part in dump["configs"]:
            assert "dynamic_warming_clusters" not in part
            assert "dynamic_warming_secrets" not in part
            assert not any(
                "warming_state" in entry or "error_state" in entry for entry in part.get("dynamic_listeners", ())
            )


def _trust_all() -> Any:
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def eventually(wanted: Any, probe: Any, *args: Any) -> None:
    got = None

    async def poll() -> None:
        nonlocal got
        while (got := await probe(*args)) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    try:
        await asyncio.wait_for(poll(), PATIENCE)
    except TimeoutError:
        pytest.fail(f"waited for {wanted!r}, last saw {got!r}")


def bootstrap(port: int, api_type: str) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    service = {"envoy_grpc": {"cluster_name": "xds"}}
    xds = {
        "name": "xds",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "xds",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    return {
        "node": {"id": "router~127.0.0.1~gw.default~default.svc.cluster.local", "cluster": "gw"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "dynamic_resources": {
            "ads_config": {"api_type": api_type, "transport_api_version": "V3", "grpc_services": [service]},
            "cds_config": source,
            "lds_config": source,
        },
        "static_resources": {"clusters": [xds]},
    }


@asynccontextmanager
async def envoy(directory: Path, port: int, api_type: str) -> AsyncIterator[Envoy]:
    config, admin = directory / "envoy.yaml", directory / "admin"
    config.write_text(yaml.safe_dump(bootstrap(port, api_type)))
    with (directory / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            envoy_binary(),
            *("-c", str(config), "--admin-address-path", str(admin)),
            *("--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"),
            stdout=log,
            stderr=log,
        )
        proxy = None
        try:
            while not admin.exists() or not admin.read_text():
                assert process.returncode is None, (directory / "envoy.log").read_text()[-2000:]
                await asyncio.sleep(0.02)
            proxy = Envoy(f"http://{admin.read_text()}")
            yield proxy
        finally:
            if proxy is not None:
                await proxy.http.close()
            if process.returncode is None:
                process.kill()
            await process.wait()


async def connect_timeout(proxy: Envoy, name: str) -> int:
    """Of an active cluster; 0 if there is none."""
    dump = json.loads(await proxy.get(f"{proxy.admin}/config_dump?resource=dynamic_active_clusters"))
    for entry in dump.get("configs", ()):
        if entry["cluster"]["name"] == name:
            return int(entry["cluster"]["connect_timeout"].removesuffix("s"))
    return 0


async def warming(proxy: Envoy) -> int:
    return (await proxy.stats())["cluster_manager.warming_clusters"]
