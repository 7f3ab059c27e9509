"""One world from the API server and from files compiles to the same bytes."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.kube import objects
from e2e.kube.client import Client, Data
from e2e.kube.cluster import Cluster
from e2e.kube.following import FAST, assert_converges, following
from pypilot.compile.generators import GENERATORS
from pypilot.engine.loop import Engine
from pypilot.kinds import kind_of
from pypilot.kinds.yaml_data import split_documents
from pypilot.kube.connection import Access, KubernetesConnection
from pypilot.sources.files import FileSource
from pypilot.sources.intake import Intake
from pypilot.sources.kubernetes.source import KubernetesSource
from pypilot.wire.node import PROXY_TYPES, Proxy, parse_node

ROOT = "istio-system"
SCENARIOS_VARIABLE = "PYPILOT_E2E_SCENARIOS"
"""A directory of recorded worlds (`NAME/world.yaml`, `mesh.yaml`, `nodes/*.json`) to compare as well."""


def scenarios() -> list[Path]:
    given = os.environ.get(SCENARIOS_VARIABLE)
    return sorted(p.parent for p in Path(given).glob("*/world.yaml")) if given else []


def documents(text: str) -> list[dict[str, Any]]:
    """The documents that pypilot reads."""
    loaded = (yaml.safe_load(chunk.text) for chunk in split_documents(text))
    return [d for d in loaded if d and kind_of(d["apiVersion"], d["kind"]) is not None]


async def apply_world(client: Client, world: Iterable[Data], mesh: str) -> list[Data]:
    """Make the world in the cluster, and give it back as files would have it: as written, with the server's ages."""
    await client.wipe()
    wanted = [*world]
    if not any(d["kind"] == "Namespace" and d["metadata"]["name"] == ROOT for d in wanted):
        wanted.append(objects.namespace(ROOT))
    if mesh:
        wanted.append(objects.config_map(ROOT, "istio", mesh=mesh))
    places = {d["metadata"]["namespace"] for d in wanted if d["metadata"].get("namespace")}
    named = {d["metadata"]["name"] for d in wanted if d["kind"] == "Namespace"}
    wanted += [objects.namespace(place) for place in sorted(places - named - {"default"})]
    await client.apply_all(wanted)
    there = {_key(d): d for d in await client.everything()}
    out = []
    for data in wanted:
        data = json.loads(json.dumps(data))
        data["metadata"]["creationTimestamp"] = there.pop(_key(data))["metadata"]["creationTimestamp"]
        out.append(data)
    return [*out, *there.values()]  # and what the server made by itself


def _key(data: Data) -> tuple[str, str, str]:
    return (data["kind"], data["metadata"].get("namespace", ""), data["metadata"]["name"])


def compiled(engine: Engine, proxy: Proxy) -> dict[str, dict[str, bytes]]:
    found = engine.compile_for(proxy)
    return {t: {r.name: r.any_bytes for r in resources} for t, resources in found.items()}


async def assert_same_bytes(
    cluster: Cluster, client: Client, directory: Path, world: Iterable[Data], mesh: str, proxies: Sequence[Proxy]
) -> None:
    files = await apply_world(client, world, mesh)
    (directory / "world.yaml").write_text(yaml.safe_dump_all(files))
    update = FileSource([directory / "world.yaml"]).initial()
    assert not [p for p in update.problems if p.severity == "error"], update.problems
    by_files = Engine(GENERATORS)
    by_files.load(Intake(by_files.world.constants, ["files"]).admit("files", update.delta))
    source = KubernetesSource(KubernetesConnection(Access(cluster.kubeconfig())), pace=FAST)
    try:
        by_cluster = Engine(GENERATORS)
        by_cluster.load(
            Intake(by_cluster.world.constants, ["cluster"]).admit("cluster", (await source.initial()).delta)
        )
    finally:
        await source.close()
    assert proxies
    for proxy in proxies:
        ours, theirs = compiled(by_cluster, proxy), compiled(by_files, proxy)
        assert sum(len(found) for found in theirs.values()) > 10
        for kind, resources in theirs.items():
            assert list(ours[kind]) == list(resources), f"{proxy.id} {kind}"
            wrong = [name for name, body in resources.items() if ours[kind][name] != body]
            assert not wrong, f"{proxy.id} {kind}: {wrong[:5]}"


async def test_cluster_and_files_compile_to_the_same_bytes(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    once = ("Node", "Namespace", "Gateway")
    world = [*objects.mesh("parity-a", 4), objects.namespace("parity-b", team="b")]
    world += [d for d in objects.mesh("parity-b", 2) if d["kind"] not in once]
    services = [d for d in world if d["kind"] == "Service"]
    for i, service in enumerate(services):
        service["spec"]["clusterIP"] = f"10.97.0.{i + 1}"  # else the server chooses one
    proxies = [_sidecar("parity-a", "app0", "10.128.0.1"), _sidecar("parity-b", "app1", "10.128.0.2")]
    await assert_same_bytes(cluster, client, tmp_path, world, "trustDomain: td.example\n", proxies)


def _sidecar(place: str, app: str, ip: str) -> Proxy:
    meta = {
        "NAME": f"{app}-0",
        "NAMESPACE": place,
        "CLUSTER_ID": "Kubernetes",
        "SERVICE_ACCOUNT": app,
        "ISTIO_VERSION": "1.30.0",
        "INSTANCE_IPS": ip,
        "LABELS": {"app": app},
    }
    return parse_node({"id": f"sidecar~{ip}~{app}-0.{place}~{place}.svc.cluster.local", "metadata": meta})


@pytest.mark.skipif(not scenarios(), reason=f"set {SCENARIOS_VARIABLE} to a directory of recorded worlds")
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
    await assert_same_bytes(cluster, client, tmp_path, world, text, proxies)


async def test_a_world_that_changed_in_the_cluster_compiles_like_one_read_at_once(
    cluster: Cluster, client: Client
) -> None:
    """What was followed step by step, and what a source that starts now reads."""
    await client.wipe()
    await client.apply_all([*objects.mesh("parity-steps", 3), objects.namespace(ROOT)])
    async with following(cluster.kubeconfig()) as follower:
        for weight in (10, 60):
            await client.apply(objects.virtual_service("parity-steps", "app0", weight))
        await client.delete(objects.destination_rule("parity-steps", "app1"))
        await assert_converges(follower, client)
        source = KubernetesSource(KubernetesConnection(Access(cluster.kubeconfig())), pace=FAST)
        try:
            at_once = Engine(GENERATORS)
            at_once.load((await source.initial()).delta)
        finally:
            await source.close()
        followed = Engine(GENERATORS)
        followed.world = follower.world
        followed.memo.advance(follower.world, frozenset())
        proxy = _sidecar("parity-steps", "app0", "10.128.0.1")
        assert compiled(followed, proxy) == compiled(at_once, proxy)
