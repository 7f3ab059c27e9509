"""Out of the mesh by the egress gateway: over mutual TLS to it, or with a TLS of one's own through it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from e2e.mesh.mesh import Mesh
from e2e.mesh.traffic import answered
from e2e.mesh.world import ALPHA, EGRESS, EXIT, PARTNER, STRANGER, WEB, gateway, made
from e2e.outcomes.objects import Json
from e2e.outcomes.servers import App
from pypilot.cli.demo.certificates import Authority

pytestmark = [pytest.mark.envoy, pytest.mark.netns, pytest.mark.asyncio(loop_scope="session")]
HOST = "partner.example"
VIRTUAL = "203.0.113.50"
OUT = f"egress.{ALPHA}.svc.cluster.local"
TO_GATEWAY = {"destination": {"host": OUT, "port": {"number": 443}}}
AUTHORITY = Authority("partner CA")


def partner(port: int, protocol: str) -> Json:
    """The service outside, as the mesh knows it."""
    spec = {
        "hosts": [HOST],
        "addresses": [VIRTUAL],
        "ports": [{"number": port, "name": protocol.lower(), "protocol": protocol}],
        "resolution": "STATIC",
        "endpoints": [{"address": PARTNER}],
    }
    return made("ServiceEntry", "partner", spec)


def by_gateway(kind: str, port: int, **sni: list[str]) -> Json:
    """A VirtualService: the mesh's requests go to the gateway, the gateway's to the partner."""
    to_partner = {"destination": {"host": HOST, "port": {"number": port}}}
    routes = [
        {"match": [{"gateways": ["mesh"], "port": port, **sni}], "route": [TO_GATEWAY]},
        {"match": [{"gateways": ["egress"], "port": EXIT, **sni}], "route": [to_partner]},
    ]
    return made("VirtualService", "partner", {"hosts": [HOST], "gateways": ["mesh", "egress"], kind: routes})


@pytest_asyncio.fixture(loop_scope="session")
async def plain(mesh: Mesh) -> AsyncIterator[App]:
    """The partner, on port 80."""
    app = App("partner", listen=mesh.hub.listen, where=(PARTNER, 80))
    await app.start()
    yield app
    await app.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def secret(mesh: Mesh) -> AsyncIterator[App]:
    """The partner over TLS, on port 443."""
    app = App("partner", certificate=AUTHORITY.issue(HOST), listen=mesh.hub.listen, where=(PARTNER, 443))
    await app.start()
    yield app
    await app.stop()


@pytest.mark.backing("files", "api-server")
async def test_the_leg_to_the_gateway_is_mutual_tls(mesh: Mesh, plain: App) -> None:
    leg = {"host": OUT, "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL", "sni": HOST}}}
    await mesh.apply(
        partner(80, "HTTP"),
        gateway("egress", EXIT, "HTTPS", {"mode": "ISTIO_MUTUAL"}),
        made("DestinationRule", "egress", leg),
        by_gateway("http", 80),
    )
    log = mesh[EGRESS].envoy.access_log
    for who in (WEB, STRANGER):
        await answered(lambda who=who: mesh[who].caller.ask(HOST, address=(VIRTUAL, 80), logged=False))
        since = log.mark()
        answer = await mesh[who].caller.ask(HOST, address=(VIRTUAL, 80))
        assert (answer.status, answer.seen["name"]) == (200, "partner")
        seen = plain.seen[-1]
        assert seen["peer"][0] == EGRESS.address
        assert f"URI={who.identity}" in seen["headers"]["x-forwarded-client-cert"]
        entry = await log.wait_for(lambda _: True, since=since, timeout=60)
        assert entry is not None
        assert entry["requested_server_name"] == HOST
        assert str(entry["downstream_remote_address"]).startswith(f"{who.address}:")


async def test_a_client_s_own_tls_goes_through_untouched(mesh: Mesh, secret: App) -> None:
    sni = {"sniHosts": [HOST]}
    passing = gateway("egress", EXIT, "TLS", {"mode": "PASSTHROUGH"}, HOST)
    await mesh.apply(partner(443, "TLS"), passing, by_gateway("tls", 443, **sni))
    log = mesh[EGRESS].envoy.access_log

    async def ask(server_name: str = HOST):
        tls = AUTHORITY.client_context()
        return await mesh[WEB].caller.ask(HOST, address=(VIRTUAL, 443), tls=tls, server_name=server_name, logged=False)

    await answered(ask)
    since = log.mark()
    answer = await ask()
    assert (answer.status, answer.seen["name"]) == (200, "partner")
    assert secret.seen[-1]["peer"][0] == EGRESS.address
    assert "x-forwarded-client-cert" not in secret.seen[-1]["headers"]
    entry = await log.wait_for(lambda _: True, since=since, timeout=60)
    assert entry is not None
    assert (entry["requested_server_name"], entry["protocol"]) == (HOST, None)
    assert entry["upstream_cluster"] == f"outbound|443||{HOST}"
