"""Whatever a Pod is: a sidecar or a reason, the same the second time, the application's containers as they were."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pypilot.injection.errors import InjectionError
from pypilot.injection.inject import inject
from pypilot.injection.merging import merge
from pypilot.injection.patch import json_patch
from pypilot.injection.target import Installation
from tests.injection.patching import applied

words = st.text("ab-./~0$", max_size=5)
scalars = st.none() | st.booleans() | st.integers(-2, 70000) | st.floats(allow_nan=False) | words
anything = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(words, v, max_size=3), max_leaves=12
)

ports = st.fixed_dictionaries({"containerPort": st.integers(1, 65535)}, optional={"name": words, "protocol": words})
handlers = st.fixed_dictionaries(
    {},
    optional={
        "httpGet": st.fixed_dictionaries(
            {"port": st.integers(1, 65535) | words},
            optional={"path": words, "scheme": st.sampled_from(["HTTP", "HTTPS"])},
        ),
        "tcpSocket": st.fixed_dictionaries({"port": st.integers(1, 65535) | words}),
        "grpc": st.fixed_dictionaries({"port": st.integers(1, 65535)}),
        "exec": st.builds(lambda: {"command": ["true"]}),
        "timeoutSeconds": st.integers(1, 9),
    },
)
probe_names = ("readinessProbe", "livenessProbe", "startupProbe")
container_names = st.sampled_from(["app", "log", "istio-proxy", "istio-init", "third"])
containers = st.fixed_dictionaries(
    {"name": container_names, "image": st.sampled_from(["i", "auto"])},
    optional={
        "ports": st.lists(ports, max_size=2),
        "env": st.lists(st.fixed_dictionaries({"name": words}, optional={"value": words}), max_size=2),
        "lifecycle": st.fixed_dictionaries({}, optional={"preStop": handlers, "postStart": handlers}),
        "securityContext": st.dictionaries(st.sampled_from(["runAsUser", "privileged"]), st.integers(0, 3)),
        "resources": st.builds(lambda: {"limits": {"cpu": "1"}}),
        **dict.fromkeys(probe_names, handlers),
    },
)
annotation_values = {
    "sidecar.istio.io/nativeSidecar": ["true", "false", "x"],
    "sidecar.istio.io/interceptionMode": ["TPROXY", "NONE", "REDIRECT", "x"],
    "sidecar.istio.io/rewriteAppHTTPProbers": ["true", "false", ""],
    "status.sidecar.istio.io/port": ["0", "15030", "x"],
    "inject.istio.io/templates": ["gateway", "sidecar", "sidecar,gateway", "none", ""],
    "prometheus.io/port": ["9090", "15020", "x"],
    "prometheus.io/scrape": ["true", "false", "x"],
    "prometheus.io.scrape": ["true"],
    "prometheus.istio.io/scrape-targets": ["8080:/a,9090", "x", ""],
    "proxy.istio.io/config": [
        "",
        "statusPort: 1",
        "{",
        "proxyMetadata: {1: 2, b: true}",
        "proxyMetadata: [1]",
        "[]",
        "image: 3",
    ],
    "proxy.istio.io/overrides": ["{}", "{", '{"containers": [{"name": "istio-proxy"}]}', '{"containers": [1]}', "[]"],
    "sidecar.istio.io/userVolume": ['{"a": {"emptyDir": {}}}', '{"a": null}', "x"],
    "sidecar.istio.io/status": ["", "{", "[]", '{"containers": [1, "app"], "initContainers": 3}', "1"],
}
annotations = st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in annotation_values.items()})
unique = st.lists(containers, max_size=4, unique_by=lambda c: c["name"])


def container_names_of(pod):
    return [c["name"] for key in ("containers", "initContainers") for c in pod["spec"].get(key, ())]


pods = st.fixed_dictionaries(
    {
        "kind": st.just("Pod"),
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                "name": words,
                "generateName": words,
                "labels": st.dictionaries(words, words, max_size=2),
                "annotations": annotations,
            },
        ),
        "spec": st.fixed_dictionaries(
            {"containers": unique},
            optional={
                "initContainers": unique,
                "volumes": st.lists(st.fixed_dictionaries({"name": words}), max_size=2),
                "securityContext": st.just({"fsGroup": 5}),
            },
        ),
    }
).filter(lambda pod: len(set(container_names_of(pod))) == len(container_names_of(pod)))
installations = st.builds(
    Installation, image=st.just("i:1"), native_sidecars=st.booleans(), merges_metrics=st.booleans()
)


@settings(deadline=None)
@given(anything, installations)
def test_any_json_is_answered(data, installation):
    before = copy.deepcopy(data)
    try:
        inject(data, "shop", installation)
    except InjectionError:
        pass  # anything else fails the test
    assert data == before


@settings(deadline=None)
@given(pods, st.sampled_from(["metadata", "spec"]), words, anything, installations)
def test_any_part_of_a_pod_is_answered(pod, part, key, value, installation):
    pod[part][key] = value
    for name in ("annotations", "labels", "containers", "initContainers", "volumes"):
        spoiled = copy.deepcopy(pod)
        spoiled[part][name] = value
        try:
            inject(spoiled, "shop", installation)
        except InjectionError:
            pass


@settings(deadline=None)
@given(pods, installations)
def test_injected_again_is_the_same(pod, installation):
    try:
        made = inject(pod, "shop", installation)
        assert made is not None
    except InjectionError:
        return
    assert applied(json_patch(pod, made), pod) == made
    assert json_patch(made, inject(made, "shop", installation)) == []


def stripped(container):
    """What injection never touches."""
    return {k: v for k, v in container.items() if k not in (*probe_names, "lifecycle")}


@settings(deadline=None)
@given(pods, installations)
def test_the_applications_containers_stay_as_they_were(pod, installation):
    pod["metadata"].get("annotations", {}).pop("sidecar.istio.io/status", None)  # says which are not the application's
    try:
        made = inject(pod, "shop", installation)
    except InjectionError:
        return
    for name in ("containers", "initContainers"):
        ours = {"istio-proxy", "istio-init"}
        before = [stripped(c) for c in pod["spec"].get(name, ()) if c["name"] not in ours]
        after = [stripped(c) for c in made["spec"].get(name, ()) if c["name"] not in ours]
        assert after == before
    for key in pod["spec"].keys() - {"containers", "initContainers", "volumes", "securityContext"}:
        assert made["spec"][key] == pod["spec"][key]


@settings(deadline=None)
@given(anything, anything)
def test_a_patch_makes_one_of_the_other(old, new):
    patched = applied(json_patch(old, new), old)
    assert json_patch(patched, new) == []
    assert repr(patched) == repr(new) or patched == new


@pytest.mark.parametrize(
    ("field", "base", "overlay", "expected"),
    [
        ("", {"a": 1, "b": 2}, {"a": None, "c": {"x": None, "y": 1}}, {"b": 2, "c": {"y": 1}}),
        (
            "containers",
            [{"name": "a", "x": 1}],
            [{"name": "b"}, {"name": "a", "y": 2}],
            [{"name": "a", "x": 1, "y": 2}, {"name": "b"}],
        ),
        ("containers", [{"name": "a"}, {"name": "b"}], [{"name": "a", "$patch": "delete"}], [{"name": "b"}]),
        ("", {"a": {"b": 1, "c": 2}}, {"a": {"$patch": "replace", "d": 3}}, {"a": {"d": 3}}),
        ("", {"a": {"b": 1}}, {"a": {"$patch": "delete"}}, {}),
        ("args", ["a"], ["b"], ["b"]),
        (
            "env",
            [{"name": "a", "value": "1"}],
            [{"name": "a", "valueFrom": {"x": 1}}],
            [{"name": "a", "valueFrom": {"x": 1}}],
        ),
        (
            "ports",
            [{"containerPort": 53, "protocol": "UDP"}],
            [{"containerPort": 53, "name": "t"}],
            [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "name": "t"}],
        ),
    ],
)
def test_merging(field, base, overlay, expected):
    assert merge(base, overlay, field) == expected
