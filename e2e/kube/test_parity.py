"""One world from the API server and from files compiles to the same bytes."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
import yaml

from e2e.kube import objects
from e2e.kube.client import Client, Data
from e2e.kube.cluster import Cluster
from e2e.kube.following import compiled, following, proxies_of, wire_difference
from e2e.kube.worlds import SCENARIOS_VARIABLE, apply_world, documents, scenarios
from pypilot.assembly import FILES
from pypilot.compile.generators import GENERATORS
from pypilot.engine.loop import Engine
from pypilot.sources.files import FileSource
from pypilot.sources.intake import Intake
from pypilot.wire.node import PROXY_TYPES, Proxy, parse_node
from pypilot.world.world import World


async def assert_same_bytes(
    cluster: Cluster,
    client: Client,
    directory: Path,
    world: Iterable[Data],
    mesh: str,
    choose: Callable[[World], Sequence[Proxy]],
) -> None:
    files = await apply_world(client, world, mesh)
    (directory / "world.yaml").write_text(yaml.safe_dump_all(files))
    update = FileSource([directory / "world.yaml"]).initial()
    assert not [p for p in update.problems if p.severity == "error"], update.problems
    by_files = Engine(GENERATORS, linger=0.0)
    by_files.load(Intake(by_files.world.constants, [FILES]).admit(FILES, update.delta))
    proxies = choose(by_files.world)
    assert proxies
    assert all(sum(map(len, compiled(by_files, proxy).values())) for proxy in proxies)  # a Sidecar may leave little
    async with following(cluster.kubeconfig()) as follower:
        assert not wire_difference(follower.engine, by_files, proxies)


async def test_cluster_and_files_compile_to_the_same_bytes(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    once = ("Node", "Namespace", "Gateway")
    world = [*objects.mesh("parity-a", 4), objects.namespace("parity-b", team="b")]
    world += [d for d in objects.mesh("parity-b", 2) if d["kind"] not in once]
    services = [d for d in world if d["kind"] == "Service"]
    for i, service in enumerate(services):
        service["spec"]["clusterIP"] = f"10.97.0.{i + 1}"  # else the server chooses one
    mesh = "trustDomain: td.example\n"
    await assert_same_bytes(cluster, client, tmp_path, world, mesh, proxies_of)


@pytest.mark.skipif(not scenarios(), reason=f"no recorded worlds; {SCENARIOS_VARIABLE} names a directory of them")
@pytest.mark.parametrize("scenario", scenarios(), ids=lambda path: path.name)
async def test_recorded_world_compiles_to_the_same_bytes(
    scenario: Path, cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    nodes = [json.loads(path.read_text()) for path in sorted((scenario / "nodes").glob("*.json"))]
    proxies = [parse_node(node) for node in nodes if node["id"].partition("~")[0] in PROXY_TYPES[:2]]
    if not proxies:
        pytest.skip("no Envoy in this recording")
    mesh = scenario / "mesh.yaml"
    text = mesh.read_text() if mesh.exists() else ""
    world = documents((scenario / "world.yaml").read_text())
    await assert_same_bytes(cluster, client, tmp_path, world, text, lambda _: proxies)
