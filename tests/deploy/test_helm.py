"""The chart. Needs helm."""

from typing import Any

import pytest

from pypilot.webhook import mutating
from tests.deploy.manifests import Data, documents, find, kustomized, templated

IGNORED = ("app.kubernetes.io/", "helm.sh/")


def plain(data: Any) -> Any:
    """Without what differs by nature: labels of the release."""
    if isinstance(data, dict):
        return {key: plain(value) for key, value in data.items() if not key.startswith(IGNORED)}
    if isinstance(data, list):
        return [plain(item) for item in data]
    return data


def by_identity(objects: list[Data]) -> dict[tuple[str, str], Any]:
    out = {(o["kind"], plain(o["metadata"]["name"])): plain(o) for o in objects}
    assert len(out) == len(objects)
    return out


def test_the_chart_gives_what_kustomize_gives() -> None:
    ours, theirs = by_identity(templated()), by_identity(kustomized())
    definitions = {key for key in ours if key[0] == "CustomResourceDefinition"}
    assert definitions
    assert ours.keys() - definitions == theirs.keys() - {("Namespace", "istio-system")}
    for key in ours.keys() - definitions:
        assert ours[key] == theirs[key], key


def test_the_charts_definitions_are_those_of_kustomize_and_stay() -> None:
    ours = [o for o in templated() if o["kind"] == "CustomResourceDefinition"]
    theirs = {o["metadata"]["name"]: o for o in kustomized("crds")}
    assert len(ours) == len(theirs)
    for definition in ours:
        assert definition["spec"] == theirs[definition["metadata"]["name"]]["spec"]
        assert definition["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_parts_can_be_left_out() -> None:
    off = (
        "crds.enabled",
        "gateway.enabled",
        "webhook.enabled",
        "injection.enabled",
        "rbac.create",
        "serviceAccount.create",
    )
    off += ("autoscaling.enabled", "podDisruptionBudget.enabled")
    objects = templated(*(part for name in off for part in ("--set", f"{name}=false")), "--set", "replicas=3")
    assert {o["kind"] for o in objects} == {"ConfigMap", "Service", "Deployment"}
    assert find(objects, "Deployment", "pypilot")["spec"]["replicas"] == 3


def test_only_roles_for_single_namespaces() -> None:
    objects = templated("--set", "namespaces={shop,web}", "--set", "crds.enabled=false", namespace="mesh")
    unwanted = {"ClusterRole", "ClusterRoleBinding", "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"}
    assert not unwanted & {o["kind"] for o in objects}
    gateway = find(objects, "Role", "istio-ingressgateway-secrets")
    assert gateway["rules"] == [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]}]
    roles = {o["metadata"]["namespace"]: o["rules"] for o in objects if o["kind"] == "Role" and o is not gateway}
    assert roles.keys() == {"mesh", "shop", "web"}
    expected = {o["metadata"]["namespace"]: o["rules"] for o in kustomized("namespaced") if o["kind"] == "Role"}
    assert roles["shop"] == roles["web"] == expected["shop"]
    assert roles["mesh"] == expected["istio-system"]
    container = find(objects, "Deployment", "pypilot")["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "PYPILOT_NAMESPACES", "value": "shop,web"} in container["env"]
    bindings = [o for o in objects if o["kind"] == "RoleBinding"]
    assert {s["namespace"] for binding in bindings for s in binding["subjects"]} == {"mesh"}


def test_a_revision_has_names_of_its_own() -> None:
    default = set(by_identity(templated("--set", "gateway.enabled=false,crds.enabled=false")))
    objects = templated("--set", "revision=canary,gateway.enabled=false,crds.enabled=false")
    assert not default & by_identity(objects).keys()
    names = {name for o in objects if o["kind"] == "Role" for r in o["rules"] for name in r.get("resourceNames", ())}
    assert {name for name in names if name.startswith("pypilot")} == {"pypilot-leader-canary"}
    wide = find(objects, "ClusterRole", "pypilot-canary-istio-system")
    assert ["pypilot-validator-canary-istio-system"] in [r.get("resourceNames") for r in wide["rules"]]
    assert find(objects, "ConfigMap", "istio-canary")
    hook = find(objects, "ValidatingWebhookConfiguration", "pypilot-validator-canary-istio-system")["webhooks"][0]
    assert hook["clientConfig"]["service"]["name"] == "istiod-canary"
    assert hook["objectSelector"] == {"matchLabels": {"istio.io/rev": "canary"}}
    injector = "istio-sidecar-injector-canary"
    assert find(objects, "MutatingWebhookConfiguration", injector)["webhooks"] == canary_hooks("istio-system")
    assert [injector] in [r.get("resourceNames") for r in wide["rules"]]
    args = find(objects, "Deployment", "pypilot-canary")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--revision=canary" in args


def canary_hooks(namespace: str) -> Any:
    return mutating.webhook_configuration(namespace, "canary")["webhooks"]


def test_another_namespace_has_an_injector_of_its_own() -> None:
    objects = templated("--set", "revision=canary,gateway.enabled=false,crds.enabled=false", namespace="mesh")
    found = find(objects, "MutatingWebhookConfiguration", mutating.configuration_name("mesh", "canary"))
    assert found["webhooks"] == canary_hooks("mesh")


def test_what_people_change_arrives() -> None:
    values = {
        "image.repository": "registry.example/pypilot",
        "image.tag": "v2",
        "gateway.service.type": "NodePort",
        "nodeSelector.disk": "fast",
        "gateway.priorityClassName": "high",
        "podAnnotations.team": "mesh",
        "mesh.trustDomain": "corp.example",
        "logLevel": "debug",
        "extraArgs[0]": "--drain=9",
        "imagePullSecrets[0].name": "pull",
        "plaintextXds": "false",
        "injection.image.repository": "registry.example/sidecar",
        "networkPolicy.enabled": "true",
    }
    objects = templated(*(part for name, value in values.items() for part in ("--set", f"{name}={value}")))
    template = find(objects, "Deployment", "pypilot")["spec"]["template"]
    pod, container = template["spec"], template["spec"]["containers"][0]
    assert container["image"] == "registry.example/pypilot:v2"
    assert container["args"][-2:] == ["--log-level=debug", "--drain=9"]
    assert {"name": "PYPILOT_PROXY_IMAGE", "value": "registry.example/sidecar:0.1.0"} in container["env"]
    assert "--grpc-addr=127.0.0.1:15010" in container["args"]
    assert pod["nodeSelector"] == {"disk": "fast"}
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert template["metadata"]["annotations"]["team"] == "mesh"
    assert find(objects, "Service", "istio-ingressgateway")["spec"]["type"] == "NodePort"
    gateway = find(objects, "Deployment", "istio-ingressgateway")["spec"]["template"]["spec"]
    assert gateway["priorityClassName"] == "high"
    assert "nodeSelector" not in gateway
    mesh = documents(find(objects, "ConfigMap", "istio")["data"]["mesh"])[0]
    assert mesh["trustDomain"] == "corp.example"
    assert find(objects, "NetworkPolicy", "pypilot")


def test_a_misspelt_value_is_refused() -> None:
    templated()  # skips without helm
    with pytest.raises(AssertionError, match="imag"):
        templated("--set", "imag.tag=1")
