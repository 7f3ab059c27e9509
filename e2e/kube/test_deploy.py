"""What `deploy/` installs is accepted by the real API server, and our resource definitions do no harm."""

import json
import subprocess
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import yaml

from e2e.kube import objects
from e2e.kube.client import Client, Data
from e2e.kube.cluster import Cluster
from e2e.kube.crds import custom_kinds, definition
from e2e.kube.deploying import DEPLOY, ROOT, Kubectl, program
from e2e.kube.following import wait_until
from e2e.kube.test_parity import documents, scenarios
from pypilot.cli.manifests.definitions import definitions
from pypilot.kinds import KINDS

CHART = DEPLOY / "helm" / "pypilot"
OWNED = tuple(kind for kind in custom_kinds() if kind.group.endswith(".istio.io"))


@pytest.fixture
def kubectl(cluster: Cluster) -> Kubectl:
    return Kubectl(cluster)


@pytest.fixture
def helm() -> str:
    return program("helm")


@pytest.fixture
async def own_definitions(client: Client) -> AsyncIterator[None]:
    """Our own definitions, and nothing else in the cluster; afterwards those that let everything pass again."""
    await client.wipe()
    await _replace(client, definitions(KINDS))
    yield
    await client.wipe()
    await _replace(client, [definition(kind) for kind in OWNED])


async def _replace(client: Client, wanted: list[Data]) -> None:
    present = await client.definitions()
    for crd in wanted:
        if crd["metadata"]["name"] in present:
            await client.delete(crd)
            await client.wait_gone(crd)
    await client.apply_all(wanted)


