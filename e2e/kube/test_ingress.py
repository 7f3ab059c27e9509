"""Ingresses on a real API server: those of the mesh's class are told where they can be reached, others are not."""

from pathlib import Path
from typing import Any

from e2e.kube import objects
from e2e.kube.client import Client
from e2e.kube.cluster import Cluster
from e2e.kube.deploying import ROOT, Kubectl, account, serving
from e2e.kube.following import wait_until
from e2e.kube.test_access import OWN_IDENTITY, installed, kubectl, no_leftovers

__all__ = ("kubectl", "no_leftovers")  # fixtures


def ingress(name: str, of_class: str) -> dict[str, Any]:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    rule = {"host": f"{name}.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"ingressClassName": of_class, "rules": [rule]},
    }


def ingress_class(name: str, controller: str) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": name},
        "spec": {"controller": controller},
    }


async def test_the_leader_writes_where_an_ingress_can_be_reached(
    cluster: Cluster, client: Client, kubectl: Kubectl, tmp_path: Path, no_leftovers: None
) -> None:
    """KSVC-046, KSVC-052, with no more than the roles of `deploy/` allow."""
    await installed(kubectl, client, "cluster", "shop")
    gateway = {**objects.service(ROOT, "istio-ingressgateway")}
    gateway["spec"] = {**gateway["spec"], "externalIPs": ["192.0.2.1"]}
    classes = (ingress_class("mesh", "istio.io/ingress-controller"), ingress_class("nginx", "k8s.io/ingress-nginx"))
    await client.apply_all([gateway, *classes, ingress("ours", "mesh"), ingress("theirs", "nginx")])

    def addresses(name: str) -> str:
        where = "jsonpath={.status.loadBalancer.ingress[*]['ip','hostname']}"
        return kubectl("get", "ingress", name, "-n", "shop", "-o", where)

    who = await account(cluster, client, "statuses")
    async with serving(tmp_path, "--kubeconfig", who, *OWN_IDENTITY) as served:
        await wait_until(lambda: addresses("ours") == "192.0.2.1", "an address")
        gateway["spec"]["externalIPs"] = ["192.0.2.2"]
        await client.apply(gateway)
        await wait_until(lambda: addresses("ours") == "192.0.2.2", "another address")
        await client.delete(gateway)
        await wait_until(lambda: addresses("ours") == "", "no address")
        assert addresses("theirs") == ""
        assert served.services()["ingresses"]["errors"] == {}
        assert served.refusals() == []
