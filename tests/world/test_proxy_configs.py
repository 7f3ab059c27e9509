"""PC-001, PC-002: which settings a pod gets when it is injected."""

from typing import Any

import pytest

from pypilot.kinds.proxy_config import ProxyConfig
from pypilot.world.proxy_configs import ANNOTATION, effective_proxy_config
from tests.world.objects import make


def config(
    name: str, namespace: str, created: str = "2024", labels: dict[str, str] | None = None, **spec: Any
) -> ProxyConfig:
    selector = {"selector": {"matchLabels": labels}} if labels is not None else {}
    made = make("ProxyConfig", name, namespace, creationTimestamp=created, spec={**selector, **spec})
    assert isinstance(made, ProxyConfig)
    return made


ROOT = config(
    "mesh", "root", concurrency=1, environmentVariables={"A": "root", "B": "root"}, image={"imageType": "debug"}
)
SPACE = config("all", "shop", concurrency=2, environmentVariables={"B": "space", "C": "space"})
OWN = config("own", "shop", labels={"app": "cart"}, concurrency=4, environmentVariables={"D": "own"})
NOT_MINE = config("other", "shop", labels={"app": "other"}, concurrency=8)
ELSEWHERE = config("all", "elsewhere", concurrency=16)
EVERYTHING = [NOT_MINE, OWN, SPACE, ELSEWHERE, ROOT]


def effective(configs: list[ProxyConfig], text: str = "", namespace: str = "shop", **default: Any) -> dict[str, Any]:
    found, findings = effective_proxy_config(
        configs,
        root_namespace="root",
        default=default,
        namespace=namespace,
        labels={"app": "cart"},
        annotations={ANNOTATION: text} if text else {},
    )
    assert not findings
    return found


def test_built_in_defaults() -> None:
    found = effective([])
    assert (found["discoveryAddress"], found["proxyAdminPort"], found["statusPort"], found["statNameLength"]) == (
        "istiod.istio-system.svc:15012",
        15000,
        15020,
        189,
    )
    assert (found["drainDuration"], found["terminationDrainDuration"]) == ("45s", "5s")


@pytest.mark.parametrize(
    ("configs", "text", "default", "concurrency"),
    [
        ([], "", {"concurrency": 7}, 7),
        ([ROOT], "", {"concurrency": 7}, 1),
        ([ROOT, SPACE], "", {"concurrency": 7}, 2),
        ([ROOT, SPACE, NOT_MINE, ELSEWHERE], "concurrency: 3", {}, 3),
        (EVERYTHING, "concurrency: 3", {}, 4),
    ],
)
def test_each_layer_goes_over_the_ones_before(
    configs: list[ProxyConfig], text: str, default: dict[str, Any], concurrency: int
) -> None:
    assert effective(configs, text, **default)["concurrency"] == concurrency


def test_environments_are_united() -> None:
    found = effective(EVERYTHING, "proxyMetadata: {C: pod, E: pod}", proxyMetadata={"A": "mesh", "F": "mesh"})
    assert found["proxyMetadata"] == {"A": "root", "B": "space", "C": "pod", "D": "own", "E": "pod", "F": "mesh"}
    assert found["image"] == {"imageType": "debug"}


def test_of_several_the_oldest_holds() -> None:
    older = config("z", "shop", "2023", concurrency=9)
    assert effective([SPACE, older])["concurrency"] == 9
    older = config("z", "shop", "2023", labels={"app": "cart"}, concurrency=10)
    assert effective([OWN, older])["concurrency"] == 10


def test_in_the_root_namespace_its_resource_counts_once() -> None:
    assert effective(EVERYTHING, namespace="root")["concurrency"] == 1


@pytest.mark.parametrize("text", ["{", "- a"])
def test_an_annotation_that_cannot_be_read_counts_for_nothing(text: str) -> None:
    found, findings = effective_proxy_config(
        [SPACE], root_namespace="root", default={}, namespace="shop", labels={}, annotations={ANNOTATION: text}
    )
    assert found["concurrency"] == 2
    assert [f.field for f in findings] == [f"metadata.annotations.{ANNOTATION}"]
