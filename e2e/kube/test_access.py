"""The roles of `deploy/` are enough for pypilot on the real API server, and no more than that."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from e2e.kube import objects
from e2e.kube.client import Client
from e2e.kube.cluster import Cluster
from e2e.kube.deploying import DEPLOY, ROOT, Kubectl, account, serving
from e2e.kube.following import wait_until
from pypilot.kinds import KINDS

OWN_IDENTITY = ("--secure-grpc-addr=127.0.0.1:0", "--webhook-addr=127.0.0.1:0")
"""With these it makes a root, serves with it, publishes it, and validates."""


def published(kubectl: Kubectl, namespace: str) -> bool:
    """True once the root that proxies trust is in a namespace."""
    found = kubectl.run("get", "configmap", "istio-ca-root-cert", "-n", namespace, "-o", "jsonpath={.data}")
    return "BEGIN CERTIFICATE" in found.stdout


@pytest.fixture
def kubectl(cluster: Cluster) -> Kubectl:
    return Kubectl(cluster)


async def installed(kubectl: Kubectl, client: Client, overlay: str, *places: str) -> None:
    """Everything of an overlay that may be applied without nodes."""
    await client.wipe()
    await client.apply_all(objects.namespace(place) for place in (ROOT, *places))
    text = kubectl("kustomize", DEPLOY / "kubernetes" / overlay)
    wanted = [o for o in yaml.safe_load_all(text) if o["kind"] != "Namespace" and "Webhook" not in o["kind"]]
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text=yaml.safe_dump_all(wanted))


@pytest.fixture
def no_leftovers(cluster: Cluster, kubectl: Kubectl) -> Iterator[None]:
    """Nobody here deletes what was in a namespace that has gone."""
    yield
    kinds = "clusterrolebinding,clusterrole,rolebinding,role,deployment,poddisruptionbudget,horizontalpodautoscaler"
    kubectl("delete", kinds, "-l", "app.kubernetes.io/part-of=pypilot", "--all-namespaces")


async def test_the_cluster_role_is_enough_and_no_more(
    cluster: Cluster, client: Client, kubectl: Kubectl, tmp_path: Path, no_leftovers: None
) -> None:
    await installed(kubectl, client, "cluster")
    await client.apply_all(objects.mesh("shop", 2))
    who = await account(cluster, client, "cluster-wide")
    async with serving(tmp_path, "--kubeconfig", who, *OWN_IDENTITY) as served:
        await wait_until(lambda: bool(served.services()["is_leading"]), "leading")
        await wait_until(lambda: published(kubectl, "shop"), "the root in a namespace")
        await wait_until(lambda: served.services()["webhook"] == "absent", "a look at the webhook")
        before = served.counts()
        assert before["VirtualService"] == 2
        assert before["Node"] == 1
        await client.apply(objects.virtual_service("shop", "later"))
        await client.delete(objects.destination_rule("shop", "app0"))
        await wait_until(lambda: served.counts()["VirtualService"] == 3, "a new object")
        await wait_until(lambda: served.counts()["DestinationRule"] == 1, "the end of another")
        assert served.refusals() == []
    for kind in KINDS:
        resource = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
        assert all(kubectl.can(who, verb, resource) for verb in ("get", "list", "watch")), resource
        writes = {verb for verb in ("delete", "update", "patch") if kubectl.can(who, verb, resource)}
        # Machines that register themselves have their entries made, kept and taken away.
        assert writes == ({"delete", "update"} if kind.name == "WorkloadEntry" else set()), resource
    for verb, resource, place in (
        ("create", "tokenreviews.authentication.k8s.io", ""),
        ("create", "leases.coordination.k8s.io", ROOT),
        ("update", "leases.coordination.k8s.io/pypilot-leader", ROOT),
        ("create", "secrets", ROOT),
        ("patch", "configmaps/istio-ca-root-cert", "shop"),
        ("patch", "validatingwebhookconfigurations.admissionregistration.k8s.io/pypilot-validator-istio-system", ""),
    ):
        assert kubectl.can(who, verb, resource, place), (verb, resource)
    for verb, resource, place in (
        ("create", "pods", "shop"),
        ("create", "pods/exec", "shop"),
        ("create", "secrets", "shop"),
        ("create", "leases.coordination.k8s.io", "shop"),
        ("update", "leases.coordination.k8s.io/somebody-elses", ROOT),
        ("update", "secrets/istio-ca-secret", "shop"),
        ("patch", "configmaps/istio", ROOT),
        ("patch", "validatingwebhookconfigurations.admissionregistration.k8s.io/somebody-elses", ""),
        ("create", "serviceaccounts/token", ROOT),
        ("create", "clusterrolebindings.rbac.authorization.k8s.io", ""),
        ("create", "virtualservices.networking.istio.io", "shop"),
        ("list", "deployments.apps", "shop"),
        ("impersonate", "users", ""),
    ):
        assert not kubectl.can(who, verb, resource, place), (verb, resource)


async def test_roles_are_enough_for_single_namespaces_and_no_more(
    cluster: Cluster, client: Client, kubectl: Kubectl, tmp_path: Path, no_leftovers: None
) -> None:
    await installed(kubectl, client, "namespaced", "shop", "other")
    await client.apply_all([*objects.mesh("shop", 2), *objects.mesh("other", 1)])
    who = await account(cluster, client, "single-namespaces")
    async with serving(tmp_path, "--kubeconfig", who, "--namespaces", "shop", *OWN_IDENTITY) as served:
        await wait_until(lambda: published(kubectl, "shop"), "the root in a namespace")
        assert not published(kubectl, "other")
        assert served.counts()["VirtualService"] == 2
        await client.apply(objects.virtual_service("shop", "later"))
        await wait_until(lambda: served.counts()["VirtualService"] == 3, "a new object")
        assert served.refusals() == []
    assert kubectl.can(who, "list", "secrets", "shop")
    for verb, resource, place in (
        ("list", "pods", "other"),
        ("list", "secrets", "other"),
        ("list", "virtualservices.networking.istio.io", ""),
        ("list", "nodes", ""),
        ("list", "namespaces", ""),
        ("create", "secrets", "shop"),
        ("create", "leases.coordination.k8s.io", "shop"),
    ):
        assert not kubectl.can(who, verb, resource, place), (verb, resource)


async def test_a_right_that_is_missing_is_seen(
    cluster: Cluster, client: Client, kubectl: Kubectl, tmp_path: Path, no_leftovers: None
) -> None:
    """So that the silence of the tests above says something."""
    await installed(kubectl, client, "cluster")
    role = yaml.safe_load(kubectl("get", "clusterrole", "pypilot-istio-system", "-o", "yaml"))
    for rule in role["rules"]:
        rule["resources"] = [resource for resource in rule["resources"] if resource != "nodes"]
    kubectl("replace", "-f", "-", text=yaml.safe_dump(role))
    who = await account(cluster, client, "without-nodes")
    async with serving(tmp_path, "--kubeconfig", who, until="/debug/problems") as served:
        await wait_until(lambda: any("nodes" in line for line in served.refusals()), "the refusal")
