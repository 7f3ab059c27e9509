"""Retries, faults, mirrors and timeouts, counted where they arrive (VS and DR rows, OUT-010, OUT-016)."""

import asyncio
from typing import Any

import pytest
from aiohttp.web import Request, Response

from e2e.outcomes.caller import Caller
from e2e.outcomes.conftest import Start
from e2e.outcomes.objects import destination_rule, service_entry, to, virtual_service
from e2e.outcomes.servers import App, Nobody
from e2e.outcomes.stage import Stage
from pypilot.cli.demo.checks import settled, split_bounds

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize(
    ("retries", "status", "attempts"),
    [
        (None, 503, 1),  # VS-049: two by default, but not on an answer of 503
        ({"attempts": 0}, 503, 1),
        ({"attempts": 1, "retryOn": "5xx"}, 503, 2),
        ({"attempts": 4, "retryOn": "503"}, 503, 5),
        ({"attempts": 4, "retryOn": "connect-failure"}, 503, 1),
        ({"attempts": 4, "retryOn": "gateway-error,reset", "backoff": "10ms"}, 503, 5),
    ],
    ids=["default", "none", "once", "by-code", "another-reason", "backoff"],
)
async def test_retries_are_counted_at_the_server(
    stage: Stage, web: Caller, app: Start, retries: dict[str, Any] | None, status: int, attempts: int
) -> None:
    """VS-055: the last answer counts, and the log says that no try was left."""
    host = "retries.example"
    route = {"route": [to(host)]} | ({"retries": retries} if retries else {})
    await stage.apply(service_entry(host, server := await app(failures=100)), virtual_service(host, route))
    outcome = await web.ask(host)
    assert (outcome.status, server.requests) == (status, attempts)
    assert outcome.log["response_flags"] == ("URX" if attempts > 1 else "-")


async def test_a_retry_that_succeeds_is_200(stage: Stage, web: Caller, app: Start, host: str) -> None:
    route = {"route": [to(host)], "retries": {"attempts": 2, "retryOn": "5xx"}}
    await stage.apply(service_entry(host, server := await app(failures=2)), virtual_service(host, route))
    assert ((await web.ask(host)).brief, server.requests) == ("200 -", 3)
    assert server.seen[2]["headers"]["x-envoy-attempt-count"] == "3"


async def test_a_retry_goes_to_another_endpoint(
    stage: Stage, web: Caller, app: Start, nobody: Nobody, host: str
) -> None:
    in_turn = destination_rule(host, {"loadBalancer": {"simple": "ROUND_ROBIN"}})
    await stage.apply(service_entry(host, nobody, await app()), in_turn, virtual_service(host))
    assert await web.count(host, 20, at_once=1) == {"app": 20}


async def test_a_per_try_timeout_is_retried_and_the_last_is_504(
    stage: Stage, web: Caller, app: Start, host: str
) -> None:
    retries = {"attempts": 2, "perTryTimeout": "0.1s", "retryOn": "5xx"}
    slow = await app(delay=30.0)
    await stage.apply(service_entry(host, slow), virtual_service(host, {"route": [to(host)], "retries": retries}))
    outcome = await web.ask(host)
    assert (outcome.status, slow.requests) == (504, 3)
    assert {"UT", "URX"} >= set(outcome.log["response_flags"].split(","))


async def test_the_routes_timeout_includes_all_tries(stage: Stage, web: Caller, app: Start, host: str) -> None:
    retries = {"attempts": 100, "perTryTimeout": "0.2s", "retryOn": "5xx"}
    route = {"route": [to(host)], "timeout": "0.5s", "retries": retries}
    slow = await app(delay=30.0)
    await stage.apply(service_entry(host, slow), virtual_service(host, route))
    outcome = await web.ask(host)
    assert (outcome.brief, outcome.details) == ("504 UT", "response_timeout")
    assert 1 <= slow.requests <= 3


