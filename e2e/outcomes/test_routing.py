"""Which server a request reaches, and what is changed on the way (VS rows)."""

from typing import Any

import pytest

from e2e.outcomes.caller import Caller
from e2e.outcomes.conftest import Start
from e2e.outcomes.objects import GATEWAY, destination_rule, endpoint, made, service_entry, to, virtual_service
from e2e.outcomes.stage import Stage
from pypilot.cli.demo.checks import split_bounds

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session")]

VERSIONS = {"v1": {"version": "v1"}, "v2": {"version": "v2"}}


async def versions(app: Start, host: str) -> list[dict[str, Any]]:
    """A service with two versions, each a subset."""
    endpoints = [endpoint(await app("app", v), labels=labels) for v, labels in VERSIONS.items()]
    return [service_entry(host, *endpoints), destination_rule(host, subsets=VERSIONS)]


async def test_weights_share_requests_over_subsets(stage: Stage, web: Caller, app: Start, host: str) -> None:
    split = {"route": [to(host, subset="v1", weight=80), to(host, subset="v2", weight=20)]}
    await stage.apply(*await versions(app, host), virtual_service(host, split))
    counts = await web.count(host, 300)
    low, high = split_bounds(300, 0.2)
    assert set(counts) == {"app v1", "app v2"}
    assert low <= counts["app v2"] <= high


async def test_a_weight_of_nothing_gets_nothing(stage: Stage, web: Caller, app: Start, host: str) -> None:
    split = {"route": [to(host, subset="v1", weight=100), to(host, subset="v2")]}
    await stage.apply(*await versions(app, host), virtual_service(host, split))
    assert await web.count(host, 40) == {"app v1": 40}


