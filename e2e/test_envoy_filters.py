"""EnvoyFilters and a real Envoy of upstream's build: what a user patches is what requests meet.

A gateway with one backend. Files are written one after the other, as a user would; Envoy must take every update, but in
the test whose patch is wrong for it.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pypilot.cli.demo.addresses import free_port
from pypilot.cli.demo.backends import Backend, serve
from pypilot.cli.demo.bootstrap import NodeIdentity, ads_bootstrap
from pypilot.cli.demo.clients import Answer, HttpClient
from pypilot.cli.demo.control_plane import ControlPlane
from pypilot.cli.demo.envoy import Envoy

pytestmark = pytest.mark.envoy

SECONDS = 60.0
NODE = NodeIdentity("router", "127.0.0.2", "gateway", "shop", {"istio": "front"})
HOST = "shop.example"
TYPE = "type.googleapis.com/envoy.extensions.filters.http."
MANAGER = "envoy.filters.network.http_connection_manager"
ROUTER = {"filterChain": {"filter": {"name": MANAGER, "subFilter": {"name": "envoy.filters.http.router"}}}}
LUA = """
function envoy_on_request(handle)
  handle:headers():replace("x-lua", "seen")
end
"""


def world(port: int, backend: int) -> list[dict[str, Any]]:
    server = {"port": {"number": port, "name": "http", "protocol": "HTTP"}, "bind": "127.0.0.1", "hosts": [HOST]}
    entry = {
        "hosts": ["backend.example"],
        "resolution": "STATIC",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": backend}],
        "endpoints": [{"address": "127.0.0.1"}],
    }
    routes = [{"name": "main", "route": [{"destination": {"host": "backend.example"}}]}]
    return [
        {"kind": "Gateway", "spec": {"selector": {"istio": "front"}, "servers": [server]}},
        {"kind": "ServiceEntry", "spec": entry},
        {"kind": "VirtualService", "spec": {"hosts": [HOST], "gateways": ["front"], "http": routes}},
    ]


def patch(apply_to: str, operation: str, value: Any, **match: Any) -> dict[str, Any]:
    return {"applyTo": apply_to, "match": match, "patch": {"operation": operation, "value": value}}


def http_filter(name: str, kind: str, **config: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": TYPE + kind, **config}}


@dataclass
class Place:
    """A gateway that serves, and the directory that configures it."""

    config: Path
    control_plane: ControlPlane
    envoy: Envoy
    client: HttpClient
    port: int

    def write(self, *patches: dict[str, Any], **spec: Any) -> None:
        """Make these the patches of the one EnvoyFilter."""
        document = {
            "apiVersion": "networking.istio.io/v1alpha3",
            "kind": "EnvoyFilter",
            "metadata": {"name": "f", "namespace": "shop"},
            "spec": {"configPatches": list(patches), **spec},
        }
        fresh = self.config / ".filter"
        fresh.write_text(yaml.safe_dump(document))
        fresh.rename(self.config / "filter.yaml")

    async def get(self, path: str = "/") -> Answer:
        return await self.client.get(f"http://{HOST}:{self.port}{path}")

    async def until(self, holds: Callable[[Answer], bool], path: str = "/") -> Answer:
        """The first answer of which it holds."""

        async def look() -> Answer | None:
            answer = await self.get(path)
            return answer if holds(answer) else None

        return await within(look)


async def within(look: Callable[[], Awaitable[Any]]) -> Any:
    """What `look` gives once that is something."""
    deadline = time.monotonic() + SECONDS
    while (found := await look()) is None:
        assert time.monotonic() < deadline, "has not come about"
        await asyncio.sleep(0.05)
    return found


@asynccontextmanager
async def gateway(binary: Path, directory: Path, protocol: Any) -> AsyncIterator[Place]:
    config, port = directory / "config", free_port()
    for made in (config, directory / "pypilot"):
        made.mkdir()
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        await stack.enter_async_context(serve(Backend("shop"), listening))
        documents = [
            {"apiVersion": "networking.istio.io/v1", "metadata": {"name": "front", "namespace": "shop"}, **body}
            for body in world(port, listening.getsockname()[1])
        ]
        (config / "world.yaml").write_text(yaml.safe_dump_all(documents))
        control_plane = await stack.enter_async_context(ControlPlane.start(config, directory / "pypilot"))
        await control_plane.wait_ready(SECONDS)
        bootstrap = ads_bootstrap(NODE, control_plane.grpc, protocol=protocol)
        envoy = await stack.enter_async_context(Envoy.start(bootstrap, directory / "envoy", binary=binary))
        await envoy.wait_live(SECONDS)
        client = await stack.enter_async_context(HttpClient.to("127.0.0.1"))
        yield Place(config, control_plane, envoy, client, port)


@pytest.fixture(params=["DELTA_GRPC", "GRPC"])
async def place(request: pytest.FixtureRequest, envoy_binary: Path, tmp_path: Path) -> AsyncIterator[Place]:
    """Over incremental and over state-of-the-world ADS."""
    async with gateway(envoy_binary, tmp_path, request.param) as made:
        answer = await made.until(lambda a: a.status == 200)
        assert answer.seen["name"] == "shop"
        yield made


def sees(name: str, value: str | None) -> Callable[[Answer], bool]:
    """The backend saw that request header."""
    return lambda answer: answer.status == 200 and answer.seen["headers"].get(name) == value


async def test_filters_before_the_router_see_every_request(place: Place) -> None:
    """EF-013: Lua and header mutation; once they are gone, requests are as before."""
    mutation = {"request_mutations": [{"append": {"header": {"key": "x-mutated", "value": "yes"}}}]}
    place.write(
        patch(
            "HTTP_FILTER",
            "INSERT_BEFORE",
            http_filter("lua", "lua.v3.Lua", default_source_code={"inline_string": LUA}),
            context="GATEWAY",
            listener=ROUTER,
        ),
        patch(
            "HTTP_FILTER",
            "INSERT_BEFORE",
            http_filter("mutation", "header_mutation.v3.HeaderMutation", mutations=mutation),
            context="GATEWAY",
            listener=ROUTER,
        ),
    )
    answer = await place.until(sees("x-mutated", "yes"))
    assert answer.seen["headers"]["x-lua"] == "seen"
    place.write()
    await place.until(sees("x-lua", None))
    assert await place.envoy.rejected_updates() == {}


async def test_a_local_rate_limit_answers_429(place: Place) -> None:
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    limit = http_filter(
        "limit",
        "local_ratelimit.v3.LocalRateLimit",
        stat_prefix="limit",
        token_bucket={"max_tokens": 3, "tokens_per_fill": 1, "fill_interval": "3600s"},
        filter_enabled=always,
        filter_enforced=always,
    )
    place.write(patch("HTTP_FILTER", "INSERT_FIRST", limit, listener={"filterChain": {"filter": {"name": MANAGER}}}))
    answer = await place.until(lambda a: a.status == 429)
    assert answer.body == b"local_rate_limited"
    assert await place.envoy.rejected_updates() == {}


async def test_merged_clusters_routes_and_hosts(place: Place) -> None:
    """EF-008, EF-018…021."""
    cluster = "outbound|80||backend.example"
    ping = {"name": "ping", "match": {"path": "/ping"}, "direct_response": {"status": 418}}
    place.write(
        patch("CLUSTER", "MERGE", {"connect_timeout": "1.5s"}, cluster={"service": "backend.example"}),
        patch(
            "VIRTUAL_HOST",
            "MERGE",
            {"response_headers_to_add": [{"header": {"key": "x-host", "value": "merged"}}]},
            routeConfiguration={"vhost": {"domainName": HOST}},
        ),
        patch("HTTP_ROUTE", "INSERT_FIRST", ping, routeConfiguration={"portNumber": place.port}),
    )
    await place.until(lambda a: a.status == 418, "/ping")
    answer = await place.until(lambda a: a.headers.get("x-host") == "merged")
    assert answer.status == 200

    async def timeout() -> str | None:
        found = await place.envoy.config_dump("dynamic_active_clusters")
        (mine,) = (c["cluster"] for c in found if c["cluster"]["name"] == cluster)
        return str(mine["connect_timeout"]) if mine["connect_timeout"] != "10s" else None

    assert await within(timeout) == "1.500s"
    assert await place.envoy.rejected_updates() == {}


def by_discovery(name: str) -> dict[str, Any]:
    source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    return {"name": name, "config_discovery": {"config_source": source, "type_urls": [TYPE + "lua.v3.Lua"]}}


def script(value: str) -> dict[str, Any]:
    source = {"inline_string": LUA.replace("seen", value)}
    return http_filter("guard", "lua.v3.Lua", default_source_code=source)


async def test_a_filter_whose_configuration_comes_by_ecds(place: Place) -> None:
    """EF-022, NDS-007: it takes effect, and follows a change without a new listener."""
    inserted = patch("HTTP_FILTER", "INSERT_BEFORE", by_discovery("guard"), context="GATEWAY", listener=ROUTER)
    place.write(inserted, patch("EXTENSION_CONFIG", "ADD", script("one")))
    await place.until(sees("x-lua", "one"))
    before = await place.envoy.stats("listener_manager.listener_(added|modified)$")
    place.write(inserted, patch("EXTENSION_CONFIG", "ADD", script("two")))
    await place.until(sees("x-lua", "two"))
    assert await place.envoy.stats("listener_manager.listener_(added|modified)$") == before
    assert await place.envoy.rejected_updates() == {}


async def test_what_envoy_refuses_leaves_it_as_it_was(place: Place) -> None:
    """EF-027: the last good configuration stays, and everything else goes on; what can be known to be wrong is told."""
    wrong = http_filter("wrong", "lua.v3.Lua", default_source_code={"inline_string": "this is no Lua ("})
    place.write(
        patch("HTTP_FILTER", "INSERT_BEFORE", wrong, listener=ROUTER),
        patch("VIRTUAL_HOST", "MERGE", {"request_headers_to_remove": ["x-gone"]}),
        patch("HTTP_FILTER", "ADD", {"name": "x", "typed_config": {"@type": "type.googleapis.com/no.such.Type"}}),
        patch("CLUSTER", "MERGE", {"type": "STATIC"}, cluster={"service": "nobody.example"}),
    )

    async def refused() -> dict[str, int] | None:
        return await place.envoy.rejected_updates() or None

    assert any("lds" in name or "listener_manager" in name for name in await within(refused))
    assert (await place.get()).status == 200
    told = {(p.field, p.severity) for p in await place.control_plane.problems()}
    assert ("spec.configPatches[2].patch.value", "error") in told
    assert ("spec.configPatches[3]", "warning") in told
    mutation = {"request_mutations": [{"append": {"header": {"key": "x-mended", "value": "yes"}}}]}
    good = http_filter("mutation", "header_mutation.v3.HeaderMutation", mutations=mutation)
    place.write(patch("HTTP_FILTER", "INSERT_BEFORE", good, listener=ROUTER))
    await place.until(sees("x-mended", "yes"))
