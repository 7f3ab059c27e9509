"""INJ-001, INJ-002 on a real API server: pods of labelled namespaces come back with a proxy, others as they were."""

import base64

import pytest

from e2e.kube.control_plane import namespace, replica, settle, until
from pypilot.webhook.mutating import configuration_name, webhook_configuration
from pypilot.world.world import World
from tests.security.workloads import intermediate

SPACE = "injection-root"
SHOP, PLAIN = "injection-shop", "injection-plain"
PATH = f"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{configuration_name(SPACE)}"


def pod(name, space, labels=None, **spec):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "labels": {"app": name, **(labels or {})}},
        "spec": {
            "serviceAccountName": "default",  # as admission would say
            "containers": [{"name": "app", "image": "app", "readinessProbe": {"tcpSocket": {"port": 80}}}],
            **spec,
        },
    }


@pytest.fixture
async def ready(cluster, client):
    await settle(client, SPACE)
    labelled = namespace(SHOP)
    labelled["metadata"]["labels"] = {"istio-injection": "enabled"}
    await client.apply_all([labelled, namespace(PLAIN)])
    async with replica(cluster, client, SPACE, world=World) as made:
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "istiod", "namespace": SPACE},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }
        await client.apply(service)
        await install(client, made.webhook_port)
        await until(lambda: trusted(client, made))
        yield made
    listed = await client.request("GET", PATH.rpartition("/")[0])
    if any(item["metadata"]["name"] == configuration_name(SPACE) for item in listed["items"]):
        await client.request("DELETE", PATH)
    await client.wipe()


async def install(client, port):
    body = webhook_configuration(SPACE)
    for hook in body["webhooks"]:
        hook["clientConfig"]["service"]["port"] = port
    await client.request("POST", PATH.rpartition("/")[0], body)


async def trusted(client, made):
    bundle = base64.b64encode(made.services.identity.tls.read()[2]).decode()
    hooks = (await client.request("GET", PATH))["webhooks"]
    return all(hook["clientConfig"].get("caBundle") == bundle for hook in hooks)


async def created(client, data):
    """Status and the object, or the refusal."""
    space = data["metadata"]["namespace"]
    async with client._session.request("POST", f"/api/v1/namespaces/{space}/pods", json=data) as response:
        return response.status, await response.json()


async def account(client, space):
    """Pods are admitted once their namespace has its service account, which no controller makes here."""
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": space}}
    await client.apply(body)


def names(found, field="initContainers"):
    return [c["name"] for c in found["spec"].get(field, ())]


async def test_pods_come_back_with_a_proxy_where_labels_say_so(ready, client):
    await account(client, SHOP)
    await account(client, PLAIN)
    status, found = await created(client, pod("a", SHOP))
    assert status == 201, found["message"]
    assert names(found) == ["istio-init", "istio-proxy"]
    proxy = found["spec"]["initContainers"][1]
    assert proxy["restartPolicy"] == "Always"  # the API server knows native sidecars
    assert found["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/app-health/app/readyz"
    token = next(v for v in found["spec"]["volumes"] if v["name"] == "istio-token")
    assert token["projected"]["sources"][0]["serviceAccountToken"]["audience"] == "istio-ca"

    cases = {
        "out": (SHOP, {"sidecar.istio.io/inject": "false"}, {}, []),
        "host": (SHOP, {}, {"hostNetwork": True}, []),
        "plain": (PLAIN, {}, {}, []),
        "asked": (PLAIN, {"sidecar.istio.io/inject": "true"}, {}, ["istio-init", "istio-proxy"]),
        "revision": (PLAIN, {"istio.io/rev": "default"}, {}, ["istio-init", "istio-proxy"]),
        "another": (PLAIN, {"istio.io/rev": "canary"}, {}, []),
    }
    for name, (space, labels, spec, expected) in cases.items():
        status, found = await created(client, pod(name, space, labels, **spec))
        assert status == 201, (name, found.get("message"))
        assert names(found) == expected, name


async def test_a_gateway_is_filled_in(ready, client):
    await account(client, SHOP)
    data = pod("gw", SHOP, containers=[{"name": "istio-proxy", "image": "auto"}])
    data["metadata"]["annotations"] = {"inject.istio.io/templates": "gateway"}
    status, found = await created(client, data)
    assert status == 201, found["message"]
    assert found["spec"]["containers"][0]["args"][:2] == ["proxy", "router"]


async def test_a_wrong_annotation_is_refused_with_its_name(ready, client):
    await account(client, SHOP)
    data = pod("a", SHOP)
    data["metadata"]["annotations"] = {"status.sidecar.istio.io/port": "http"}
    status, answer = await created(client, data)
    assert status == 422, answer
    assert "status.sidecar.istio.io/port" in answer["message"]


async def test_what_is_created_twice_is_injected_alike(ready, client):
    """A pod that was written down after injection, and is created again (INJ-018)."""
    await account(client, SHOP)
    _, first = await created(client, pod("a", SHOP))
    again = {key: first[key] for key in ("apiVersion", "kind", "spec")}
    again["metadata"] = {k: first["metadata"][k] for k in ("namespace", "labels", "annotations")} | {"name": "b"}
    status, second = await created(client, again)
    assert status == 201, second["message"]
    assert names(second) == names(first)
    assert second["metadata"]["annotations"] == first["metadata"]["annotations"]


async def test_the_root_is_repaired(ready, client):
    await account(client, SHOP)
    current = await client.request("GET", PATH)
    for hook in current["webhooks"]:
        hook["clientConfig"].pop("caBundle")
    await client.request("PUT", PATH, current)
    await until(lambda: trusted(client, ready))
    await until(lambda: _is_state(ready, "Fail"))
    status, found = await created(client, pod("a", SHOP))
    assert status == 201, found["message"]
    assert names(found) == ["istio-init", "istio-proxy"]


async def test_another_root_is_followed(ready, client):
    """INJ-001: the API server goes on asking us while the webhook's certificate comes from another root."""
    await account(client, SHOP)
    before = (await client.request("GET", PATH))["webhooks"][0]["clientConfig"]["caBundle"]
    old, data = ready.services.identity.tls.stamp(), intermediate("operator")
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "cacerts", "namespace": SPACE},
        "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
    }
    await client.request("POST", f"/api/v1/namespaces/{SPACE}/secrets", body)
    await until(lambda: ready.services.identity.tls.stamp() != old)
    await until(lambda: trusted(client, ready))
    assert (await client.request("GET", PATH))["webhooks"][0]["clientConfig"]["caBundle"] != before
    status, found = await created(client, pod("a", SHOP))
    assert status == 201, found["message"]
    assert names(found) == ["istio-init", "istio-proxy"]


def _is_state(made, wanted):
    return made.services.statistics().injection == wanted
