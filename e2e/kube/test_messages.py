"""VAL-012 on a real API server: messages in statuses, as a service account with no more than it needs."""

import asyncio

from e2e.kube.control_plane import ACCOUNT, namespace, permissions, settle, token_of, until
from pypilot.kinds import KINDS
from pypilot.kinds.base import Origin, Ref
from pypilot.kube.connection import MERGE_PATCH, Access, KubernetesConnection
from pypilot.upkeep.messages import MessageWriter, message_rules, validation_messages, written_kinds
from pypilot.world.delta import Problem

SPACE = "messages"
PATH = f"/apis/networking.istio.io/v1/namespaces/{SPACE}/serviceentries/a"
REF = Ref("ServiceEntry", SPACE, "a")


def entry():
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    spec = {"hosts": ["a.example"], "resolution": "DNS", "ports": ports}
    metadata = {"name": "a", "namespace": SPACE}
    return {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": metadata, "spec": spec}


def allowed():
    """Reading Istio's kinds, as for configuration, and writing their statuses."""
    reading = [
        {"apiGroups": [kind.group], "resources": [kind.plural], "verbs": ["get", "list", "watch"]}
        for kind in written_kinds(KINDS)
    ]
    role, binding = permissions(SPACE)[2:]
    name = {"name": f"{ACCOUNT}-{SPACE}-messages"}
    return [
        {**role, "metadata": name, "rules": [*reading, *message_rules(KINDS)]},
        {**binding, "metadata": name, "roleRef": {**binding["roleRef"], **name}},
    ]


async def test_messages_come_and_go_and_change_nothing_else(cluster, client):
    await settle(client, SPACE)
    await client.apply_all([namespace(SPACE), *allowed(), entry()])
    kept = {"addresses": [{"value": "240.240.0.9", "host": "a.example"}]}
    await client.request("PATCH", f"{PATH}/status", {"status": kept}, MERGE_PATCH)
    before = await client.request("GET", PATH)
    problems = [Problem("nobody", "warning", "unknown-host", REF, "spec.hosts[0]", Origin("cluster x"))]
    token = await token_of(client, SPACE, ACCOUNT)
    connection = KubernetesConnection(Access(cluster.kubeconfig(user={"token": token}, name=f"{SPACE}-{ACCOUNT}")))

    async def quick(seconds):
        await asyncio.sleep(0.05)

    def writer():
        return MessageWriter(connection, lambda: validation_messages(problems, "cluster x"), KINDS, sleep=quick)

    async def shown():
        status = (await client.request("GET", PATH)).get("status") or {}
        assert status["addresses"] == kept["addresses"]
        return [m["type"]["code"] for m in status.get("validationMessages") or ()]

    async def is_warned():
        return await shown() == ["PP0201"]

    async def is_clear():
        return await shown() == []

    first = writer()
    task = asyncio.create_task(first.run())
    await until(is_warned)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert first.statistics().errors == {}
    problems.clear()
    second = writer()  # another leader takes away what the first one left
    task = asyncio.create_task(second.run())
    await until(is_clear)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert second.statistics().writes == 1
    after = await client.request("GET", PATH)
    assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], before["metadata"]["generation"])
    await connection.close()
    await client.wipe()