def run(command: Sequence[object]) -> str:
    """One call that must succeed; what it prints."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def dry_run(kubectl: Kubectl, *source: object, text: str = "") -> int:
    """How many objects the server would take, none of them with a field that it does not know."""
    flags = ("--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts")
    return len(kubectl("apply", *flags, *source, text=text).splitlines())


# -- accepted ---------------------------------------------------------------------------------------------------------


async def test_kustomizations_are_accepted(kubectl: Kubectl, client: Client, own_definitions: None) -> None:
    for place in (ROOT, "shop"):
        await client.apply(objects.namespace(place))
    counts = {
        name: dry_run(kubectl, "-k", DEPLOY / "kubernetes" / name) for name in (".", "crds", "namespaced", "samples")
    }
    assert counts == {".": 20, "crds": len(OWNED), "namespaced": 10, "samples": 8}


async def test_the_chart_is_accepted(kubectl: Kubectl, client: Client, helm: str, own_definitions: None) -> None:
    for place in (ROOT, "shop"):
        await client.apply(objects.namespace(place))
    for values in ((), ("--set", "namespaces={shop}"), ("--set", "revision=canary,networkPolicy.enabled=true")):
        command = [helm, "template", "pypilot", CHART, "--namespace", ROOT, "--kube-version", "1.36.0", *values]
        text = run(command)
        assert dry_run(kubectl, "-f", "-", text=text) == len(list(yaml.safe_load_all(text)))


async def test_the_chart_is_installed_and_leaves_definitions_when_it_goes(
    cluster: Cluster, client: Client, helm: str
) -> None:
    def call(*arguments: str) -> None:
        run([helm, "--kubeconfig", str(cluster.kubeconfig()), "--namespace", ROOT, *arguments])

    await client.wipe()
    gone, *others = definitions(KINDS)
    await _replace(client, [definition(kind) for kind in OWNED])
    await client.delete(gone)
    await client.wait_gone(gone)
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
    before = {o["metadata"]["name"]: await client.request("GET", path + o["metadata"]["name"]) for o in others}
    try:
        call("install", "pypilot", str(CHART), "--create-namespace")
        call("upgrade", "pypilot", str(CHART), "--set", "logLevel=debug")
        made = await client.request("GET", path + gone["metadata"]["name"])
        assert made["metadata"]["annotations"]["meta.helm.sh/release-name"] == "pypilot"
        for name, there in before.items():  # somebody else's are as they were
            assert (await client.request("GET", path + name))["spec"] == there["spec"]
    finally:
        call("uninstall", "pypilot")
    assert gone["metadata"]["name"] in await client.definitions()
    await client.wipe()
    await _replace(client, [definition(kind) for kind in OWNED])


# -- resource definitions ---------------------------------------------------------------------------------------------


async def test_definitions_are_explained_and_listed(kubectl: Kubectl, client: Client, own_definitions: None) -> None:
    for kind in OWNED:
        crd = await client.request(
            "GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind.plural}.{kind.group}"
        )
        conditions = {c["type"]: c["status"] for c in crd["status"]["conditions"]}
        assert conditions["Established"] == "True"
        assert "NonStructuralSchema" not in conditions
    end = "the descriptions"
    explained = ""

    def is_explained() -> bool:  # the server publishes schemas a little later
        nonlocal explained
        explained = kubectl.run("explain", "virtualservice.spec.http.timeout").stdout
        return "Time for the whole request" in explained

    await wait_until(is_explained, end)
    await client.apply_all(
        [objects.namespace("defs"), *(o for o in objects.mesh("defs", 1) if o["kind"] == "VirtualService")]
    )
    header, row = kubectl("get", "vs", "-n", "defs").splitlines()
    assert header.split() == ["NAME", "GATEWAYS", "HOSTS", "AGE"]
    assert "app0.defs.svc.cluster.local" in row


async def test_what_is_wrong_in_type_is_refused(kubectl: Kubectl, client: Client, own_definitions: None) -> None:
    await client.apply(objects.namespace("defs"))
    for change in ({"timeout": "soon"}, {"timeout": 5}, {"route": [{"weight": 1}]}, {"match": {"uri": {}}}):
        data = objects.virtual_service("defs", "web")
        data["spec"]["http"][0] |= change
        done = kubectl.run("apply", "--server-side", "--dry-run=server", "-f", "-", text=json.dumps(data))
        assert done.returncode != 0, change
        assert f"spec.http[0].{next(iter(change))}" in done.stderr


async def test_definitions_of_somebody_else_are_left_alone(kubectl: Kubectl, client: Client) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
    first, *rest = OWNED
    theirs = definition(first)
    apply = ("apply", "--server-side", "--field-manager=pypilot", "-k", DEPLOY / "kubernetes" / "crds")
    for how in (("create",), ("apply",), ("apply", "--server-side")):  # as Istio's users install them
        for kind in OWNED:
            await client.delete(definition(kind))
            await client.wait_gone(definition(kind))
        kubectl(*how, "-f", "-", text=json.dumps(theirs))
        await client.wait_established(theirs["metadata"]["name"])
        before = await client.request("GET", path + theirs["metadata"]["name"])
        done = kubectl.run(*apply)
        assert done.returncode != 0
        assert "conflict" in done.stderr
        after = await client.request("GET", path + theirs["metadata"]["name"])
        assert after["spec"] == before["spec"]
        assert after["metadata"].get("labels") == before["metadata"].get("labels")
        made = kubectl("get", "crd", "-l", "app.kubernetes.io/part-of=pypilot", "-o", "name").split()
        assert len(made) == len(rest)  # those that were missing
    await client.delete(theirs)
    await client.wait_gone(theirs)
    for _ in range(2):  # ours alone: installed, and upgraded
        kubectl(*apply)
    await _replace(client, [definition(kind) for kind in OWNED])


RICH: dict[str, Any] = {
    "apiVersion": "networking.istio.io/v1beta1",
    "kind": "VirtualService",
    "metadata": {"name": "rich", "namespace": "defs"},
    "spec": {
        "hosts": ["a.example"],
        "aFieldOfTomorrow": {"deep": [1, "two", {"three": 3.5}]},
        "http": [
            {
                "timeout": "1m30s",
                "anotherOne": True,
                "match": [{"uri": {"glob": "/x/*"}, "headers": {"x": {}}}],
                "fault": {"abort": {"httpStatus": 503, "percentage": {"value": 12.5}}, "delay": {"fixedDelay": "0.5s"}},
                "route": [{"destination": {"host": "a", "zone": "z"}, "weight": 4294967295}],
                "mirror_percent": 5,
            }
        ],
    },
}


async def test_fields_that_are_not_known_are_kept(kubectl: Kubectl, client: Client, own_definitions: None) -> None:
    await client.apply(objects.namespace("defs"))
    assert_unharmed(kubectl, [RICH])


def assert_unharmed(kubectl: Kubectl, wanted: list[Data]) -> None:
    """The server takes the objects, and gives back what it was given."""
    wanted = json.loads(json.dumps(wanted))  # where all keys are text
    given = {(o["kind"], o["metadata"].get("namespace", "default"), o["metadata"]["name"]): o for o in wanted}
    flags = ("--server-side", "--dry-run=server", "--validate=strict", "-o", "json")
    text = kubectl("apply", *flags, "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": wanted}))
    answer = json.loads(text)
    items = answer["items"] if answer["kind"] == "List" else [answer]
    assert len(items) == len(given)
    for item in items:
        meta = item["metadata"]
        assert item["spec"] == given[(item["kind"], meta.get("namespace", ""), meta["name"])]["spec"]


@pytest.mark.skipif(not scenarios(), reason="set PYPILOT_E2E_SCENARIOS to a directory of recorded worlds")
async def test_recorded_worlds_are_taken_whole(kubectl: Kubectl, client: Client, own_definitions: None) -> None:
    names = {kind.name for kind in OWNED}
    places: set[str] = set()
    total = 0
    for scenario in scenarios():
        world = [d for d in documents((scenario / "world.yaml").read_text()) if d["kind"] in names]
        world = [d for d in world if d["apiVersion"].partition("/")[0].endswith(".istio.io")]
        needed = {d["metadata"].get("namespace", "default") for d in world} - places - {"default"}
        for place in sorted(needed):
            await client.apply(objects.namespace(place))
        places |= needed
        if world:
            assert_unharmed(kubectl, world)
            total += len(world)
    assert total > 20
