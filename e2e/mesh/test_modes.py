"""Who speaks mutual TLS with whom: modes of PeerAuthentication, what a client finds out, and what it is told."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from e2e.mesh.mesh import Mesh
from e2e.mesh.test_rotation import issued
from e2e.mesh.traffic import echoed, shown
from e2e.mesh.world import APP, APP_IP, BARE, HTTP, MIXED_IP, TCP, V1, V2, WEB, made, mutual
from e2e.outcomes.caller import Outcome
from e2e.outcomes.objects import Json
from e2e.outcomes.servers import App, TcpServer, echo
from pypilot.cli.demo.clients import NoAnswerError, get_from

pytestmark = [pytest.mark.envoy, pytest.mark.netns, pytest.mark.asyncio(loop_scope="session")]
XFCC = "x-forwarded-client-cert"


def rule(mode: str, host: str = APP) -> Json:
    """DestinationRule: how clients are to speak."""
    return made("DestinationRule", "told", {"host": host, "trafficPolicy": {"tls": {"mode": mode}}})


def of_all(mode: str, namespace: str) -> Json:
    """PeerAuthentication of a namespace, or of the mesh."""
    return made("PeerAuthentication", "default", {"mtls": {"mode": mode}}, "security", namespace)


async def ask(mesh: Mesh) -> Outcome:
    return await mesh[WEB].caller.ask("app.alpha")


async def plainly(mesh: Mesh, port: int = HTTP) -> int:
    """The status of a request in plain text to a pod; 0 if it is not answered."""
    try:
        return (await get_from(mesh.hub, V1.address, port, host="app", seconds=60)).status
    except NoAnswerError:
        return 0


async def test_a_port_may_differ_from_its_workload(mesh: Mesh) -> None:
    """By the workload's own port; where plain text is all that is taken, clients speak it unasked."""
    servers = [TcpServer.start(echo, mesh[who].inside.listen("0.0.0.0", TCP)) for who in (V1, V2)]
    async with servers[0], servers[1]:
        await mesh.apply(mutual("STRICT", portLevelMtls={str(HTTP): {"mode": "PERMISSIVE"}}))
        assert await plainly(mesh) == 200
        assert await echoed(mesh.hub, V1.address, TCP) == b""
        await mesh.apply(mutual("STRICT", portLevelMtls={str(TCP): {"mode": "DISABLE"}}))
        assert await plainly(mesh) == 0
        assert await echoed(mesh.hub, V1.address, TCP) == b"hello"
        assert await echoed(mesh[WEB].inside, APP_IP, TCP) == b"hello"
        assert XFCC in (await ask(mesh)).seen["headers"]


async def test_disabled_is_plain_text_and_nothing_else(mesh: Mesh, tmp_path) -> None:
    await mesh.apply(mutual("DISABLE"))
    assert await plainly(mesh) == 200
    answer = await ask(mesh)
    assert answer.status == 200
    assert XFCC not in answer.seen["headers"]
    assert await shown(mesh, issued(await mesh.backing.authority(), WEB.identity), V1, tmp_path) == 0


async def test_narrower_policies_win(mesh: Mesh) -> None:
    await mesh.apply(of_all("STRICT", "istio-system"))
    assert await plainly(mesh) == 0
    await mesh.apply(of_all("STRICT", "istio-system"), of_all("PERMISSIVE", "alpha"))
    assert await plainly(mesh) == 200
    await mesh.apply(of_all("STRICT", "istio-system"), of_all("PERMISSIVE", "alpha"), mutual("STRICT"))
    assert await plainly(mesh) == 0
    await mesh.apply(of_all("STRICT", "istio-system"), of_all("PERMISSIVE", "alpha"), mutual("UNSET"))
    assert await plainly(mesh) == 200


async def test_a_client_may_be_told_to_speak_plainly(mesh: Mesh) -> None:
    await mesh.apply(mutual("STRICT"), rule("DISABLE"))
    assert (await ask(mesh)).status == 503
    await mesh.apply(mutual("PERMISSIVE"), rule("DISABLE"))
    answer = await ask(mesh)
    assert answer.status == 200
    assert XFCC not in answer.seen["headers"]


async def test_a_client_may_be_told_to_speak_mutual_tls(mesh: Mesh) -> None:
    await mesh.apply(mutual("STRICT"), rule("ISTIO_MUTUAL"))
    assert f"URI={WEB.identity}" in (await ask(mesh)).seen["headers"][XFCC]
    await mesh.apply(mutual("DISABLE"), rule("ISTIO_MUTUAL"))
    assert (await ask(mesh)).status == 503


@pytest_asyncio.fixture(loop_scope="session")
async def plain(mesh: Mesh) -> AsyncIterator[App]:
    """The pod that has no sidecar."""
    app = App("plain", listen=mesh.hub.listen, where=(BARE, HTTP))
    await app.start()
    yield app
    await app.stop()


async def mixed(mesh: Mesh) -> dict[str, Outcome]:
    """The last answer of each pod of the service of which only some have a sidecar."""
    answers = [await mesh[WEB].caller.ask("mixed.alpha", address=(MIXED_IP, 80)) for _ in range(20)]
    assert {answer.status for answer in answers} == {200}
    return {str(answer.seen["name"]): answer for answer in answers}


async def test_clients_find_out_who_has_a_sidecar(mesh: Mesh, plain: App) -> None:
    await mesh.apply(mutual("STRICT"))
    found = await mixed(mesh)
    assert found.keys() == {"app", "plain"}
    assert f"URI={WEB.identity}" in found["app"].seen["headers"][XFCC]
    assert XFCC not in found["plain"].seen["headers"]


async def test_told_to_speak_mutual_tls_they_do_not_ask(mesh: Mesh, plain: App) -> None:
    """A connection that fails is tried with another pod."""
    await mesh.apply(mutual("STRICT"), rule("ISTIO_MUTUAL", "mixed.alpha.svc.cluster.local"))
    assert (await mixed(mesh)).keys() == {"app"}
    assert plain.requests == 0


async def test_without_auto_mtls_they_speak_plainly(mesh: Mesh, plain: App) -> None:
    await mesh.apply(mutual("PERMISSIVE"), enableAutoMtls=False)
    found = await mixed(mesh)
    assert found.keys() == {"app", "plain"}
    assert XFCC not in found["app"].seen["headers"]
