"""The mutating webhook over TLS, its paths and configuration, and the ConfigMap that is followed (INJ-001, INJ-002)."""

import base64
import json

import pytest
import structlog

from pypilot.injection.inject import inject
from pypilot.injection.installation import config_map_ref
from pypilot.kinds.base import ObjectMeta
from pypilot.kinds.config_map import ConfigMap
from pypilot.webhook.injector import Injector, variables_of
from pypilot.webhook.mutating import configuration_name, webhook_configuration
from pypilot.webhook.server import webhook_app
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.world import World
from tests.injection.golden import IMAGE, review
from tests.injection.patching import applied
from tests.webhook.test_server import Source, posted, served

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "a", "labels": {"app": "a"}},
    "spec": {"containers": [{"name": "a", "image": "i"}]},
}


EMPTY = World()


def injector(world=EMPTY):
    return Injector(lambda: world, IMAGE, "true")


def with_config(text):
    ref = config_map_ref(World().constants)
    made = ConfigMap(metadata=ObjectMeta(name=ref.name, namespace=ref.namespace), data={"injection": text})
    return advance(World(), Delta((made,)))


async def test_a_pod_comes_back_with_its_sidecar():
    source = Source()
    async with served(source, webhook_app(injector=injector())) as (_, port):
        status, text = await posted(port, source, review(POD), "/inject/net/north")
        answer = json.loads(text)["response"]
        assert (status, answer["uid"], answer["allowed"], answer["patchType"]) == (200, "u1", True, "JSONPatch")
        made = applied(json.loads(base64.b64decode(answer["patch"])), POD)
        init, proxy = made["spec"]["initContainers"]
        assert (init["name"], proxy["name"]) == ("istio-init", "istio-proxy")
        assert {"name": "ISTIO_META_NETWORK", "value": "north"} in proxy["env"]
        assert made["metadata"]["labels"]["topology.istio.io/network"] == "north"


@pytest.mark.parametrize(
    "asked",
    [
        review(POD, operation="UPDATE"),
        review({**POD, "kind": "Service"}),
        review(POD, "kube-system"),
        review({**POD, "metadata": {"labels": {"sidecar.istio.io/inject": "false"}}}),
        review(None),
    ],
    ids=["update", "no pod", "system", "out", "nothing"],
)
async def test_others_are_allowed_as_they_are(asked):
    source = Source()
    async with served(source, webhook_app(injector=injector())) as (_, port):
        status, text = await posted(port, source, asked, "/inject")
        assert (status, json.loads(text)["response"]) == (200, {"uid": "u1", "allowed": True})


async def test_a_pod_that_cannot_be_injected_is_denied_with_the_reason():
    pod = {**POD, "metadata": {"annotations": {"status.sidecar.istio.io/port": "x"}}}
    source = Source()
    async with served(source, webhook_app(injector=injector())) as (_, port):
        status, text = await posted(port, source, review(pod), "/inject")
        answer = json.loads(text)["response"]
        assert (status, answer["allowed"], answer["status"]["code"]) == (200, False, 422)
        assert "status.sidecar.istio.io/port" in answer["status"]["message"]


@pytest.mark.parametrize(("body", "expected"), [(b"", 400), (b"[" * 100_000, 400), (b'{"kind": "Pod"}', 400)])
async def test_what_is_no_review_is_said_so(body, expected):
    source = Source()
    async with served(source, webhook_app(injector=injector())) as (_, port):
        assert (await posted(port, source, body, "/inject"))[0] == expected


async def test_nothing_is_injected_before_the_mesh_is_known():
    source = Source()
    async with served(source, webhook_app(injector=injector(None))) as (_, port):
        assert (await posted(port, source, review(POD), "/inject"))[0] == 503


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", {}),
        ("/cluster/c1/net/n1", {"ISTIO_META_CLUSTER_ID": "c1", "ISTIO_META_NETWORK": "n1"}),
        ("net/a--slash--b/odd", {"ISTIO_META_NETWORK": "a/b"}),
        ("my_own/v", {"MY_OWN": "v"}),
        (":ENV:net=n1:ENV:=x:ENV:A=:ENV:B", {"ISTIO_META_NETWORK": "n1", "A": ""}),
    ],
)
def test_variables_of_the_path(path, expected):
    assert variables_of(path) == expected