async def test_a_retry_budget_limits_what_is_retried_at_once(stage: Stage, web: Caller, app: Start, host: str) -> None:
    release = asyncio.Event()

    async def fail(request: Request) -> Response:
        if request.headers["x-envoy-attempt-count"] == "1":
            return Response(status=503)
        await release.wait()
        return Response(status=200)

    budget = {"percent": 0.1, "minRetryConcurrency": 2}
    await stage.apply(
        service_entry(host, await app(respond=fail)),
        destination_rule(host, {"retryBudget": budget}),
        virtual_service(host, {"route": [to(host)], "retries": {"attempts": 1, "retryOn": "503", "backoff": "1ms"}}),
    )
    asked = [asyncio.create_task(web.ask(host)) for _ in range(10)]
    done = 0
    while done < 8:
        await asyncio.wait([a for a in asked if not a.done()], return_when=asyncio.FIRST_COMPLETED)
        done = sum(a.done() for a in asked)
    release.set()
    statuses = sorted(o.status for o in await asyncio.gather(*asked))
    assert statuses == [200] * 2 + [503] * 8


async def test_a_fault_aborts_with_its_code(stage: Stage, web: Caller, app: Start, host: str) -> None:
    fault = {"abort": {"httpStatus": 418, "percentage": {"value": 100}}}
    await stage.apply(
        service_entry(host, server := await app()), virtual_service(host, {"fault": fault, "route": [to(host)]})
    )
    outcome = await web.ask(host)
    assert (outcome.brief, outcome.details, server.requests) == ("418 FI", "fault_filter_abort", 0)


async def test_a_fault_hits_its_percentage(stage: Stage, web: Caller, app: Start, host: str) -> None:
    fault = {"abort": {"httpStatus": 500, "percentage": {"value": 30}}}
    await stage.apply(service_entry(host, await app()), virtual_service(host, {"fault": fault, "route": [to(host)]}))
    low, high = split_bounds(300, 0.3)
    assert low <= (await web.count(host, 300))["500"] <= high


async def test_a_fault_delays(stage: Stage, web: Caller, app: Start, host: str) -> None:
    fault = {"delay": {"fixedDelay": "0.3s", "percentage": {"value": 100}}}
    await stage.apply(service_entry(host, await app()), virtual_service(host, {"fault": fault, "route": [to(host)]}))
    outcome = await web.ask(host)
    assert outcome.brief == "200 DI"
    assert int(outcome.log["duration"]) >= 250


async def mirrored(server: App, count: int) -> App:
    """Nobody waits for a mirror's answer; its request comes soon."""

    async def seen() -> int:
        return len(server.seen)

    await settled(seen, lambda n: n >= count, seconds=60)
    return server


async def test_a_mirror_sees_all_requests_under_their_own_host(
    stage: Stage, web: Caller, app: Start, host: str
) -> None:
    route = {"route": [to(host)], "mirror": {"host": f"mirror.{host}"}}
    copy = await app("mirror", delay=0.5)
    await stage.apply(
        service_entry(host, server := await app()), service_entry(f"mirror.{host}", copy), virtual_service(host, route)
    )
    assert await web.count(host, 20, "/seen") == {"app": 20}
    await mirrored(copy, 20)
    assert (len(server.seen), len(copy.seen)) == (20, 20)
    assert copy.seen[0]["path"] == "/seen"
    assert {s["headers"]["host"] for s in copy.seen} == {host}  # VS-067: without -shadow


async def test_mirrors_get_their_percentage_each(stage: Stage, web: Caller, app: Start, host: str) -> None:
    some, none = await app("some"), await app("none")
    mirrors = [
        {"destination": {"host": f"some.{host}"}, "percentage": {"value": 25}},
        {"destination": {"host": f"none.{host}"}, "percentage": {"value": 0}},
    ]
    await stage.apply(
        service_entry(host, await app()),
        service_entry(f"some.{host}", some),
        service_entry(f"none.{host}", none),
        virtual_service(host, {"route": [to(host)], "mirrors": mirrors}),
    )
    await web.count(host, 300)
    low, high = split_bounds(300, 0.25)
    await mirrored(some, low)
    assert low <= len(some.seen) <= high
    assert none.seen == []
