"""Who is who: certificates, STRICT and PERMISSIVE, and what the server sees of its caller."""

import pytest

from e2e.mesh.mesh import Mesh
from e2e.mesh.world import HTTP, STRANGER, V1, WEB, mutual
from pypilot.cli.demo.clients import NoAnswerError, get_from

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.netns,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.backing("files", "api-server"),
]


async def test_every_agent_is_small_and_ready(mesh: Mesh) -> None:
    for pod in mesh.pods.values():
        assert (await pod.status("/healthz/ready"))[0] == 200
        print(f"agent of {pod.who.name}: {pod.resident() / (1 << 20):.1f} MB")
        assert pod.resident() <= 60 << 20


async def test_plaintext_to_strict_is_refused(mesh: Mesh) -> None:
    await mesh.apply(mutual("STRICT"))
    with pytest.raises(NoAnswerError):
        await get_from(mesh.hub, V1.address, HTTP, host="app", seconds=60)
    assert (await mesh[WEB].caller.ask("app.alpha")).status == 200


async def test_plaintext_to_permissive_is_passed(mesh: Mesh) -> None:
    await mesh.apply(mutual("PERMISSIVE"))
    answer = await get_from(mesh.hub, V1.address, HTTP, host="app", seconds=60)
    assert answer.status == 200
    assert "x-forwarded-client-cert" not in answer.seen["headers"]


@pytest.mark.parametrize("who", [WEB, STRANGER], ids=lambda who: who.name)
async def test_the_server_sees_the_identity_of_its_caller(mesh: Mesh, who) -> None:
    await mesh.apply(mutual("STRICT"))
    answer = await mesh[who].caller.ask("app.alpha")
    seen = answer.seen["headers"]["x-forwarded-client-cert"]
    assert f"By={V1.identity}" in seen
    assert f"URI={who.identity}" in seen
