"""Which endpoint gets a request: stickiness, localities, warm-up, and what happens when one is lost (DR rows)."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from e2e.outcomes.caller import Caller
from e2e.outcomes.conftest import Start
from e2e.outcomes.objects import Json, destination_rule, endpoint, service_entry, to, virtual_service
from e2e.outcomes.servers import App
from e2e.outcomes.stage import Proxy, Stage
from pypilot.cli.demo.checks import settled, split_bounds

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session")]

NEAR, FAR, FARTHER = "near/a", "far/b", "farther/c"
"""Where endpoints are; the gateway is in the first."""
QUICK_OUTLIER = {"consecutive5xxErrors": 2, "interval": "0.1s", "baseEjectionTime": "0.3s", "maxEjectionPercent": 100}


async def three(app: Start) -> list[App]:
    return [await app("app", str(i)) for i in range(3)]


@pytest.mark.parametrize(
    ("consistent_hash", "requests"),
    [
        ({"httpHeaderName": "x-user"}, [{"headers": {"x-user": f"user-{i}"}} for i in range(12)]),
        ({"httpQueryParameterName": "user"}, [{"path": f"/?user={i}"} for i in range(12)]),
        ({"httpHeaderName": "x-user", "maglev": {}}, [{"headers": {"x-user": f"user-{i}"}} for i in range(12)]),
        (
            {"httpHeaderName": "x-user", "ringHash": {"minimumRingSize": 64}},
            [{"headers": {"x-user": f"user-{i}"}} for i in range(12)],
        ),
    ],
    ids=["header", "query", "maglev", "ring"],
)
async def test_a_consistent_hash_keeps_each_user_at_one_server(
    stage: Stage, web: Caller, app: Start, consistent_hash: Json, requests: Sequence[dict[str, Any]]
) -> None:
    host = "sticky.example"
    policy = {"loadBalancer": {"consistentHash": consistent_hash}}
    await stage.apply(service_entry(host, *await three(app)), destination_rule(host, policy), virtual_service(host))
    homes = Counter[str]()
    for request in requests:
        seen = await web.count(host, 5, **request)
        assert len(seen) == 1, (request, seen)
        homes.update(seen.keys())
    assert len(homes) > 1, "all users at one server"


async def test_a_cookie_is_made_and_leads_back(stage: Stage, web: Caller, app: Start, host: str) -> None:
    cookie = {"name": "session", "ttl": "60s", "path": "/"}
    policy = {"loadBalancer": {"consistentHash": {"httpCookie": cookie}}}
    await stage.apply(service_entry(host, *await three(app)), destination_rule(host, policy), virtual_service(host))
    homes = set()
    for _ in range(12):
        first = await web.ask(host)
        given = first.headers["set-cookie"]
        assert given.startswith('session="')
        assert "Max-Age=60" in given
        assert "Path=/" in given
        again = await web.count(host, 4, headers={"cookie": given.partition(";")[0]})
        assert again == {first.by: 4}
        homes.add(first.by)
    assert len(homes) > 1


async def test_one_source_address_stays_at_one_server(stage: Stage, web: Caller, app: Start, host: str) -> None:
    policy = {"loadBalancer": {"consistentHash": {"useSourceIp": True}}}
    await stage.apply(service_entry(host, *await three(app)), destination_rule(host, policy), virtual_service(host))
    assert len(await web.count(host, 30)) == 1


@pytest.mark.parametrize("simple", ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"])
async def test_all_servers_get_their_share(stage: Stage, web: Caller, app: Start, simple: str) -> None:
    host = "share.example"
    policy = {"loadBalancer": {"simple": simple}}
    await stage.apply(service_entry(host, *await three(app)), destination_rule(host, policy), virtual_service(host))
    counts = await web.count(host, 120, at_once=1 if simple == "ROUND_ROBIN" else 8)
    if simple == "ROUND_ROBIN":
        assert set(counts.values()) == {40}
    elif simple == "RANDOM":
        low, high = split_bounds(120, 1 / 3)
        assert all(low <= n <= high for n in counts.values())
    assert len(counts) == 3


async def test_warm_up_is_taken_and_traffic_flows(
    stage: Stage, gateway: Proxy, web: Caller, app: Start, host: str
) -> None:
    warmup = {"duration": "60s", "minimumPercent": 20, "aggression": 1.5}
    policy = {"loadBalancer": {"simple": "ROUND_ROBIN", "warmup": warmup}}
    await stage.apply(service_entry(host, *await three(app)), destination_rule(host, policy), virtual_service(host))
    assert sum((await web.count(host, 20)).values()) == 20
    clusters = str(await gateway.envoy.config_dump("dynamic_active_clusters"))
    assert "slow_start_config" in clusters


def places(**found: App) -> list[Json]:
    """Endpoints by the name of their region."""
    names = {"near": NEAR, "far": FAR, "farther": FARTHER}
    return [endpoint(server, locality=names[name]) for name, server in found.items()]


async def test_traffic_stays_near_moves_on_loss_and_comes_back(
    stage: Stage, web: Caller, app: Start, host: str
) -> None:
    near, far = await app("near"), await app("far")
    await stage.apply(
        service_entry(host, *places(near=near, far=far)),
        destination_rule(host, {"outlierDetection": QUICK_OUTLIER}),
        virtual_service(host),
    )
    assert await web.count(host, 20) == {"near": 20}
    await near.stop()
    moved = await settled(lambda: web.count(host, 10), lambda c: c == {"far": 10}, seconds=60)
    assert moved == {"far": 10}
    await near.start()
    back = await settled(lambda: web.count(host, 10), lambda c: c == {"near": 10}, seconds=60)
    assert back == {"near": 10}


async def test_failover_names_where_to_go_next(stage: Stage, web: Caller, app: Start, host: str) -> None:
    near, far, farther = await app("near"), await app("far"), await app("farther")
    setting = {"failover": [{"from": "near", "to": "farther"}]}
    policy = {"outlierDetection": QUICK_OUTLIER, "loadBalancer": {"localityLbSetting": setting}}
    await stage.apply(
        service_entry(host, *places(near=near, far=far, farther=farther)),
        destination_rule(host, policy),
        virtual_service(host),
    )
    assert await web.count(host, 20) == {"near": 20}
    await near.stop()
    moved = await settled(lambda: web.count(host, 10), lambda c: c == {"farther": 10}, seconds=60)
    assert moved == {"farther": 10}


async def test_without_outlier_detection_all_localities_share(stage: Stage, web: Caller, app: Start, host: str) -> None:
    servers = places(near=await app("near"), far=await app("far"))
    await stage.apply(service_entry(host, *servers), virtual_service(host))
    counts = await web.count(host, 100)
    low, high = split_bounds(100, 0.5)
    assert low <= counts["near"] <= high


async def test_distribute_splits_by_locality(stage: Stage, web: Caller, app: Start, host: str) -> None:
    share = [{"from": "near/a/*", "to": {"near/a/*": 80, "far/b/*": 20}}]
    policy = {"loadBalancer": {"localityLbSetting": {"distribute": share}}, "outlierDetection": QUICK_OUTLIER}
    servers = places(near=await app("near"), far=await app("far"), farther=await app("farther"))
    await stage.apply(service_entry(host, *servers), destination_rule(host, policy), virtual_service(host))
    counts = await web.count(host, 300)
    low, high = split_bounds(300, 0.2)
    assert set(counts) == {"near", "far"}
    assert low <= counts["far"] <= high


async def test_endpoints_have_weights(stage: Stage, web: Caller, app: Start, host: str) -> None:
    heavy, light = endpoint(await app("heavy"), weight=4), endpoint(await app("light"), weight=1)
    policy = {"loadBalancer": {"simple": "ROUND_ROBIN"}}
    await stage.apply(service_entry(host, heavy, light), destination_rule(host, policy), virtual_service(host))
    counts = await web.count(host, 50, at_once=1)
    assert 38 <= counts["heavy"] <= 42
    assert counts.total() == 50


@pytest.mark.parametrize("resolution", ["DNS", "DNS_ROUND_ROBIN"])
async def test_endpoints_are_found_by_name(stage: Stage, web: Caller, app: Start, resolution: str) -> None:
    host = "by-name.example"
    named = {"address": "localhost", "ports": {"http": (await app()).address[1]}}
    await stage.apply(service_entry(host, named, resolution=resolution), virtual_service(host))
    assert await web.count(host, 5) == {"app": 5}


async def test_a_port_level_policy_overrides(stage: Stage, web: Caller, app: Start, host: str) -> None:
    port = {"port": {"number": 80}, "loadBalancer": {"consistentHash": {"useSourceIp": True}}}
    policy = {"loadBalancer": {"simple": "RANDOM"}, "portLevelSettings": [port]}
    route = virtual_service(host, {"route": [to(host, port={"number": 80})]})
    await stage.apply(service_entry(host, *await three(app)), destination_rule(host, policy), route)
    assert len(await web.count(host, 30)) == 1


@pytest.mark.parametrize(("most", "connections"), [(0, 1), (1, 6), (2, 3)])
async def test_requests_per_connection(stage: Stage, web: Caller, app: Start, most: int, connections: int) -> None:
    host = "per-connection.example"
    pool = {"connectionPool": {"http": {"maxRequestsPerConnection": most}}} if most else None
    policy = [destination_rule(host, pool)] if pool else []
    await stage.apply(service_entry(host, server := await app()), *policy, virtual_service(host))
    await web.count(host, 6, at_once=1)
    assert len({s["peer"] for s in server.seen}) == connections


async def test_an_idle_upstream_connection_is_closed(
    stage: Stage, gateway: Proxy, web: Caller, app: Start, host: str
) -> None:
    policy = {"connectionPool": {"http": {"idleTimeout": "0.1s"}}}
    await stage.apply(service_entry(host, server := await app()), destination_rule(host, policy), virtual_service(host))
    await web.ask(host)

    async def closed() -> int:
        return sum((await gateway.envoy.stats(f"{host}.*upstream_cx_idle_timeout$")).values())

    assert await settled(closed, bool, seconds=60) == 1
    await web.ask(host)
    assert len({s["peer"] for s in server.seen}) == 2


async def test_a_connection_has_a_longest_duration(
    stage: Stage, gateway: Proxy, web: Caller, app: Start, host: str
) -> None:
    policy = {"connectionPool": {"tcp": {"maxConnectionDuration": "0.1s"}}}
    await stage.apply(service_entry(host, server := await app()), destination_rule(host, policy), virtual_service(host))
    await web.ask(host)

    async def closed() -> int:
        return sum((await gateway.envoy.stats(f"{host}.*upstream_cx_max_duration_reached$")).values())

    assert await settled(closed, bool, seconds=60) == 1
    await web.ask(host)
    assert len({s["peer"] for s in server.seen}) == 2


async def test_a_failing_server_is_ejected_and_comes_back(
    stage: Stage, gateway: Proxy, web: Caller, app: Start, host: str
) -> None:
    good, bad = await app("good"), await app("bad", status=500)
    policy = {"outlierDetection": QUICK_OUTLIER, "loadBalancer": {"simple": "ROUND_ROBIN"}}
    route = {"route": [to(host)], "retries": {"attempts": 0}}
    await stage.apply(service_entry(host, good, bad), destination_rule(host, policy), virtual_service(host, route))

    async def ejected() -> int:
        await web.ask(host, logged=False)
        return sum((await gateway.envoy.stats(f"{host}.*outlier_detection.ejections_active$")).values())

    assert await settled(ejected, bool, seconds=60) == 1
    bad.status = 200
    before = bad.requests
    await settled(lambda: web.ask(host, logged=False), lambda _: bad.requests > before, seconds=60)
    assert bad.requests > before
