"""Action CUSTOM: an authorizer is asked, over HTTP and over gRPC, and what becomes of it if it is down or nobody."""

import pytest

from e2e.mesh.judges import judge, over_grpc, over_http, provider
from e2e.mesh.mesh import Mesh
from e2e.mesh.traffic import echoed
from e2e.mesh.world import APP_IP, STRANGER, TCP, V1, V2, WEB, mutual, operation, policy
from e2e.outcomes.caller import Outcome
from e2e.outcomes.objects import Json
from e2e.outcomes.servers import TcpServer, echo

pytestmark = [pytest.mark.envoy, pytest.mark.netns, pytest.mark.asyncio(loop_scope="session")]
GOOD, BAD = "/judged/good", "/judged/bad"


def asked(name: str = "judge") -> Json:
    return policy("CUSTOM", operation(paths=["/judged/*"]), provider={"name": name})


async def ask(mesh: Mesh, path: str, **more) -> Outcome:
    return await mesh[WEB].caller.ask("app.alpha", path, **more)


@pytest.mark.backing("files", "api-server")
async def test_over_http(mesh: Mesh) -> None:
    said = {
        "includeRequestHeadersInCheck": ["x-token"],
        "includeAdditionalHeadersInCheck": {"x-mesh": "alpha"},
        "headersToUpstreamOnAllow": ["x-judged"],
        "headersToDownstreamOnAllow": ["x-told"],
        "headersToDownstreamOnDeny": ["x-reason"],
        "pathPrefix": "/check",
    }
    async with over_http(mesh) as court:
        await mesh.apply(mutual("STRICT"), judge(), asked(), **provider(**said))
        allowed = await ask(mesh, GOOD, headers={"x-token": "1", "x-private": "2"})
        denied, free = await ask(mesh, BAD), await ask(mesh, "/free")
    assert (allowed.status, denied.status, free.status) == (200, 401, 200)
    assert len(court.seen) == 2
    seen = court.seen[0]
    assert seen["path"] == f"/check{GOOD}"
    assert {k: seen["headers"].get(k) for k in ("x-token", "x-private", "x-mesh")} == {
        "x-token": "1",
        "x-private": None,
        "x-mesh": "alpha",
    }
    assert allowed.seen["headers"]["x-judged"] == "yes"
    assert "x-other" not in allowed.seen["headers"]
    assert allowed.headers["x-told"] == "welcome"
    assert (denied.headers["x-reason"], denied.body) == ("bad", b"go away")
    assert "x-other" not in denied.headers


async def test_over_grpc(mesh: Mesh) -> None:
    async with over_grpc(mesh) as questions:
        await mesh.apply(mutual("STRICT"), judge(), asked(), **provider("Grpc"))
        allowed, denied, free = await ask(mesh, GOOD), await ask(mesh, BAD), await ask(mesh, "/free")
    assert (allowed.status, denied.status, free.status) == (200, 418, 200)
    assert allowed.seen["headers"]["x-judged"] == "yes"
    assert denied.headers["x-reason"] == "bad"
    assert [q.request.http.path for q in questions] == [GOOD, BAD]
    assert questions[0].source.principal == WEB.identity


async def test_over_grpc_about_connections(mesh: Mesh) -> None:
    servers = [TcpServer.start(echo, mesh[who].inside.listen("0.0.0.0", TCP)) for who in (V1, V2)]
    every = policy("CUSTOM", operation(ports=[str(TCP)]), provider={"name": "judge"})
    async with servers[0], servers[1]:
        async with over_grpc(mesh) as questions:
            await mesh.apply(mutual("STRICT"), judge(), every, **provider("Grpc"))
            assert await echoed(mesh[STRANGER].inside, APP_IP, TCP) == b"hello"
            assert [q.source.principal for q in questions] == [STRANGER.identity]
        assert await echoed(mesh[STRANGER].inside, APP_IP, TCP) == b""


@pytest.mark.parametrize("form", ["Http", "Grpc"])
@pytest.mark.parametrize(
    ("said", "status"),
    [({"failOpen": True}, 200), ({"failOpen": False}, 403), ({"statusOnError": "503"}, 503)],
    ids=["open", "closed", "status"],
)
async def test_one_that_is_down(mesh: Mesh, form: str, said: Json, status: int) -> None:
    await mesh.apply(mutual("STRICT"), judge(), asked(), **provider(form, **said))
    assert (await ask(mesh, GOOD)).status == status
    assert (await ask(mesh, "/free")).status == 200


@pytest.mark.parametrize(("partly", "status", "seen"), [(True, 200, [b"hello wo"]), (False, 413, [])])
async def test_it_may_read_the_body(mesh: Mesh, partly: bool, status: int, seen: list[bytes]) -> None:
    """As much as it is to get; what is longer is cut off or refused, what is shorter is whole."""
    body = {"maxRequestBytes": 8, "allowPartialMessage": partly}
    async with over_http(mesh) as court:
        await mesh.apply(mutual("STRICT"), judge(), asked(), **provider(includeRequestBodyInCheck=body))
        assert (await ask(mesh, GOOD, method="POST", body=b"hello world")).status == status
        assert court.bodies == seen
        assert (await ask(mesh, GOOD, method="POST", body=b"hi")).status == 200
        assert court.bodies[-1] == b"hi"


@pytest.mark.parametrize("name", ["nobody", "Not.A.Name"])
async def test_a_provider_that_is_not_there_denies_and_is_reported(mesh: Mesh, name: str) -> None:
    await mesh.apply(mutual("STRICT"), judge(), asked(name), **provider())
    assert (await ask(mesh, GOOD)).status == 403
    assert (await ask(mesh, "/free")).status == 200
    (problem,) = [p for p in await mesh.stage.control_plane.problems() if p.kind == "AuthorizationPolicy"]
    assert (problem.name, problem.field) == ("custom", "spec.provider.name")


async def test_several_must_not_be_asked_about_one_workload(mesh: Mesh) -> None:
    """AZ-031."""
    other = {**asked("other"), "metadata": {"name": "other", "namespace": "alpha"}}
    both = [*provider()["extensionProviders"], {**provider()["extensionProviders"][0], "name": "other"}]
    async with over_http(mesh) as court:
        await mesh.apply(mutual("STRICT"), judge(), asked(), other, extensionProviders=both)
        assert (await ask(mesh, GOOD)).status == 403
        assert court.seen == []


async def test_what_it_adds_is_seen_by_the_policies_after_it(mesh: Mesh) -> None:
    """AZ-002: CUSTOM before DENY and ALLOW."""
    judged = policy("ALLOW", {"when": [{"key": "request.headers[x-judged]", "values": ["yes"]}]})
    async with over_http(mesh):
        said = provider(headersToUpstreamOnAllow=["x-judged"])
        await mesh.apply(mutual("STRICT"), judge(), asked(), judged, **said)
        assert (await ask(mesh, GOOD)).status == 200
        assert (await ask(mesh, "/free")).status == 403