def test_a_wrong_config_map_leaves_the_last_one_in_force():
    worlds = [with_config("policy: disabled")]
    made = Injector(lambda: worlds[-1], IMAGE, "true")
    assert made.installation().config.policy == "disabled"
    worlds.append(with_config("policy: sometimes"))
    with structlog.testing.capture_logs() as logs:
        assert made.installation().config.policy == "disabled"
        assert made.installation().config.policy == "disabled"
    assert [entry["log_level"] for entry in logs] == ["error"]
    assert "policy" in logs[0]["reason"]
    worlds.append(World())
    assert made.installation().config.policy == "enabled"


# -- which pods the API server asks about -----------------------------------------------------------------------------


def asked(revision, namespace, pod):
    """The webhooks that the API server calls for these labels, as Kubernetes' label selectors are defined."""

    def fits(expressions, labels):
        return all(
            {
                "In": labels.get(e["key"]) in e.get("values", ()),
                "NotIn": labels.get(e["key"]) not in e.get("values", ()),
                "Exists": e["key"] in labels,
                "DoesNotExist": e["key"] not in labels,
            }[e["operator"]]
            for e in expressions
        )

    return [
        hook["name"].removesuffix(".sidecar-injector.istio.io")
        for hook in webhook_configuration("istio-system", revision)["webhooks"]
        if fits(hook["namespaceSelector"]["matchExpressions"], namespace)
        and fits(hook["objectSelector"]["matchExpressions"], pod)
    ]


ON, OFF = {"istio-injection": "enabled"}, {"istio-injection": "disabled"}
IN, OUT = {"sidecar.istio.io/inject": "true"}, {"sidecar.istio.io/inject": "false"}
DEFAULT, CANARY = {"istio.io/rev": "default"}, {"istio.io/rev": "canary"}


@pytest.mark.parametrize(
    ("namespace", "pod", "default", "canary"),
    [
        ({}, {}, [], []),
        (ON, {}, ["namespace"], []),
        (ON, OUT, [], []),
        (OFF, IN, [], []),
        (OFF, DEFAULT, [], []),
        ({}, IN, ["object"], []),
        ({}, DEFAULT, ["rev.object"], []),
        ({}, {**CANARY, **IN}, [], ["rev.object"]),
        ({}, {**CANARY, **OUT}, [], []),
        (DEFAULT, {}, ["rev.namespace"], []),
        (CANARY, {}, [], ["rev.namespace"]),
        (CANARY, DEFAULT, [], ["rev.namespace"]),
        ({**ON, **CANARY}, {}, ["namespace"], []),
    ],
)
def test_labels_decide_who_is_asked(namespace, pod, default, canary):
    """INJ-002, KSVC-037; never two for one pod."""
    assert asked("default", namespace, pod) == default
    assert asked("canary", namespace, pod) == canary


def test_names():
    assert configuration_name("istio-system") == "istio-sidecar-injector"
    assert configuration_name("istio-system", "canary") == "istio-sidecar-injector-canary"
    assert configuration_name("mesh") == "istio-sidecar-injector-mesh"
    made = webhook_configuration("mesh", "canary")
    assert {h["clientConfig"]["service"]["name"] for h in made["webhooks"]} == {"istiod-canary"}
    assert {h["failurePolicy"] for h in made["webhooks"]} == {"Fail"}


def test_parts_that_are_one_by_an_alias_are_changed_apart():
    probe = {"httpGet": {"path": "/ok", "port": 80}}
    containers = [{"name": name, "image": "i", "livenessProbe": probe} for name in ("a", "b")]
    made = inject({**POD, "spec": {"containers": containers}}, "shop", injector().installation())
    assert [c["livenessProbe"]["httpGet"]["path"] for c in made["spec"]["containers"]] == [
        "/app-health/a/livez",
        "/app-health/b/livez",
    ]
    assert probe == {"httpGet": {"path": "/ok", "port": 80}}
