"""Patches cost and change nothing where they do not apply; proxies with the same patches share what comes out."""

from typing import Any

import pytest

from pypilot.engine.memo import Memo
from pypilot.wire.decode import resource_to_dict
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from tests.compile.envoy_filters.worlds import (
    ELSEWHERE,
    GATEWAY,
    MANAGER,
    SHOP,
    SHOP_TOO,
    bodies,
    compiled,
    envoy_filter,
    patch,
    world,
)
from tests.world.objects import service

PATCHES: list[dict[str, Any]] = [
    patch("LISTENER", "MERGE", {"tcp_backlog_size": 3, "bind_to_port": True}),
    patch("NETWORK_FILTER", "INSERT_FIRST", {"name": "inserted"}),
    patch("HTTP_FILTER", "INSERT_FIRST", {"name": "inserted"}, listener={"filterChain": {"filter": {"name": MANAGER}}}),
    patch("VIRTUAL_HOST", "MERGE", {"request_headers_to_remove": ["x"]}),
    patch("CLUSTER", "MERGE", {"connect_timeout": "1s", "common_lb_config": {"healthy_panic_threshold": {"value": 9}}}),
    patch("CLUSTER", "REMOVE", cluster={"name": "BlackHoleCluster"}),
]


def ignored(*patches: dict[str, Any]) -> list[dict[str, Any]]:
    """The same patches for gateways, which do not concern sidecars."""
    return [{**p, "match": {**p["match"], "context": "GATEWAY"}} for p in patches]


@pytest.mark.parametrize("of_all", [False, True])
def test_what_patches_do_not_mean_is_the_very_same(of_all: bool) -> None:
    """SEEN-021: what one proxy's patches merge into a default does not reach proxies that have no patches."""
    before = bodies(Memo(world()), (ELSEWHERE, SHOP, GATEWAY))
    memo = Memo(world(envoy_filter(*(PATCHES if of_all else ignored(*PATCHES)))))
    patched = bodies(memo, (SHOP, GATEWAY))  # first, so that there is something to be spoilt
    untouched = (ELSEWHERE,) if of_all else (ELSEWHERE, SHOP)
    assert bodies(memo, untouched) == {k: v for k, v in before.items() if k[0] in {p.id for p in untouched}}
    assert any(patched.get(key) != body for key, body in before.items() if key[0] == GATEWAY.id)
    assert patched == bodies(memo, (SHOP, GATEWAY))


def test_a_proxy_without_patches_gets_the_same_objects() -> None:
    memo = Memo(world(envoy_filter(*PATCHES)))
    far = compiled(memo, ELSEWHERE)
    from pypilot.compile.clusters import compile_clusters
    from pypilot.compile.listeners import compile_listeners

    assert [id(c) for c in far["CDS"].chunks] == [id(c) for c in memo.root(compile_clusters, ELSEWHERE).chunks]
    assert [id(c) for c in far["LDS"].chunks] == [id(c) for c in memo.root(compile_listeners, ELSEWHERE).chunks]


def test_proxies_with_the_same_patches_share() -> None:
    memo = Memo(world(envoy_filter(*PATCHES)))
    one, two = compiled(memo, SHOP), compiled(memo, SHOP_TOO)
    assert one["RDS"] is two["RDS"]
    assert one["CDS"].chunks[0] is two["CDS"].chunks[0]


def test_a_patch_does_the_same_to_everything_that_it_matches() -> None:
    """EF-020: patches and what is shared stay clean while they are applied."""
    extra = [service(f"s{i}", "shop") for i in range(3)]
    marks = patch("VIRTUAL_HOST", "MERGE", {"request_headers_to_remove": ["x-mark"]}, routeConfiguration={"name": "80"})
    route = patch("HTTP_ROUTE", "MERGE", {"response_headers_to_remove": ["x-mark"]}, routeConfiguration={"name": "80"})
    now = advance(world(envoy_filter(marks, route)), Delta(upserts=tuple(extra)))
    (resource,) = (r for r in compiled(Memo(now), SHOP)["RDS"] if r.name == "80")
    hosts = resource_to_dict(resource)["virtual_hosts"]
    assert len(hosts) == 5
    assert {tuple(host["request_headers_to_remove"]) for host in hosts} == {("x-mark",)}
    assert {tuple(r["response_headers_to_remove"]) for host in hosts for r in host["routes"]} == {("x-mark",)}


APPLIERS = ("patched_listener", "patched_configuration", "patched_cluster", "filter_patches")


def test_a_changed_filter_recompiles_only_those_that_have_it() -> None:
    mine = envoy_filter(*PATCHES, name="mine", workloadSelector={"labels": {"app": "web"}})
    others = envoy_filter(*PATCHES, name="others", workloadSelector={"labels": {"app": "api"}})
    now = world(mine, others)
    memo = Memo(now)
    before = {proxy.id: compiled(memo, proxy) for proxy in (SHOP, SHOP_TOO, ELSEWHERE, GATEWAY)}
    memo.computed.clear()
    changed = envoy_filter(*PATCHES[:1], name="others", workloadSelector={"labels": {"app": "api"}})
    now = advance(now, Delta(upserts=(changed,)))
    memo.advance(now, now.changed)
    for proxy in (SHOP, ELSEWHERE, GATEWAY):
        after = compiled(memo, proxy)
        assert all(after[short] is found for short, found in before[proxy.id].items())
    assert not any(memo.computed[name] for name in APPLIERS if name != "filter_patches")
    assert compiled(memo, SHOP_TOO) != before[SHOP_TOO.id]
    assert memo.computed["patched_listener"]


def test_without_filters_nothing_of_theirs_runs() -> None:
    memo = Memo(world())
    bodies(memo)
    assert not any(memo.computed[name] for name in APPLIERS)
