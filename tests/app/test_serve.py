"""`pypilot serve` from outside: real process, files, signals and streams."""

import asyncio
import json
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from pypilot.cli.main import main
from pypilot.wire import types
from pypilot.wire.decode import resource_to_dict
from pypilot.wire.references import references
from pypilot.wire.resource import Resource
from tests.app.ads import AdsClient
from tests.app.serving import Child, serving
from tests.cli.demo_world import NODE, shop, write_world


def client(child: Child) -> AdsClient:
    return AdsClient(child.ready["xds"], NODE["id"], NODE["metadata"])  # type: ignore[arg-type]


def weights(response: Any) -> list[int]:
    config = RouteConfiguration.FromString(response.resources[0].value)
    clusters = config.virtual_hosts[0].routes[0].route.weighted_clusters.clusters
    return [c.weight.value for c in clusters]


async def test_an_edit_reaches_the_stream(tmp_path: Path) -> None:
    world = write_world(tmp_path)
    async with serving(world / "config") as child, client(child) as ads:
        response = await ads.get(types.ROUTE, "http.80")
        assert weights(response) == [50, 50]
        (world / "config" / "shop.yaml").write_text(shop(weight=150))
        changed = await ads.read()
        assert weights(changed) == [150, 50]


async def test_a_bad_edit_is_reported_and_nothing_is_pushed(tmp_path: Path) -> None:
    world = write_world(tmp_path)
    file = world / "config" / "shop.yaml"
    async with serving(world / "config") as child, client(child) as ads:
        await ads.get(types.ROUTE, "http.80")
        file.write_text(shop(weight=-5))
        problems = await child.problems()
        assert problems[0]["file"] == str(file)
        assert "weight: -5" in file.read_text().split("\n")[problems[0]["line"] - 1]
        assert problems[0]["field"] == "spec.http[0].route[0].weight"
        file.write_text(shop(weight=7))
        response = await ads.read()  # the next push is the good one
        assert weights(response) == [7, 50]
        await child.problems(0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order(tmp_path: Path, number: signal.Signals) -> None:
    world = write_world(tmp_path)
    async with serving(world / "config") as child, client(child) as ads:
        await ads.get(types.CLUSTER)
        end = asyncio.create_task(child.end(number))
        assert await ads.read() is None, "the stream ends without an error"
        assert await end == 0
        assert [entry["event"] for entry in child.log[-1:]] == ["stopped"]
        assert not [entry for entry in child.log if entry["level"] == "error"]


async def test_it_is_ready_with_nothing_in_its_directory_and_takes_what_comes(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.mkdir()
    async with serving(config) as child, client(child) as ads:
        assert (await child.json("/debug/kinds")) == {"objects": {}}
        await ads.get(types.LISTENER)
        other = tmp_path / "other"
        other.mkdir()
        for path in (write_world(other) / "config").iterdir():
            path.rename(config / path.name)
        while True:
            response = await ads.read()
            assert response is not None
            await ads.answer(response)
            if response.type_url == types.LISTENER and response.resources:
                break


async def test_secrets_are_in_no_log_and_no_page(tmp_path: Path) -> None:
    world = write_world(tmp_path)
    text = (
        "apiVersion: v1\nkind: Secret\nmetadata: {name: credential, namespace: web}\n"
        "stringData: {tls.crt: hunter2-certificate, tls.key: hunter2-key, other: [hunter2-list]}\n"
    )
    (world / "config" / "secret.yaml").write_text(text)
    (world / "config" / "secret2.yaml").write_text(text.replace("other: [hunter2-list]", "x: hunter2"))
    async with serving(world / "config", log_level="debug") as child, client(child) as ads:
        await ads.get(types.LISTENER)
        pages = [
            json.dumps(await child.json(path))
            for path in ("/debug/problems", "/debug/kinds", "/debug/views", f"/debug/config_dump?proxyID={NODE['id']}")
        ]
        assert await child.end() == 0
        assert "hunter2" not in json.dumps(child.log)
        assert "hunter2" not in "".join(pages)


async def test_what_compile_prints_is_what_the_server_sends(tmp_path: Path) -> None:
    world = write_world(tmp_path)
    args = ["compile", str(world / "config"), "--node", str(world / "node.json"), "-o", "json"]
    printed = json.loads(CliRunner().invoke(main, args).stdout)
    sent: dict[str, dict[str, Any]] = {name: {} for name in printed}
    async with serving(world / "config") as child, client(child) as ads:
        todo: dict[str, set[str]] = {types.CLUSTER: set(), types.LISTENER: set()}
        while todo:
            type_url, names = todo.popitem()
            response = await ads.get(type_url, *sorted(names))
            for packed in response.resources:
                resource = Resource("", "", packed.SerializeToString())
                decoded = resource_to_dict(resource)
                name = str(decoded.get("cluster_name") or decoded["name"])
                sent[types.short_name(type_url)][name] = decoded
                for wanted, other in references(type_url, decoded):
                    todo.setdefault(wanted, set()).add(other)
    assert printed == {t: [{"name": n, "resource": r} for n, r in sorted(by.items())] for t, by in sent.items()}


async def test_an_address_that_is_taken_is_a_clear_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for flag in ("--http-addr", "--grpc-addr"):
            free = [a for f in ("--http-addr", "--grpc-addr", "--monitoring-addr") if f != flag for a in (f, "")]
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "pypilot", "serve", "--config", str(tmp_path), flag, address, *free),
                stderr=asyncio.subprocess.PIPE,
            )
            _, err = await asyncio.wait_for(process.communicate(), 30)
            assert process.returncode == 1
            last = err.decode().strip().splitlines()[-1]
            assert last.startswith("Error: cannot")
            assert address in last
            assert "Traceback" not in err.decode()
