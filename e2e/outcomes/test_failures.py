"""What callers get without a route, an endpoint, a connection, room, or an answer (OUT-005…010, OUT-016)."""

import asyncio
from pathlib import Path

import pytest
from aiohttp.web import Request, Response

from e2e.outcomes.caller import SECONDS, Caller
from e2e.outcomes.conftest import Start
from e2e.outcomes.objects import NAMESPACE, destination_rule, made, server, service_entry, to, virtual_service
from e2e.outcomes.servers import Nobody
from e2e.outcomes.stage import Stage
from pypilot.cli.demo.bootstrap import NodeIdentity, ads_bootstrap
from pypilot.cli.demo.checks import settled
from pypilot.cli.demo.envoy import Envoy

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session")]


async def test_a_gateway_without_the_host_answers_404_nr(stage: Stage, web: Caller) -> None:
    await stage.apply()
    outcome = await web.ask("nobody-knows.example")
    assert (outcome.brief, outcome.details) == ("404 NR", "route_not_found")


async def test_a_gateway_without_any_server_is_live_and_refuses_connections(stage: Stage, tmp_path: Path) -> None:
    """GW-010: what is not configured any more is not listened to any more."""
    await stage.apply()
    door = ("127.0.0.1", stage.port("idle"))

    async def connects() -> bool:
        try:
            _, writer = await asyncio.open_connection(*door)
        except ConnectionRefusedError:
            return False
        writer.close()
        return True

    async def wait(answer: bool) -> None:
        async with asyncio.timeout(SECONDS):
            while await connects() is not answer:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    idle = NodeIdentity("router", "127.0.0.3", "idle", NAMESPACE, {"istio": "idle"})
    async with Envoy.start(ads_bootstrap(idle, stage.control_plane.grpc), tmp_path, name="idle") as envoy:
        await envoy.wait_live(SECONDS)
        assert await envoy.admin("/listeners") == ""
        assert not await connects()
        spec = {"selector": {"istio": "idle"}, "servers": [server(door[1], "HTTP", "*")]}
        await stage.apply(made("Gateway", "idle", spec))
        await wait(True)
        await stage.apply()
        await wait(False)
        assert (await envoy.admin("/ready")).strip() == "LIVE"


async def test_a_path_that_no_route_matches_is_404_nr(stage: Stage, web: Caller, app: Start, host: str) -> None:
    only = {"match": [{"uri": {"prefix": "/there"}}], "route": [to(host)]}
    await stage.apply(service_entry(host, await app()), virtual_service(host, only))
    assert (await web.ask(host, "/there")).status == 200
    outcome = await web.ask(host, "/elsewhere")
    assert (outcome.brief, outcome.details) == ("404 NR", "route_not_found")


async def test_no_endpoint_is_503_uh(stage: Stage, web: Caller, host: str) -> None:
    await stage.apply(service_entry(host), virtual_service(host))
    outcome = await web.ask(host)
    assert (outcome.brief, outcome.details) == ("503 UH", "no_healthy_upstream")
    assert outcome.cluster == f"outbound|80||{host}"


async def test_a_refused_connection_is_503_uf(stage: Stage, web: Caller, nobody: Nobody, host: str) -> None:
    once = {"route": [to(host)], "retries": {"attempts": 0}}
    await stage.apply(service_entry(host, nobody), virtual_service(host, once))
    outcome = await web.ask(host)
    assert outcome.brief == "503 UF"
    assert "remote_connection_failure" in outcome.details
    assert "Connection_refused" in outcome.log["upstream_transport_failure_reason"]


async def test_refused_connections_are_retried_twice_by_default(
    stage: Stage, web: Caller, nobody: Nobody, host: str
) -> None:
    """VS-055."""
    await stage.apply(service_entry(host, nobody), virtual_service(host))
    assert (await web.ask(host)).brief == "503 URX,UF"


async def test_a_route_to_a_subset_that_is_not_is_503_nc(stage: Stage, web: Caller, app: Start, host: str) -> None:
    lost = {"route": [to(host, subset="nowhere")]}
    await stage.apply(service_entry(host, await app()), virtual_service(host, lost))
    outcome = await web.ask(host)
    assert (outcome.brief, outcome.details) == ("503 NC", "cluster_not_found")


