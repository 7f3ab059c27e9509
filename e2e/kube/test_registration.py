"""WE-004…007 on a real API server: a machine comes with its token, gets an entry, reports its health, and goes."""

from contextlib import asynccontextmanager

import grpc

from e2e.kube.control_plane import account, namespace, replica, settle, token_of, until
from pypilot.wire.types import CLUSTER
from pypilot.xds.attendance import HEALTH
from tests.xds.harness import stream

SPACE = "registration-root"
APP = "registration-app"
PATH = f"/apis/networking.istio.io/v1/namespaces/{APP}/workloadentries"
NODE = f"sidecar~192.0.2.1~vm.{APP}~{APP}.svc.cluster.local"
PROBED = {"readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}}}
GROUP = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "WorkloadGroup",
    "metadata": {"name": "machines", "namespace": APP},
    "spec": {
        "metadata": {"labels": {"app": "prices"}},
        "template": {"serviceAccount": "vm", "ports": {"http": 8080}},
        "probe": {"httpGet": {"path": "/ready", "port": 8080}},
    },
}


@asynccontextmanager
async def machine(made, token, **metadata):
    """A stream of a machine's agent."""
    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(made.services.identity.tls.read()[2]), grpc.access_token_call_credentials(token)
    )
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.ssl_target_name_override", f"istiod.{SPACE}.svc"),
    ]
    async with grpc.aio.secure_channel(f"127.0.0.1:{made.server.secure_port}", credentials, options) as opened:
        one = stream(opened)
        await one.ask(
            CLUSTER, node=NODE, metadata={"AUTO_REGISTER_GROUP": "machines", "PROXY_CONFIG": PROBED, **metadata}
        )
        yield one


async def entries(client):
    return {item["metadata"]["name"]: item for item in (await client.request("GET", PATH))["items"]}


async def health(client):
    found = await entries(client)
    conditions = [c for item in found.values() for c in (item.get("status") or {}).get("conditions", ())]
    return [(c["type"], c["status"], c.get("message", "")) for c in conditions]


async def test_a_machine_registers_itself_reports_and_is_forgotten(cluster, client):
    await settle(client, SPACE)
    await client.apply_all([namespace(APP), account(APP, "vm"), account(APP, "thief"), GROUP])
    token = await token_of(client, APP, "vm", "istio-ca")
    stolen = await token_of(client, APP, "thief", "istio-ca")
    async with replica(cluster, client, SPACE, grace=1.0) as made:
        made.catalog.put(CLUSTER, {"a": "1"})
        for wrong, metadata, code in (
            (stolen, {}, grpc.StatusCode.PERMISSION_DENIED),
            (token, {"AUTO_REGISTER_GROUP": "unknown"}, grpc.StatusCode.FAILED_PRECONDITION),
        ):
            async with machine(made, wrong, **metadata) as one:
                assert await one.call.code() is code
        assert await entries(client) == {}

        async with machine(made, token) as one:
            assert (await one.next()).resources == {"a": "1"}
            found = await entries(client)
            assert found.keys() == {"machines-192.0.2.1"}
            entry = found["machines-192.0.2.1"]
            assert entry["spec"]["address"] == "192.0.2.1"
            assert entry["spec"]["labels"] == {"app": "prices"}
            assert entry["metadata"]["ownerReferences"][0]["name"] == "machines"
            assert entry["metadata"]["annotations"]["proxy.istio.io/health-checks-enabled"] == "true"
            await one.ask(HEALTH, error="connection refused")

            async def is_bad():
                return await health(client) == [("Healthy", "False", "connection refused")]

            await until(is_bad)
            await one.ask(HEALTH)

            async def is_good():
                return await health(client) == [("Healthy", "True", "")]

            await until(is_good)

        async def has_gone():
            return not await entries(client)

        await until(has_gone)
    await client.wipe()