@pytest.mark.parametrize(
    ("match", "matching", "other"),
    [
        ({"uri": {"exact": "/a"}}, {"path": "/a"}, {"path": "/a/b"}),
        ({"uri": {"prefix": "/a"}}, {"path": "/a/b"}, {"path": "/b"}),
        ({"uri": {"prefix": "/a/"}}, {"path": "/a/b"}, {"path": "/ab"}),
        ({"uri": {"regex": "/[0-9]+"}}, {"path": "/17"}, {"path": "/x17"}),
        ({"uri": {"exact": "/Case"}, "ignoreUriCase": True}, {"path": "/cASE"}, {"path": "/cases"}),
        ({"headers": {"x-user": {"exact": "jason"}}}, {"headers": {"x-user": "jason"}}, {"headers": {"x-user": "j"}}),
        ({"headers": {"x-user": {"prefix": "ja"}}}, {"headers": {"x-user": "jason"}}, {}),
        ({"headers": {"x-user": {"regex": "j.*n"}}}, {"headers": {"x-user": "jason"}}, {"headers": {"x-user": "jas"}}),
        ({"headers": {"x-user": {}}}, {"headers": {"x-user": "any"}}, {}),
        ({"withoutHeaders": {"x-user": {}}}, {}, {"headers": {"x-user": "any"}}),
        ({"withoutHeaders": {"x-user": {"exact": "a"}}}, {"headers": {"x-user": "b"}}, {"headers": {"x-user": "a"}}),
        ({"queryParams": {"q": {"exact": "1"}}}, {"path": "/?p=0&q=1"}, {"path": "/?q=2"}),
        ({"queryParams": {"q": {"prefix": "a"}}}, {"path": "/?q=abc"}, {"path": "/"}),
        ({"method": {"exact": "PUT"}}, {"method": "PUT"}, {"method": "POST"}),
        ({"authority": {"prefix": "match"}}, {}, None),
        ({"scheme": {"exact": "http"}}, {}, None),
        ({"gateways": [GATEWAY]}, {}, None),
        ({"gateways": ["mesh"]}, None, {}),
        ({"port": 1}, None, {}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
async def test_match(stage: Stage, web: Caller, app: Start, match: dict[str, Any], matching: Any, other: Any) -> None:
    host = "match.example"
    gateways = (GATEWAY, "mesh")
    one = {"match": [match], "route": [to(host, subset="v2")]}
    rest = {"route": [to(host, subset="v1")]}
    await stage.apply(*await versions(app, host), virtual_service(host, one, rest, gateways=gateways))
    if matching is not None:
        assert (await web.ask(host, **matching)).by == "app v2"
    if other is not None:
        assert (await web.ask(host, **other)).by == "app v1"


async def test_conditions_of_a_match_are_all_needed_and_one_match_is_enough(
    stage: Stage, web: Caller, app: Start, host: str
) -> None:
    either = [{"uri": {"prefix": "/a"}, "headers": {"x": {"exact": "1"}}}, {"method": {"exact": "DELETE"}}]
    routes = [{"match": either, "route": [to(host, subset="v2")]}, {"route": [to(host, subset="v1")]}]
    await stage.apply(*await versions(app, host), virtual_service(host, *routes))
    assert (await web.ask(host, "/a", headers={"x": "1"})).by == "app v2"
    assert (await web.ask(host, "/b", method="DELETE")).by == "app v2"
    assert (await web.ask(host, "/a")).by == "app v1"


async def test_the_first_route_that_matches_wins_and_is_named_in_the_log(
    stage: Stage, web: Caller, app: Start, host: str
) -> None:
    first = {"name": "first", "match": [{"uri": {"prefix": "/a"}}], "route": [to(host, subset="v1")]}
    second = {"name": "second", "match": [{"uri": {"prefix": "/a/b"}}], "route": [to(host, subset="v2")]}
    await stage.apply(*await versions(app, host), virtual_service(host, first, second))
    outcome = await web.ask(host, "/a/b")
    assert (outcome.by, outcome.log["route_name"]) == ("app v1", "first")


async def test_two_virtual_services_of_a_host_on_a_gateway_are_one(
    stage: Stage, web: Caller, app: Start, host: str
) -> None:
    catch_all = virtual_service(host, {"route": [to(host, subset="v1")]})
    special = virtual_service(host, {"match": [{"uri": {"prefix": "/v2"}}], "route": [to(host, subset="v2")]})
    special["metadata"]["name"] = "special"
    await stage.apply(*await versions(app, host), catch_all, special)
    assert (await web.ask(host, "/v2")).by == "app v2"
    assert (await web.ask(host, "/v1")).by == "app v1"


async def test_delegate(stage: Stage, web: Caller, app: Start, host: str) -> None:
    root = {"match": [{"uri": {"prefix": "/team"}}], "delegate": {"name": "team"}}
    own = {"match": [{"uri": {"prefix": "/team/v2"}}], "route": [to(host, subset="v2")]}
    rest = {"route": [to(host, subset="v1")]}
    delegate = made("VirtualService", "team", {"http": [own, rest]})
    await stage.apply(*await versions(app, host), virtual_service(host, root), delegate)
    assert (await web.ask(host, "/team/v2")).by == "app v2"
    assert (await web.ask(host, "/team/other")).by == "app v1"
    assert (await web.ask(host, "/")).brief == "404 NR"


async def test_a_wildcard_host_takes_what_no_exact_host_takes(stage: Stage, web: Caller, app: Start, host: str) -> None:
    exact = virtual_service(f"exact.{host}", {"route": [to(host, subset="v1")]})
    wildcard = virtual_service(f"*.{host}", {"route": [to(host, subset="v2")]})
    await stage.apply(*await versions(app, host), exact, wildcard)
    assert (await web.ask(f"exact.{host}")).by == "app v1"
    assert (await web.ask(f"other.{host}")).by == "app v2"
    assert (await web.ask(host)).brief == "404 NR"


async def test_headers_of_requests_are_set_added_and_removed(stage: Stage, web: Caller, app: Start, host: str) -> None:
    of_route = {"set": {"x-set": "route"}, "add": {"x-add": "route"}, "remove": ["x-gone"]}
    of_destination = {"add": {"x-destination": "yes"}}
    route = {"headers": {"request": of_route}, "route": [to(host, headers={"request": of_destination})]}
    await stage.apply(service_entry(host, server := await app()), virtual_service(host, route))
    await web.ask(host, headers={"x-set": "client", "x-add": "client", "x-gone": "client"})
    seen = server.seen[0]["headers"]
    assert (seen["x-set"], seen["x-destination"]) == ("route", "yes")
    assert seen["x-add"] == "client,route"
    assert "x-gone" not in seen


async def test_headers_of_responses_are_set_added_and_removed(stage: Stage, web: Caller, app: Start, host: str) -> None:
    response = {"set": {"x-set": "%RESPONSE_CODE%"}, "add": {"x-add": "route"}, "remove": ["x-backend"]}
    route = {"headers": {"response": response}, "route": [to(host)]}
    await stage.apply(service_entry(host, await app()), virtual_service(host, route))
    got = (await web.ask(host)).headers
    assert (got["x-set"], got["x-add"]) == ("200", "route")
    assert "x-backend" not in got


async def test_rewrite_of_prefix_and_authority(stage: Stage, web: Caller, app: Start, host: str) -> None:
    rewrite = {"uri": "/new", "authority": "inside.example"}
    route = {"match": [{"uri": {"prefix": "/old"}}], "rewrite": rewrite, "route": [to(host)]}
    await stage.apply(service_entry(host, server := await app()), virtual_service(host, route))
    assert (await web.ask(host, "/old/thing?q=1")).status == 200
    assert server.seen[0]["path"] == "/new/thing?q=1"
    assert server.seen[0]["headers"]["host"] == "inside.example"


async def test_rewrite_by_regular_expression(stage: Stage, web: Caller, app: Start, host: str) -> None:
    rewrite = {"uriRegexRewrite": {"match": "^/item/([0-9]+)(.*)$", "rewrite": "/things\\2?id=\\1"}}
    route = {"rewrite": rewrite, "route": [to(host)]}
    await stage.apply(service_entry(host, server := await app()), virtual_service(host, route))
    assert (await web.ask(host, "/item/17/edit")).status == 200
    assert server.seen[0]["path"] == "/things/edit?id=17"


@pytest.mark.parametrize(
    ("redirect", "status", "location"),
    [
        ({"uri": "/new", "authority": "new.example"}, 301, "http://new.example/new?q=1"),
        ({"authority": "new.example", "redirectCode": 308}, 308, "http://new.example/old?q=1"),
        ({"scheme": "https"}, 301, "https://redirect.example/old?q=1"),
        ({"scheme": "https", "port": 8443, "redirectCode": 302}, 302, "https://redirect.example:8443/old?q=1"),
    ],
    ids=["path-and-authority", "authority", "scheme", "port"],
)
async def test_redirect(stage: Stage, web: Caller, redirect: dict[str, Any], status: int, location: str) -> None:
    await stage.apply(virtual_service("redirect.example", {"redirect": redirect}))
    outcome = await web.ask("redirect.example", "/old?q=1")
    assert (outcome.status, outcome.headers["location"]) == (status, location)


async def test_direct_response(stage: Stage, web: Caller, host: str) -> None:
    teapot = {"directResponse": {"status": 418, "body": {"string": "short and stout"}}}
    await stage.apply(virtual_service(host, teapot))
    outcome = await web.ask(host)
    assert (outcome.status, outcome.body, outcome.details) == (418, b"short and stout", "direct_response")


async def test_cors_preflight_is_answered_by_the_gateway(stage: Stage, web: Caller, app: Start, host: str) -> None:
    policy = {
        "allowOrigins": [{"exact": "https://good.example"}],
        "allowMethods": ["GET", "PUT"],
        "allowHeaders": ["x-token"],
        "exposeHeaders": ["x-shown"],
        "allowCredentials": True,
        "maxAge": "600s",
    }
    await stage.apply(
        service_entry(host, server := await app()), virtual_service(host, {"corsPolicy": policy, "route": [to(host)]})
    )
    preflight = {"origin": "https://good.example", "access-control-request-method": "PUT"}
    answer = (await web.ask(host, method="OPTIONS", headers=preflight)).headers
    assert server.seen == []
    assert answer["access-control-allow-origin"] == "https://good.example"
    assert answer["access-control-allow-methods"] == "GET,PUT"
    assert answer["access-control-allow-headers"] == "x-token"
    assert answer["access-control-allow-credentials"] == "true"
    assert answer["access-control-max-age"] == "600"
    shown = (await web.ask(host, headers={"origin": "https://good.example"})).headers
    assert (shown["access-control-allow-origin"], shown["access-control-expose-headers"]) == (
        "https://good.example",
        "x-shown",
    )
    bad = (await web.ask(host, headers={"origin": "https://bad.example"})).headers
    assert "access-control-allow-origin" not in bad
