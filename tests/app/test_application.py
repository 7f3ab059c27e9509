"""The wiring, within the process."""

import asyncio
import threading
from pathlib import Path

import aiohttp
import grpc
import pytest

from pypilot import supply
from pypilot.app import Application, StartError, run
from pypilot.settings import read_settings
from pypilot.sources.files import FileSource
from pypilot.sources.update import Update
from pypilot.wire import types
from tests.app.ads import AdsClient
from tests.app.serving import until
from tests.cli.demo_world import NODE, write_world
from tests.xds.certificates import Authority

LOCAL = {"grpc_addr": "127.0.0.1:0", "http_addr": "127.0.0.1:0", "monitoring_addr": "127.0.0.1:0"}


async def status_of(port: int | None, path: str = "/ready") -> int:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status


async def test_ready_only_after_the_first_complete_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = write_world(tmp_path)
    may_read = threading.Event()
    read = FileSource.initial

    def slow(source: FileSource) -> Update:
        assert may_read.wait(30)
        return read(source)

    monkeypatch.setattr(FileSource, "initial", slow)
    application = Application(read_settings({**LOCAL, "config": [str(world / "config")]}, {}))
    starting = asyncio.create_task(application.start())
    await until(lambda: application.monitoring_port)
    assert await status_of(application.http_port) == 503
    assert await status_of(application.monitoring_port) == 503
    assert application.server.plaintext_port is None, "nobody is served before there is something to serve"
    may_read.set()
    await starting
    assert await status_of(application.http_port) == 200
    assert await status_of(application.monitoring_port) == 200
    await application.stop()


async def test_an_empty_address_switches_a_port_off(tmp_path: Path) -> None:
    settings = read_settings({**dict.fromkeys(LOCAL, ""), "config": [str(tmp_path)]}, {})
    application = Application(settings)
    await application.start()
    assert (application.http_port, application.monitoring_port, application.server.plaintext_port) == (None,) * 3
    await application.stop()


async def test_a_failed_start_leaves_nothing_listening(tmp_path: Path) -> None:
    files = {"tls_cert": str(tmp_path / "no.crt"), "tls_key": str(tmp_path / "no.key")}
    application = Application(read_settings({**LOCAL, **files, "config": [str(tmp_path)]}, {}))
    with pytest.raises(StartError, match=r"no\.(crt|key)"):
        await application.start()
    with pytest.raises(aiohttp.ClientConnectionError):
        await status_of(application.http_port)


async def test_the_tls_port_serves_who_proves_to_be_the_proxy(tmp_path: Path) -> None:
    world = write_world(tmp_path)
    authority = Authority()
    server = authority.issue(dns="localhost")
    files = {"tls_cert": server.certificate, "tls_key": server.key, "tls_client_ca": authority.certificate}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    flags = {name: str(tmp_path / name) for name in files} | {"secure_grpc_addr": "127.0.0.1:0", "grpc_addr": ""}
    application = Application(read_settings({**LOCAL, **flags, "config": [str(world / "config")]}, {}))
    await application.start()
    port = application.server.secure_port
    assert application.server.plaintext_port is None
    assert port is not None
    for namespace, is_served in (("web", True), ("other", False)):
        client = authority.issue(f"spiffe://cluster.local/ns/{namespace}/sa/gate")
        credentials = grpc.ssl_channel_credentials(authority.certificate, client.key, client.certificate)
        async with AdsClient(port, str(NODE["id"]), credentials=credentials) as ads:
            if is_served:
                assert (await ads.get(types.LISTENER)).resources
                continue
            await ads.ask(types.LISTENER)
            with pytest.raises(grpc.aio.AioRpcError) as denied:
                await ads.read()
            assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED
    await application.stop()


async def test_following_goes_on_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = write_world(tmp_path)
    updates = FileSource.updates
    failures = iter([RuntimeError("once")])

    async def fails_first(source: FileSource):  # type: ignore[no-untyped-def]
        for error in failures:
            raise error
        async for update in updates(source):
            yield update

    monkeypatch.setattr(FileSource, "updates", fails_first)
    monkeypatch.setattr(supply, "_RETRY_SECONDS", 0.01)
    application = Application(read_settings({**LOCAL, "config": [str(world / "config")]}, {}))
    await application.start()
    following = asyncio.create_task(application.follow())
    (world / "config" / "gateway.yaml").unlink()
    await until(lambda: not application.engine.world.objects.get("Gateway"))
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await application.stop()


async def test_problems_of_the_mesh_config_map_stand_at_their_lines(tmp_path: Path) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    "
    (tmp_path / "mesh.yaml").write_text(text + "connectTimeout: soon\n")
    application = Application(read_settings({**LOCAL, "config": [str(tmp_path)]}, {}))
    await application.start()
    (problem,) = await application.problems()
    assert str(problem.origin) == f"{tmp_path}/mesh.yaml:6"
    await application.stop()


async def test_a_stop_ends_streams_and_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = write_world(tmp_path)
    made: list[Application] = []
    init = Application.__init__

    def remember(application: Application, *args: object) -> None:
        init(application, *args)  # type: ignore[arg-type]
        made.append(application)

    monkeypatch.setattr(Application, "__init__", remember)
    stopped = asyncio.Event()
    running = asyncio.create_task(run(read_settings({**LOCAL, "config": [str(world / "config")]}, {}), stopped))
    port = await until(lambda: made and made[0].server.plaintext_port)
    async with AdsClient(port, str(NODE["id"])) as ads:
        await ads.get(types.LISTENER)
        stopped.set()
        assert await ads.read() is None
        await running
