"""VAL-001 on a real API server: registration by the leader, denials that name the field, and nobody blocked before."""

import base64
import json

import pytest

from e2e.kube.control_plane import namespace, replica, settle, until
from pypilot.kinds import KINDS
from pypilot.webhook.validating import configuration_name, webhook_configuration

SPACE = "webhook-root"
APP = "webhook-app"
PATH = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{configuration_name(SPACE)}"


def virtual_service(weights, **more):
    route = [{"destination": {"host": f"h{i}"}, "weight": w} for i, w in enumerate(weights)]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "vs", "namespace": APP},
        "spec": {"hosts": ["a.example.com"], "http": [{"route": route}], **more},
    }


@pytest.fixture
async def ready(cluster, client):
    await settle(client, SPACE)
    await client.apply(namespace(APP))
    async with replica(cluster, client, SPACE) as made:
        yield made
    listed = await client.request("GET", PATH.rpartition("/")[0])
    if any(item["metadata"]["name"] == configuration_name(SPACE) for item in listed["items"]):
        await client.request("DELETE", PATH)
    await client.wipe()


async def install(client, port):
    """The manifest, with a Service that the API server, which is in no cluster, resolves to this machine."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "istiod", "namespace": SPACE},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }
    await client.apply(service)
    body = json.loads(json.dumps(webhook_configuration(KINDS, SPACE)))
    body["webhooks"][0]["clientConfig"]["service"]["port"] = port
    await client.request("POST", PATH.rpartition("/")[0], body)


async def policy(client):
    (hook,) = (await client.request("GET", PATH))["webhooks"]
    return hook["failurePolicy"]


async def attempt(client, data, method="POST"):
    """Status and answer, also of a refusal, and the warnings."""
    path = f"/apis/networking.istio.io/v1/namespaces/{APP}/virtualservices"
    async with client._session.request(method, path, json=data) as response:
        return response.status, await response.json(), response.headers.getall("Warning", [])


async def test_wrong_objects_are_denied_with_the_field_once_the_self_test_has_passed(ready, client):
    assert (await attempt(client, virtual_service([50, -1])))[0] == 201  # nobody was asked
    await client.delete(virtual_service([1]))
    await install(client, ready.webhook_port)
    await until(lambda: _is(client, "Fail"))
    await until(lambda: ready.services.statistics().webhook == "Fail")
    (hook,) = (await client.request("GET", PATH))["webhooks"]
    assert base64.b64decode(hook["clientConfig"]["caBundle"]) == ready.services.identity.tls.read()[2]

    status, answer, _ = await attempt(client, virtual_service([50, -1]))
    assert status == 422, answer
    assert "spec.http[0].route[1].weight" in answer["message"]
    status, answer, warnings = await attempt(client, virtual_service([50, 50], nonsense=1))
    if status == 201:  # with a permissive definition
        assert any("spec.nonsense" in text for text in warnings)
        await client.delete(virtual_service([1]))
    status, _, warnings = await attempt(client, virtual_service([50, 50]))
    assert (status, warnings) == (201, [])
    await client.delete(virtual_service([1]))


async def _is(client, wanted):
    return await policy(client) == wanted


async def test_the_self_test_leaves_nothing_behind(ready, client):
    await install(client, ready.webhook_port)
    await until(lambda: _is(client, "Fail"))
    path = f"/apis/networking.istio.io/v1/namespaces/{SPACE}/gateways"
    assert (await client.request("GET", path))["items"] == []


async def test_a_configuration_that_was_installed_again_is_repaired(ready, client):
    await install(client, ready.webhook_port)
    await until(lambda: _is(client, "Fail"))
    current = await client.request("GET", PATH)
    current["webhooks"][0]["failurePolicy"] = "Ignore"
    current["webhooks"][0]["clientConfig"].pop("caBundle")
    await client.request("PUT", PATH, current)
    await until(lambda: _is(client, "Fail"))
    (hook,) = (await client.request("GET", PATH))["webhooks"]
    assert base64.b64decode(hook["clientConfig"]["caBundle"]) == ready.services.identity.tls.read()[2]
    assert hook["rules"] == webhook_configuration(KINDS, SPACE)["webhooks"][0]["rules"]


async def test_without_an_answer_the_policy_stays_ignore_and_objects_pass(ready, client):
    await install(client, 9)  # nobody listens
    await until(lambda: ready.services.statistics().webhook == "Ignore")
    await until(lambda: "accepted a wrong object" in ready.services._registrations["validation"]._said)
    assert await policy(client) == "Ignore"
    assert (await attempt(client, virtual_service([50, -1])))[0] == 201
