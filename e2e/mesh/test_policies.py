"""Who may call whom: AuthorizationPolicy by all that it may ask about"""

import json
from pathlib import Path
from typing import Any

import pytest

from e2e.mesh.mesh import Mesh
from e2e.mesh.test_rotation import issued
from e2e.mesh.traffic import echoed, shown
from e2e.mesh.world import (
    APP_IP,
    BETA,
    HTTP,
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
from e2e.outcomes.servers import TcpServer, echo
from pypilot.cli.demo.clients import get_from

pytestmark = [pytest.mark.envoy, pytest.mark.netns, pytest.mark.asyncio(loop_scope="session")]
BOTH = pytest.mark.backing("files", "api-server")


async def statuses(mesh: Mesh, *requests: tuple[Any, str, str]) -> list[int]:
    """Of (who, method, path)."""
    return [(await mesh[who].caller.ask("app.alpha", path, method=method)).status for who, method, path in requests]


@BOTH
async def test_by_namespace(mesh: Mesh) -> None:
    await mesh.apply(mutual("STRICT"), policy("ALLOW", source(namespaces=[BETA])))
    assert await statuses(mesh, (STRANGER, "GET", "/"), (WEB, "GET", "/")) == [200, 403]


@BOTH
async def test_by_principal(mesh: Mesh) -> None:
    await mesh.apply(mutual("STRICT"), policy("DENY", source(principals=[STRANGER.principal])))
    assert await statuses(mesh, (STRANGER, "GET", "/"), (WEB, "GET", "/")) == [403, 200]


async def test_by_address(mesh: Mesh) -> None:
    await mesh.apply(mutual("STRICT"), policy("ALLOW", source(ipBlocks=[f"{WEB.address}/32"])))
    assert await statuses(mesh, (STRANGER, "GET", "/"), (WEB, "GET", "/")) == [403, 200]


@BOTH
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


async def test_by_service_account(mesh: Mesh) -> None:
    """Without a namespace that of the policy is meant (AZ-014)."""
    await mesh.apply(mutual("STRICT"), policy("ALLOW", source(serviceAccounts=["web"])))
    assert await statuses(mesh, (STRANGER, "GET", "/"), (WEB, "GET", "/")) == [403, 200]
    await mesh.apply(mutual("STRICT"), policy("ALLOW", source(serviceAccounts=["beta/stranger"])))
    assert await statuses(mesh, (STRANGER, "GET", "/"), (WEB, "GET", "/")) == [200, 403]


async def test_by_header_and_host(mesh: Mesh) -> None:
    header = {"when": [{"key": "request.headers[x-token]", "values": ["let-*"]}]}
    await mesh.apply(mutual("STRICT"), policy("ALLOW", header, operation(hosts=["app.alpha:80"])))
    ask = mesh[WEB].caller.ask
    answers = [await ask("app.alpha", headers={"x-token": token}) for token in ("let-me-in", "open")]
    assert [a.status for a in answers] == [200, 403]
    assert (await ask("app.alpha:80")).status == 200


async def test_a_policy_of_the_root_namespace_is_everybody_s(mesh: Mesh) -> None:
    """AZ-001."""
    spec = {"action": "DENY", "rules": [operation(paths=["/secret"])]}
    await mesh.apply(mutual("STRICT"), made("AuthorizationPolicy", "all", spec, "security", "istio-system"))
    assert await statuses(mesh, (WEB, "GET", "/secret"), (WEB, "GET", "/")) == [403, 200]
    await mesh.apply(mutual("STRICT"), made("AuthorizationPolicy", "all", spec, "security", BETA))
    assert await statuses(mesh, (WEB, "GET", "/secret")) == [200]


async def test_a_trust_domain_of_the_past_is_known(mesh: Mesh, tmp_path: Path) -> None:
    """AZ-025, PA-013: in policies, and in certificates."""
    past = f"spiffe://old.example/ns/{WEB.namespace}/sa/web"
    credentials = issued(await mesh.backing.authority(), past)
    by_principal = policy("ALLOW", source(principals=[past.removeprefix("spiffe://")]))
    await mesh.apply(mutual("STRICT"), by_principal)
    assert await statuses(mesh, (WEB, "GET", "/")) == [403]
    assert await shown(mesh, credentials, V1, tmp_path) == 0
    await mesh.apply(mutual("STRICT"), by_principal, trustDomainAliases=["old.example"])
    assert await statuses(mesh, (WEB, "GET", "/"), (STRANGER, "GET", "/")) == [200, 403]
    assert await shown(mesh, credentials, V1, tmp_path) == 200


async def verdicts(mesh: Mesh, kind: str) -> int:
    """How often an RBAC filter of the application counted that."""
    return sum([sum((await mesh[who].envoy.stats(rf"rbac\.{kind}$")).values()) for who in (V1, V2)])


@pytest.mark.parametrize(("action", "kind"), [("DENY", "shadow_denied"), ("ALLOW", "shadow_allowed")])
async def test_a_dry_run_only_says_so(mesh: Mesh, action: str, kind: str) -> None:
    """AZ-008."""
    dry = policy(action, operation(paths=["/dry"]), annotations={"istio.io/dry-run": "true"})
    await mesh.apply(mutual("STRICT"), dry)
    counted = rf"istio_dry_run_{action.lower()}_\.{kind}"
    before = await verdicts(mesh, counted)
    assert await statuses(mesh, (WEB, "GET", "/dry"), (WEB, "GET", "/wet")) == [200, 200]
    assert await verdicts(mesh, counted) == before + 1


async def test_an_audit_only_says_so(mesh: Mesh) -> None:
    """AZ-007: in the metadata by which a log decides what to keep."""
    wanted = {"user_agent": "%REQ(USER-AGENT)%", "audited": "%DYNAMIC_METADATA(envoy.common:access_log_hint)%"}
    audit = policy("AUDIT", operation(paths=["/secret"]))
    await mesh.apply(mutual("STRICT"), audit, accessLogFormat=json.dumps(wanted))
    for path, audited in (("/secret", True), ("/", False)):
        since = {v: mesh[who].envoy.access_log.mark() for v, who in (("v1", V1), ("v2", V2))}
        answer = await mesh[WEB].caller.ask("app.alpha", path)
        assert answer.status == 200
        version = answer.seen["version"]
        log = mesh[V1 if version == "v1" else V2].envoy.access_log
        entry = await log.wait_for(lambda _: True, since=since[version], timeout=60)
        assert entry is not None
        assert entry["audited"] is audited


@BOTH
async def test_a_tcp_connection_is_reset(mesh: Mesh) -> None:
    """At its first bytes: until the client has spoken, Envoy asks nobody."""
    servers = [TcpServer.start(echo, mesh[who].inside.listen("0.0.0.0", TCP)) for who in (V1, V2)]
    async with servers[0], servers[1]:
        await mesh.apply(mutual("STRICT"), policy("DENY", source(principals=[STRANGER.principal])))
        assert await echoed(mesh[WEB].inside, APP_IP, TCP) == b"hello"
        assert await echoed(mesh[STRANGER].inside, APP_IP, TCP) == b""


async def test_what_only_requests_have_is_no_reason_to_let_a_connection_pass(mesh: Mesh) -> None:
    """AZ-026: an ALLOW rule about paths holds for no connection, a DENY rule about paths for every one."""
    servers = [TcpServer.start(echo, mesh[who].inside.listen("0.0.0.0", TCP)) for who in (V1, V2)]
    async with servers[0], servers[1]:
        for action in ("ALLOW", "DENY"):
            await mesh.apply(mutual("STRICT"), policy(action, operation(paths=["/open"])))
            assert await echoed(mesh[WEB].inside, APP_IP, TCP) == b""
