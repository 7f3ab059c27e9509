"""Into the mesh by the ingress gateway, and out of it by the egress gateway, over mutual TLS each time."""

import asyncio
from collections import Counter

import aiohttp
import pytest

from e2e.mesh.mesh import Mesh
from e2e.mesh.world import APP, DOOR, EGRESS, EXIT, INGRESS, PARTNER, STRANGER, WEB, made, mutual
from e2e.outcomes.caller import SECONDS
from e2e.outcomes.objects import Json
from e2e.outcomes.servers import App

pytestmark = [pytest.mark.envoy, pytest.mark.netns, pytest.mark.asyncio(loop_scope="session")]
VIRTUAL = ("203.0.113.50", 80)
OUT = "egress.alpha.svc.cluster.local"


def gateway(name: str, port: int, protocol: str, tls: Json | None = None) -> Json:
    server: Json = {"port": {"number": port, "name": "door", "protocol": protocol}, "hosts": ["*"]}
    return made(
        "Gateway", name, {"selector": {"istio": name}, "servers": [{**server, **({"tls": tls} if tls else {})}]}
    )


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
        async with asyncio.timeout(SECONDS):
            while True:  # the gateway has no mark
                try:
                    answer = await caller.ask("shop.example", logged=False)
                    if answer.status == 200:
                        break
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)
        assert f"URI={INGRESS.identity}" in answer.seen["headers"]["x-forwarded-client-cert"]
        counts: Counter[str] = await caller.count("shop.example", 400)
    assert counts.keys() == {"app v1", "app v2"}
    assert 250 <= counts["app v1"] <= 350


async def test_egress_takes_the_mesh_s_mutual_tls_and_goes_on(mesh: Mesh) -> None:
    outside = App("partner", listen=mesh.hub.listen, where=(PARTNER, 80))
    await outside.start()
    entry = {
        "hosts": ["partner.example"],
        "addresses": [VIRTUAL[0]],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "endpoints": [{"address": PARTNER}],
    }
    to_gateway = {"destination": {"host": OUT, "port": {"number": 443}}}
    to_partner = {"destination": {"host": "partner.example", "port": {"number": 80}}}
    routes = {
        "hosts": ["partner.example"],
        "gateways": ["mesh", "egress"],
        "http": [
            {"match": [{"gateways": ["mesh"], "port": 80}], "route": [to_gateway]},
            {"match": [{"gateways": ["egress"], "port": EXIT}], "route": [to_partner]},
        ],
    }
    leg = {"host": OUT, "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL", "sni": "partner.example"}}}
    try:
        await mesh.apply(
            made("ServiceEntry", "partner", entry),
            gateway("egress", EXIT, "HTTPS", {"mode": "ISTIO_MUTUAL"}),
            made("DestinationRule", "egress", leg),
            made("VirtualService", "partner", routes),
        )
        for who in (WEB, STRANGER):
            async with asyncio.timeout(SECONDS):
                answer = await mesh[who].caller.ask("partner.example", address=VIRTUAL, logged=False)
                while answer.status != 200:  # the gateway has no mark
                    await asyncio.sleep(0.1)
                    answer = await mesh[who].caller.ask("partner.example", address=VIRTUAL, logged=False)
            assert answer.seen["name"] == "partner"
            assert outside.seen[-1]["peer"][0] == EGRESS.address
    finally:
        await outside.stop()
