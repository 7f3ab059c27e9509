"""The control plane beside configuration on a real API server, as a service account with no more than it needs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from e2e.kube.client import Client
from e2e.kube.cluster import Cluster
from pypilot.cluster import (
    REGISTRATION_GRACE,
    ClusterServices,
    cluster_rules,
    publishing_rules,
    review_rules,
    role_rules,
    status_rules,
)
from pypilot.kube.connection import Access, KubernetesConnection
from pypilot.kube.lease import LeaseTiming
from pypilot.security.impersonation import Pods
from pypilot.settings import Settings
from pypilot.world.world import World
from pypilot.xds.server import XdsOptions, XdsServer
from tests.xds.harness import HandCatalog

PATIENCE = 60.0
ACCOUNT = "pypilot"
QUICK = LeaseTiming(duration=4.0, renew_deadline=3.0, retry=0.3)


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def account(space: str, name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": space}}


def permissions(space: str) -> list[dict[str, Any]]:
    """Exactly what the control plane says it needs, for its service account."""
    api = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": space}
    role = {"name": ACCOUNT, "namespace": space}
    wide = {"name": f"{ACCOUNT}-{space}"}
    return [
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": role, "rules": role_rules()},
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": role,
            "subjects": [subject],
            "roleRef": {"apiGroup": api, "kind": "Role", "name": ACCOUNT},
        },
        {
            "apiVersion": f"{api}/v1",
            "kind": "ClusterRole",
            "metadata": wide,
            "rules": [*cluster_rules(space), *publishing_rules(), *review_rules(), *status_rules()],
        },
        {
            "apiVersion": f"{api}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": wide,
            "subjects": [subject],
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": wide["name"]},
        },
    ]


def reader_of_secrets(space: str, name: str) -> list[dict[str, Any]]:
    """The right to list the Secrets of its namespace, for one service account (SDS-005)."""
    api = "rbac.authorization.k8s.io"
    metadata = {"name": f"{name}-secrets", "namespace": space}
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]
    subject = {"kind": "ServiceAccount", "name": name, "namespace": space}
    role = {"apiGroup": api, "kind": "Role", "name": metadata["name"]}
    return [
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "subjects": [subject],
            "roleRef": role,
        },
    ]


async def token_of(client: Client, space: str, name: str, *audiences: str, pod: str = "", seconds: int = 600) -> str:
    """A token by TokenRequest, bound to a pod if one is named."""
    spec: dict[str, Any] = {"expirationSeconds": seconds}
    if pod:
        spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod}
    if audiences:
        spec["audiences"] = list(audiences)
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    answer = await client.request("POST", f"/api/v1/namespaces/{space}/serviceaccounts/{name}/token", body)
    return str(answer["status"]["token"])


async def settle(client: Client, space: str) -> None:
    """A root namespace with the control plane's service account."""
    await client.apply_all([namespace(space), account(space, ACCOUNT)])
    await client.apply_all(permissions(space))


class Replica:
    """One control plane: services and streams, without an engine."""

    def __init__(self, services: ClusterServices) -> None:
        self.services = services
        self.catalog = HandCatalog()
        options = XdsOptions(plaintext_secrets="never")
        self.server = XdsServer(
            self.catalog,
            options,
            authenticators=services.identity.authenticators,
            issue=services.identity.issue,
            secret_access=services.secret_access,
            attendance=services.attendance,
        )
        self.webhook_port = 0


@asynccontextmanager
async def replica(
    cluster: Cluster,
    client: Client,
    space: str,
    timing: LeaseTiming = QUICK,
    pods: Callable[[], Pods] = dict,
    grace: float = REGISTRATION_GRACE,
    world: Callable[[], World | None] = lambda: None,
) -> AsyncIterator[Replica]:
    """A running one; `pods` are those that its world would hold; by `world` it injects."""
    token = await token_of(client, space, ACCOUNT)
    kubeconfig = cluster.kubeconfig(user={"token": token}, name=f"{space}-{ACCOUNT}")
    connection = KubernetesConnection(Access(kubeconfig))
    settings = Settings(root_namespace=space, kubernetes=True)
    domain = "cluster.local"
    services = ClusterServices(
        settings, connection, lambda: domain, pods, timing, registration_grace=grace, world=world
    )
    made = Replica(services)
    runner = None
    try:
        await asyncio.wait_for(services.start(), PATIENCE)
        await made.server.start(secure="127.0.0.1:0", tls=services.identity.tls)
        app, tls = services.webhook()
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "localhost", 0, ssl_context=tls.context).start()
        made.webhook_port = runner.addresses[0][1]
        yield made
    finally:
        if runner is not None:
            await runner.cleanup()
        await made.server.stop(0)
        await services.close()
        await connection.close()


async def until(condition: Callable[[], Any]) -> None:
    """Wait until something holds; the condition may be a coroutine function."""

    async def poll() -> None:
        while True:
            got = condition()
            if asyncio.iscoroutine(got):
                got = await got
            if got:
                return
            await asyncio.sleep(0.05)

    await asyncio.wait_for(poll(), PATIENCE)


async def config_map(client: Client, space: str) -> str:
    """The published root; empty if there is none."""
    items = (await client.request("GET", f"/api/v1/namespaces/{space}/configmaps"))["items"]
    found = [i for i in items if i["metadata"]["name"] == "istio-ca-root-cert"]
    return str(found[0]["data"].get("root-cert.pem", "")) if found else ""