async def test_a_plaintext_upstream_taken_for_tls_is_503_uf_and_says_so(
    stage: Stage, web: Caller, app: Start, host: str
) -> None:
    await stage.apply(
        service_entry(host, await app()),
        destination_rule(host, {"tls": {"mode": "SIMPLE", "insecureSkipVerify": True}}),
        virtual_service(host, {"route": [to(host)], "retries": {"attempts": 0}}),
    )
    outcome = await web.ask(host)
    assert outcome.brief == "503 UF"
    assert "TLS_error" in outcome.log["upstream_transport_failure_reason"].replace(" ", "_")


async def test_a_server_that_hangs_up_is_503_uc(stage: Stage, web: Caller, app: Start, host: str) -> None:
    async def hang_up(request: Request) -> Response:
        assert request.transport is not None
        request.transport.abort()
        return Response()

    await stage.apply(
        service_entry(host, await app(respond=hang_up)),
        virtual_service(host, {"route": [to(host)], "retries": {"attempts": 0}}),
    )
    outcome = await web.ask(host)
    assert outcome.brief == "503 UC"
    assert outcome.body.startswith(b"upstream connect error or disconnect/reset before headers")


@pytest.mark.parametrize(
    "pool",
    [
        {"tcp": {"maxConnections": 1}, "http": {"http1MaxPendingRequests": 1, "maxRequestsPerConnection": 1}},
        {"http": {"http2MaxRequests": 1}},
    ],
    ids=["connections", "requests"],
)
async def test_a_full_circuit_breaker_is_503_uo(
    stage: Stage, web: Caller, app: Start, host: str, pool: dict[str, object]
) -> None:
    release = asyncio.Event()

    async def wait(_: Request) -> Response:
        await release.wait()
        return Response(text="late")

    slow = await app(respond=wait)
    await stage.apply(
        service_entry(host, slow),
        destination_rule(host, {"connectionPool": pool}),
        virtual_service(host, {"route": [to(host)], "retries": {"attempts": 0}}),
    )
    asked = [asyncio.create_task(web.ask(host)) for _ in range(4)]
    await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    release.set()
    outcomes = [(o.brief, o.details) for o in await asyncio.gather(*asked)]
    overflowed = ("503 UO", "upstream_reset_before_response_started{overflow}")
    assert overflowed in outcomes
    assert set(outcomes) == {overflowed, ("200 -", "via_upstream")}


async def test_a_route_timeout_is_504_ut(stage: Stage, web: Caller, app: Start, host: str) -> None:
    slow = await app(delay=30.0)
    await stage.apply(service_entry(host, slow), virtual_service(host, {"route": [to(host)], "timeout": "0.1s"}))
    outcome = await web.ask(host)
    assert (outcome.brief, outcome.body) == ("504 UT", b"upstream request timeout")
    assert slow.requests == 1


@pytest.mark.parametrize(("limit", "told"), [(None, None), ("5s", "5000"), ("0s", None)])
async def test_without_a_timeout_there_is_none(
    stage: Stage, web: Caller, app: Start, limit: str | None, told: str | None
) -> None:
    """Envoy tells servers how long it waits, if not forever."""
    host = "timeouts.example"
    route = {"route": [to(host)]} | ({"timeout": limit} if limit else {})
    await stage.apply(service_entry(host, server := await app()), virtual_service(host, route))
    assert (await web.ask(host)).brief == "200 -"
    assert server.seen[0]["headers"].get("x-envoy-expected-rq-timeout-ms") == told


async def test_a_client_that_leaves_is_logged_dc(stage: Stage, web: Caller, app: Start, host: str) -> None:
    slow = await app(delay=30.0)
    await stage.apply(service_entry(host, slow), virtual_service(host))
    since = web.access_log.mark()
    _, writer = await asyncio.open_connection(*web.address)
    writer.write(f"GET /leaves HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())

    async def arrived() -> int:
        return slow.requests

    assert await settled(arrived, bool, seconds=SECONDS) == 1
    writer.close()
    entry = await web.logged(lambda e: e["path"] == "/leaves", since)
    assert (entry["response_flags"], entry["response_code"]) == ("DC", 0)
