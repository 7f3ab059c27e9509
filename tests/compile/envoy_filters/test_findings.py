"""What users are told: of bad values, of patches that match nothing, of patches that fail (EF-005, EF-014, EF-024)."""

from typing import Any

import pytest

from pypilot.compile.envoy_filters import resources
from pypilot.compile.envoy_filters.findings import bad_values, idle_patches, outcome
from pypilot.compile.generators import GENERATORS
from pypilot.engine.loop import Engine
from pypilot.kinds.base import Object
from pypilot.webhook.review import check_object
from pypilot.wire import types
from pypilot.wire.node import Proxy
from pypilot.world.delta import Delta
from pypilot.world.reader import Reader
from tests.compile.envoy_filters.worlds import ELSEWHERE, GATEWAY, SHOP, base, envoy_filter, patch, world

LUA = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"
UNKNOWN = {"name": "f", "typed_config": {"@type": "type.googleapis.com/envoy.config.filter.http.lua.v2.Lua"}}
WRONG = {"name": "f", "typed_config": {"@type": LUA, "inline_code": ["not", "text"]}}
HTTP = {"filterChain": {"filter": {"name": "envoy.filters.network.http_connection_manager"}}}


def told(filters: list[Object], *proxies: Proxy) -> list[tuple[str, str, str]]:
    """(object, field, code), and that the texts are not empty."""
    reader = Reader(world(*filters))
    found = [*bad_values(reader), *idle_patches(reader, (outcome(reader, proxy) for proxy in proxies))]
    assert all(f.message for _, f in found)
    return [(str(ref), f.field, f.code) for ref, f in found]


def test_a_bad_value_drops_its_patch_alone() -> None:
    good = patch("CLUSTER", "ADD", {"name": "good"})
    bad = envoy_filter(
        patch("HTTP_FILTER", "ADD", UNKNOWN),
        patch("HTTP_FILTER", "ADD", WRONG),
        patch("CLUSTER", "MERGE", {"connect_timeout": "soon"}),
        good,
    )
    assert told([bad], SHOP) == [
        ("EnvoyFilter shop/f", f"spec.configPatches[{i}].patch.value", "bad-patch-value") for i in range(3)
    ]
    added = [r.name for r in GENERATORS[types.CLUSTER](Reader(world(bad)), SHOP)]
    assert "good" in added


def test_a_patch_that_matches_nothing_is_reported_once_somebody_has_it() -> None:
    idle = envoy_filter(
        patch("CLUSTER", "MERGE", {"type": "EDS"}, cluster={"service": "no.such.service"}),
        patch("CLUSTER", "MERGE", {"alt_stat_name": "x"}, context="GATEWAY"),
        patch("LISTENER", "REMOVE", listener={"name": "no-such"}),
    )
    nothing = [("EnvoyFilter shop/f", f"spec.configPatches[{i}]", "patch-matches-nothing") for i in (0, 2)]
    assert told([idle]) == []
    assert told([idle], ELSEWHERE) == []
    assert told([idle], SHOP) == nothing
    assert told([idle], SHOP, GATEWAY) == nothing


def test_a_patch_that_works_somewhere_is_no_problem() -> None:
    only_gateways = envoy_filter(patch("LISTENER", "MERGE", {"tcp_backlog_size": 2}, listener={"name": "0.0.0.0_80"}))
    assert told([only_gateways], SHOP, GATEWAY) == []


def test_types_that_cannot_be_merged_are_told() -> None:
    mismatch = patch("NETWORK_FILTER", "MERGE", {"typed_config": {"@type": LUA}}, listener=HTTP, context="GATEWAY")
    assert told([envoy_filter(mismatch)], GATEWAY) == [("EnvoyFilter shop/f", "spec.configPatches[0]", "patch-failed")]


def test_a_name_that_is_taken_stays_whose_it_is() -> None:
    added = envoy_filter(patch("CLUSTER", "ADD", {"name": "PassthroughCluster", "alt_stat_name": "mine"}))
    assert told([added], SHOP) == [("EnvoyFilter shop/f", "spec.configPatches[0]", "patch-failed")]
    made = [r for r in GENERATORS[types.CLUSTER](Reader(world(added)), SHOP) if r.name == "PassthroughCluster"]
    assert len(made) == 1
    assert b"mine" not in made[0].any_bytes


def test_a_patch_that_raises_leaves_the_resource_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """EF-024."""
    ours = patch("CLUSTER", "MERGE", {"alt_stat_name": "ours"}, cluster={"name": "BlackHoleCluster"})
    breaking = patch("CLUSTER", "MERGE", {"alt_stat_name": "breaking"}, cluster={"name": "BlackHoleCluster"})
    apply = resources.patch_cluster

    def failing(cluster: Any, patches: Any, trace: Any, hosts: Any) -> bool:
        for one in patches:
            if one.value.alt_stat_name == "breaking":
                cluster.name = "half done"
                trace.begin(one)
                raise RuntimeError("broken")
        return apply(cluster, patches, trace, hosts)

    monkeypatch.setattr(resources, "patch_cluster", failing)
    filters = [envoy_filter(ours, breaking)]
    assert told(filters, SHOP) == [("EnvoyFilter shop/f", "spec.configPatches[1]", "patch-failed")]
    names = {r.name: r.any_bytes for r in GENERATORS[types.CLUSTER](Reader(world(*filters)), SHOP)}
    assert b"ours" in names["BlackHoleCluster"]
    assert "half done" not in names


def test_the_engine_tells_for_whom_it_serves() -> None:
    engine = Engine(GENERATORS)
    idle = patch("LISTENER", "REMOVE", listener={"name": "no-such"})
    engine.load(Delta(upserts=(*base(), envoy_filter(patch("CLUSTER", "ADD", {"name": 5}), idle))))
    assert [p.code for p in engine.problems()] == ["bad-patch-value"]
    feed = engine.open(SHOP, lambda: None)
    assert [(p.field, p.code, p.severity) for p in engine.problems()] == [
        ("spec.configPatches[0].patch.value", "bad-patch-value", "error"),
        ("spec.configPatches[1]", "patch-matches-nothing", "warning"),
    ]
    feed.close()
    assert [p.code for p in engine.problems()] == ["bad-patch-value"]


def test_the_webhook_rejects_what_would_be_left_out() -> None:
    body = {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "f", "namespace": "shop"},
        "spec": {"configPatches": [patch("HTTP_FILTER", "ADD", UNKNOWN)]},
    }
    (error,) = check_object(body).errors
    assert error.startswith("spec.configPatches[0].patch.value: ADD HTTP_FILTER is left out: type 'envoy.config")
    assert "is of version 2" in error
