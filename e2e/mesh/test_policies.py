"""Who may call whom: AuthorizationPolicy by all that it may ask about, and an authorizer of one's own."""

from typing import Any

import pytest
from aiohttp import web

from e2e.mesh.mesh import Mesh
from e2e.mesh.traffic import echoed
from e2e.mesh.world import (
    APP_IP,
    BETA,
    HTTP,
    JUDGE,
    STRANGER,
    TCP,
    V1,
    V2,
    WEB,
    made,
    mutual,
    operation,
    policy,
    source,
)
from e2e.outcomes.servers import App, TcpServer, echo
from pypilot.cli.demo.clients import get_from

pytestmark = [pytest.mark.envoy, pytest.mark.netns, pytest.mark.asyncio(loop_scope="session")]
JUDGE_PORT = 8000


async def statuses(mesh: Mesh, *requests: tuple[Any, str, str]) -> list[int]:
    """Of (who, method, path)."""
    return [(await mesh[who].caller.ask("app.alpha", path, method=method)).status for who, method, path in requests]


async def test_by_namespace(mesh: Mesh) -> None:
    await mesh.apply(mutual("STRICT"), policy("ALLOW", source(namespaces=[BETA])))
    assert await statuses(mesh, (STRANGER, "GET", "/"), (WEB, "GET", "/")) == [200, 403]


async def test_by_principal(mesh: Mesh) -> None:
    await mesh.apply(mutual("STRICT"), policy("DENY", source(principals=[STRANGER.principal])))
    assert await statuses(mesh, (STRANGER, "GET", "/"), (WEB, "GET", "/")) == [403, 200]


async def test_by_address(mesh: Mesh) -> None:
    await mesh.apply(mutual("STRICT"), policy("ALLOW", source(ipBlocks=[f"{WEB.address}/32"])))
    assert await statuses(mesh, (STRANGER, "GET", "/"), (WEB, "GET", "/")) == [403, 200]


async def test_by_path_and_method(mesh: Mesh) -> None:
    rules = [operation(paths=["/open/*"]), operation(methods=["POST"], paths=["/{*}/orders"])]
    await mesh.apply(mutual("STRICT"), policy("ALLOW", *rules))
    requests = [("GET", "/open/door"), ("POST", "/a/orders"), ("GET", "/a/orders"), ("POST", "/a/b/orders")]
    assert await statuses(mesh, *((WEB, *r) for r in requests)) == [200, 200, 403, 403]


async def test_deny_wins_over_allow(mesh: Mesh) -> None:
    everything = policy("ALLOW", {})
    await mesh.apply(mutual("STRICT"), everything, policy("DENY", operation(paths=["/secret"])))
    assert await statuses(mesh, (WEB, "GET", "/"), (WEB, "GET", "/secret")) == [200, 403]


async def test_a_caller_without_identity_has_no_namespace(mesh: Mesh) -> None:
    await mesh.apply(mutual("PERMISSIVE"), policy("ALLOW", source(namespaces=["alpha"])))
    answer = await get_from(mesh.hub, V1.address, HTTP, host="app", seconds=60)
    assert answer.status == 403
    assert answer.body == b"RBAC: access denied"


async def test_a_dry_run_only_says_so(mesh: Mesh) -> None:
    dry = policy("DENY", operation(paths=["/dry"]), annotations={"istio.io/dry-run": "true"})
    await mesh.apply(mutual("STRICT"), dry)
    assert await statuses(mesh, (WEB, "GET", "/dry")) == [200]


async def test_a_tcp_connection_is_reset(mesh: Mesh) -> None:
    """At its first bytes: until the client has spoken, Envoy asks nobody."""
    servers = [TcpServer.start(echo, mesh[who].inside.listen("0.0.0.0", TCP)) for who in (V1, V2)]
    async with servers[0], servers[1]:
        await mesh.apply(mutual("STRICT"), policy("DENY", source(principals=[STRANGER.principal])))
        assert await echoed(mesh[WEB].inside, APP_IP, TCP) == b"hello"
        assert await echoed(mesh[STRANGER].inside, APP_IP, TCP) == b""


def judged(fail_open: bool) -> dict[str, Any]:
    """MeshConfig with an authorizer."""
    said = {"service": "judge.example", "port": JUDGE_PORT, "failOpen": fail_open, "timeout": "5s"}
    return {"extensionProviders": [{"name": "judge", "envoyExtAuthzHttp": said}]}


def judge() -> dict[str, Any]:
    """The authorizer, as a service outside of the mesh."""
    return made(
        "ServiceEntry",
        "judge",
        {
            "hosts": ["judge.example"],
            "ports": [{"number": JUDGE_PORT, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "endpoints": [{"address": JUDGE}],
        },
    )


def asked() -> dict[str, Any]:
    return policy("CUSTOM", operation(paths=["/judged/*"]), provider={"name": "judge"})


async def test_an_authorizer_that_says_no(mesh: Mesh) -> None:
    async def decide(request: web.Request) -> web.Response:
        return web.Response(status=200 if request.path.endswith("good") else 401)

    app = App("judge", respond=decide, listen=mesh.hub.listen, where=(JUDGE, JUDGE_PORT))
    await app.start()
    try:
        await mesh.apply(mutual("STRICT"), judge(), asked(), **judged(False))
        requests = [(WEB, "GET", path) for path in ("/judged/good", "/judged/bad", "/free")]
        assert await statuses(mesh, *requests) == [200, 401, 200]
        assert app.requests == 2
    finally:
        await app.stop()


@pytest.mark.parametrize(("fail_open", "status"), [(True, 200), (False, 403)])
async def test_an_authorizer_that_is_down(mesh: Mesh, fail_open: bool, status: int) -> None:
    await mesh.apply(mutual("STRICT"), judge(), asked(), **judged(fail_open))
    assert await statuses(mesh, (WEB, "GET", "/judged/good"), (WEB, "GET", "/free")) == [status, 200]
