"""Into the mesh by the ingress gateway: over mutual TLS to the pods, and as the policies of the gateway say."""

from collections import Counter
from typing import Any

import pytest

from e2e.mesh.mesh import Mesh
from e2e.mesh.network import GATE
from e2e.mesh.test_tokens import ONE, inline
from e2e.mesh.traffic import answered
from e2e.mesh.world import APP, DOOR, INGRESS, WEB, gateway, made, mutual, operation, policy, source
from e2e.outcomes.caller import Outcome
from e2e.outcomes.objects import Json

pytestmark = [pytest.mark.envoy, pytest.mark.netns, pytest.mark.asyncio(loop_scope="session")]


def subset(name: str, weight: int) -> Json:
    return {"destination": {"host": APP, "port": {"number": 80}, "subset": name}, "weight": weight}


async def test_ingress_reaches_strict_sidecars_with_weights_over_subsets(mesh: Mesh) -> None:
    rule = {"host": APP, "subsets": [{"name": v, "labels": {"version": v}} for v in ("v1", "v2")]}
    route = {
        "hosts": ["shop.example"],
        "gateways": ["ingress"],
        "http": [{"route": [subset("v1", 75), subset("v2", 25)]}],
    }
    await mesh.apply(
        mutual("STRICT"),
        gateway("ingress", DOOR, "HTTP"),
        made("DestinationRule", "app", rule),
        made("VirtualService", "shop", route),
    )
    async with mesh.outside((INGRESS.address, DOOR), INGRESS) as caller:
        answer = await answered(lambda: caller.ask("shop.example", logged=False))
        assert f"URI={INGRESS.identity}" in answer.seen["headers"]["x-forwarded-client-cert"]
        counts: Counter[str] = await caller.count("shop.example", 400)
    assert counts.keys() == {"app v1", "app v2"}
    assert 250 <= counts["app v1"] <= 350


def shop_route() -> Json:
    return {"route": [{"destination": {"host": APP, "port": {"number": 80}}}]}


def shop() -> list[Json]:
    """The application behind the gateway."""
    route = {"hosts": ["*"], "gateways": ["ingress"], "http": [shop_route()]}
    return [mutual("STRICT"), gateway("ingress", DOOR, "HTTP"), made("VirtualService", "shop", route)]


def of_gateway(*rules: Json, **where: Any) -> Json:
    """An ALLOW policy of the gateway."""
    where = where or {"selector": {"matchLabels": INGRESS.labels}}
    return made("AuthorizationPolicy", "gateway", {**where, "action": "ALLOW", "rules": list(rules)}, "security")


async def through(mesh: Mesh, forwarded: str = "", status: int = 200) -> Outcome:
    """A request from outside that claims to come from there."""
    headers = {"x-forwarded-for": forwarded} if forwarded else {}
    async with mesh.outside((INGRESS.address, DOOR), INGRESS) as caller:
        return await answered(lambda: caller.ask("shop.example", headers=headers, logged=False), status)


async def test_the_gateway_believes_as_many_proxies_as_it_is_told(mesh: Mesh) -> None:
    """AZ-017: one proxy stands before it, so that the last address it is told is the client's."""
    inside = of_gateway(source(remoteIpBlocks=["198.51.100.0/24"]))
    await mesh.apply(*shop(), inside)
    await through(mesh, status=403)
    await through(mesh, "198.51.100.7")
    await through(mesh, "192.0.2.1, 198.51.100.7")
    await through(mesh, "198.51.100.7, 192.0.2.1", 403)
    await mesh.apply(*shop(), of_gateway(source(ipBlocks=["198.51.100.0/24"])))
    await through(mesh, "198.51.100.7", 403)


async def test_pods_behind_the_gateway_tell_its_address_from_the_client_s(mesh: Mesh) -> None:
    await mesh.apply(*shop(), policy("ALLOW", source(remoteIpBlocks=[f"{GATE}/32"])))
    await through(mesh)
    await mesh.apply(*shop(), policy("ALLOW", source(ipBlocks=[f"{GATE}/32"])))
    await through(mesh, status=403)
    await mesh.apply(*shop(), policy("ALLOW", source(ipBlocks=[f"{INGRESS.address}/32"])))
    await through(mesh)
    await mesh.apply(*shop(), policy("ALLOW", source(principals=[INGRESS.principal])))
    await through(mesh)


async def test_a_policy_may_mean_the_gateway_by_name(mesh: Mesh) -> None:
    """AZ-001, AZ-004: `targetRefs`; whoever has no such gateway is not meant."""
    group, kind = "gateway.networking.k8s.io", "Gateway"
    deny = operation(paths=["/never"])
    await mesh.apply(*shop(), of_gateway(deny, targetRefs=[{"group": group, "kind": kind, "name": "door"}]))
    await through(mesh, status=403)
    assert (await mesh[WEB].caller.ask("app.alpha")).status == 200
    await mesh.apply(*shop(), of_gateway(deny, targetRefs=[{"group": group, "kind": kind, "name": "other"}]))
    await through(mesh)


async def test_the_gateway_asks_for_tokens(mesh: Mesh) -> None:
    """RA-002: and knows by a claim where a request belongs (RA-010)."""
    selector = {"matchLabels": INGRESS.labels}
    rules = [inline(forwardOriginalToken=True)]
    believed = made("RequestAuthentication", "gateway", {"selector": selector, "jwtRules": rules}, "security")
    staff = {"headers": {"@request.auth.claims.groups": {"exact": "staff"}}}
    answer = {"directResponse": {"status": 418}}
    routes = {"hosts": ["*"], "gateways": ["ingress"], "http": [{"match": [staff], **answer}, shop_route()]}
    await mesh.apply(*shop()[:2], believed, made("VirtualService", "shop", routes))
    async with mesh.outside((INGRESS.address, DOOR), INGRESS) as caller:
        for headers, status in (
            (ONE.bearer(), 200),
            (ONE.bearer(groups="staff"), 418),
            (ONE.bearer(-600), 401),
            ({}, 200),
        ):
            await answered(lambda headers=headers: caller.ask("shop.example", headers=headers, logged=False), status)
