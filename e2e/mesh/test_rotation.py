"""Certificates, roots and policies that change under load: nobody notices."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from e2e.mesh.mesh import Mesh
from e2e.mesh.traffic import load, others, shown
from e2e.mesh.world import STRANGER, V1, V2, WEB, mutual, operation, policy, source
from pypilot.proxy.certificate import CertificateError, Credentials, make_request, read_answer
from pypilot.security.authority import Authority, requested_key
from pypilot.security.x509 import Root, make_root
from tests.security.workloads import below

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.netns,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.backing("files", "api-server"),
]


def issued(root: Root, identity: str) -> Credentials:
    """Credentials of any CA."""
    key, csr = make_request(identity)
    signed = Authority(root).workload(requested_key(csr.encode()), identity, datetime.now(UTC), timedelta(hours=1))
    return read_answer(key, list(signed.chain))


async def everybody_takes(mesh: Mesh, root: Root) -> None:
    """Another CA, or others that are trusted; returns when all have certificates made since."""
    pods = list(mesh.pods.values())
    before = [await pod.serials() for pod in pods]
    assert all(before)
    await mesh.plug(root)
    await others(pods, before)


async def test_a_root_is_rotated_under_load(mesh: Mesh, tmp_path: Path) -> None:
    await mesh.apply(mutual("STRICT"))
    old = await mesh.backing.authority()
    new = make_root("cluster.local", datetime.now(UTC))
    of_old, of_new = issued(old, WEB.identity), issued(new, WEB.identity)
    assert await shown(mesh, of_old, V1, tmp_path) == 200
    assert await shown(mesh, of_new, V1, tmp_path) == 0
    async with load(mesh[WEB]) as requests:
        await everybody_takes(mesh, replace(old, bundle=old.bundle + new.bundle))
        assert await shown(mesh, of_old, V1, tmp_path) == 200
        await everybody_takes(mesh, replace(new, bundle=new.bundle + old.bundle))
        assert await shown(mesh, of_old, V1, tmp_path) == 200
        await everybody_takes(mesh, new)
    requests.check("root rotated")
    assert await shown(mesh, of_old, V1, tmp_path) == 0
    assert await shown(mesh, of_new, V1, tmp_path) == 200
    with pytest.raises(CertificateError, match=r"UNAVAILABLE|UNAUTHENTICATED"):
        await mesh.certificate(WEB, shows=of_old)
    assert (await mesh.certificate(WEB, shows=of_new)).roots == new.bundle


async def test_an_intermediate_is_rotated_under_load(mesh: Mesh, tmp_path: Path) -> None:
    """Of one root, so that nobody need be told of anything."""
    await mesh.apply(mutual("STRICT"))
    root = await mesh.backing.authority()
    first, second = below(root, "first"), below(root, "second")
    async with load(mesh[WEB]) as requests:
        await mesh.plug(first)
        assert await shown(mesh, issued(first, WEB.identity), V2, tmp_path) == 200
        await mesh.plug(second)
        pods = [mesh[WEB], mesh[V1]]
        await others(pods, [await pod.serials() for pod in pods])
        for one in (root, first, second):
            assert await shown(mesh, issued(one, WEB.identity), V2, tmp_path) == 200
    requests.check("intermediate rotated")
    await mesh.plug(root)


async def test_certificates_are_renewed_under_load(mesh: Mesh) -> None:
    await mesh.apply(mutual("STRICT"))
    pods = [mesh[WEB], mesh[V1]]
    async with load(mesh[WEB]) as requests:
        before = [await pod.serials() for pod in pods]
        kept = await mesh[V2].serials()
        await others(pods, before)
        assert await mesh[V2].serials() == kept
    requests.check("certificates renewed")


async def test_policies_change_under_load(mesh: Mesh) -> None:
    async with load(mesh[WEB]) as requests:
        for mode in ("PERMISSIVE", "STRICT", "PERMISSIVE"):
            await mesh.apply(mutual(mode))
            await mesh.apply(mutual(mode), policy("ALLOW", source(principals=[WEB.principal])))
            assert (await mesh[STRANGER].caller.ask("app.alpha")).status == 403
            await mesh.apply(mutual(mode), policy("DENY", operation(paths=["/secret"])))
            assert (await mesh[WEB].caller.ask("app.alpha", "/secret")).status == 403
            assert (await mesh[STRANGER].caller.ask("app.alpha")).status == 200
    requests.check("policies changed")
