"""Envoys without an agent: a bootstrap written by hand, a token, and mutual TLS with certificates from ADS."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from click.testing import CliRunner

from e2e.outcomes.objects import NAMESPACE, Json, destination_rule, made, server, service_entry, to, virtual_service
from e2e.outcomes.servers import App
from pypilot.cli.demo.addresses import free_port
from pypilot.cli.demo.bootstrap import XDS_CLUSTER, NodeIdentity, ads_bootstrap
from pypilot.cli.demo.control_plane import ControlPlane
from pypilot.cli.demo.envoy import Envoy
from pypilot.cli.token import token
from tests.security.workloads import intermediate

pytestmark = pytest.mark.envoy

SECONDS = 120.0
DOOR = "door.example"
ADDRESSES = {"client": "127.0.0.2", "server": "127.0.0.3"}
"""By which they are known; no endpoint has these."""
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


def identity(account: str) -> str:
    return f"spiffe://cluster.local/ns/{NAMESPACE}/sa/{account}"


def configuration(client: int, door: int, backend: App) -> list[Json]:
    """A gateway that calls another, which takes only workloads of the mesh."""
    mutual = {"tls": {"mode": "ISTIO_MUTUAL", "sni": DOOR, "subjectAltNames": [identity("server")]}}
    here = {"address": "127.0.0.1", "ports": {"http": door}}
    gateways = {
        "client": server(client, "HTTP", "*"),
        "server": server(door, "HTTPS", DOOR, tls={"mode": "ISTIO_MUTUAL"}),
    }
    return [
        *(made("Gateway", n, {"selector": {"istio": n}, "servers": [listens]}) for n, listens in gateways.items()),
        service_entry("backend.example", backend),
        service_entry(DOOR, here),
        destination_rule(DOOR, mutual),
        virtual_service(
            DOOR,
            {"match": [{"gateways": [f"{NAMESPACE}/server"]}], "route": [to("backend.example")]},
            {"route": [to(DOOR)], "retries": {"attempts": 0}},
            gateways=(f"{NAMESPACE}/server", f"{NAMESPACE}/client"),
        ),
    ]


def bootstrap(name: str, secure: tuple[str, int], roots: Path, bearer: str) -> Json:
    """An Envoy that trusts the control plane's root and shows a token; nothing else is beside it."""
    node = NodeIdentity("router", ADDRESSES[name], name, NAMESPACE, {"istio": name})
    made = ads_bootstrap(node, secure, initial_metadata={"authorization": f"Bearer {bearer}"})
    made["node"]["metadata"]["WORKLOAD_SDS"] = "ads"
    (cluster,) = (c for c in made["static_resources"]["clusters"] if c["name"] == XDS_CLUSTER)
    validation = {
        "trusted_ca": {"filename": str(roots)},
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "istiod.istio-system.svc"}}],
    }
    common = {"alpn_protocols": ["h2"], "validation_context": validation}
    context = {"@type": TLS, "sni": "istiod.istio-system.svc", "common_tls_context": common}
    cluster["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    return made


@dataclass
class World:
    """Two Envoys and what stands around them."""

    client: Envoy
    server: Envoy
    backend: App
    address: str
    ca: Path
    control_plane: ControlPlane


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await condition():  # noqa: ASYNC110 - nobody says when
            await asyncio.sleep(0.05)


async def serials(envoy: Envoy) -> set[str]:
    """Of the certificates that an Envoy shows."""
    found = (await envoy.admin_json("/certs"))["certificates"]
    return {c["serial_number"] for one in found for c in one.get("cert_chain", ())}


def mint(directory: Path, account: str) -> str:
    arguments = ["mint", "--key", str(directory / "tokens.pem"), "--namespace", NAMESPACE, "--service-account", account]
    return CliRunner().invoke(token, arguments).output.split()[0]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    keys = ["keys", "--key", str(tmp_path / "tokens.pem"), "--jwks", str(tmp_path / "tokens.json")]
    assert CliRunner().invoke(token, keys).exit_code == 0
    (tmp_path / "config").mkdir()
    (tmp_path / "ca").mkdir()
    secure, client, door = ("127.0.0.1", free_port()), free_port(), free_port()
    options = ("--ca-dir", str(tmp_path / "ca"), "--token-keys", str(tmp_path / "tokens.json"), "--workload-sds")
    options = (*options, "--secure-grpc-addr", "{}:{}".format(*secure))
    async with AsyncExitStack() as stack:
        backend = App("backend", "")
        await backend.start()
        stack.push_async_callback(backend.stop)
        objects = configuration(client, door, backend)
        (tmp_path / "config" / "mesh.yaml").write_text(yaml.safe_dump_all(objects, sort_keys=False))
        started = ControlPlane.start(tmp_path / "config", tmp_path, options=options)
        control_plane = await stack.enter_async_context(started)
        await control_plane.wait_ready(SECONDS)
        envoys = {}
        for name in ("client", "server"):
            (tmp_path / name).mkdir()
            roots = tmp_path / name / "root-cert.pem"
            roots.write_bytes((tmp_path / "ca" / "root-cert.pem").read_bytes())
            written = bootstrap(name, secure, roots, mint(tmp_path, name))
            envoys[name] = await stack.enter_async_context(Envoy.start(written, tmp_path / name, name=name))
            await envoys[name].wait_live(SECONDS)
        address = f"http://127.0.0.1:{client}/"
        yield World(**envoys, backend=backend, address=address, ca=tmp_path / "ca", control_plane=control_plane)


async def ask(session: aiohttp.ClientSession, world: World) -> int:
    async with session.get(world.address, headers={"host": DOOR}) as answer:
        await answer.read()
        return answer.status


async def connections(world: World) -> int:
    """That the client's Envoy ever opened to the other."""
    return sum((await world.client.stats(rf"^cluster\.outbound\|80\|\|{DOOR}.*upstream_cx_total$")).values())


async def test_a_certificate_over_ads_is_renewed_under_open_connections(world: World) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session:

        async def answers() -> bool:
            try:
                return await ask(session, world) == 200
            except aiohttp.ClientError:
                return False

        await until(answers)
        peer = world.backend.seen[-1]["headers"]["x-forwarded-client-cert"]
        assert f"URI={identity('client')}" in peer
        before, opened = {name: await serials(e) for name, e in envoys(world)}, await connections(world)
        assert opened >= 1
        assert not before["client"] & before["server"], "each has its own"

        fresh = world.ca / "root-cert.new"
        fresh.write_bytes((world.ca / "root-cert.pem").read_bytes() + intermediate("next")["root-cert.pem"])
        fresh.rename(world.ca / "root-cert.pem")
        statuses = []

        async def renewed() -> bool:
            statuses.append(await ask(session, world))
            return not any([await serials(envoy) & before[name] for name, envoy in envoys(world)])

        await until(renewed)
        statuses += [await ask(session, world) for _ in range(20)]
        assert set(statuses) == {200}
        assert await connections(world) == opened, "what was open stays open"


def envoys(world: World) -> tuple[tuple[str, Envoy], ...]:
    return ("client", world.client), ("server", world.server)


@pytest.mark.parametrize("text", ["PRIVATE KEY", "LS0tLS1CRUdJTiBQUklWQVRF", "LS0tLS1CRUdJTiBFQyBQUklW"])
async def test_no_key_is_shown(world: World, text: str) -> None:
    """As it is or in Base64: not in the control plane's log, nor on its pages, nor in what Envoy tells of itself."""

    async def has_certificate() -> bool:
        return bool(await serials(world.client))

    await until(has_certificate)
    pages = ("connections", "syncz", "problems", f"config_dump?proxyID=client.{NAMESPACE}")
    shown = [str(await world.control_plane.get_json(f"/debug/{page}")) for page in pages]
    assert DOOR in shown[-1]
    shown += [world.control_plane.child.tail(100_000), str(await world.client.admin_json("/config_dump"))]
    assert not [page for page in shown if text in page]
