"""Service accounts: whose tokens get a certificate, and what becomes of those that are no longer good."""

import asyncio
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from e2e.kube.control_plane import account, config_map, token_of
from e2e.mesh.files import minted
from e2e.mesh.kubernetes import ApiServer
from e2e.mesh.mesh import Mesh
from e2e.mesh.world import ALPHA, BETA, STRANGER, WEB, Resident
from e2e.outcomes.caller import SECONDS
from pypilot.proxy.certificate import CertificateError
from pypilot.security.x509 import key_pem

pytestmark = [pytest.mark.envoy, pytest.mark.netns, pytest.mark.asyncio(loop_scope="session")]
BOTH = pytest.mark.backing("files", "api-server")
IN_CLUSTER = pytest.mark.backing("api-server")


def names(chain: bytes) -> list[str]:
    """The URIs of a certificate."""
    leaf = x509.load_pem_x509_certificate(chain)
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return found.get_values_for_type(x509.UniformResourceIdentifier)


@BOTH
async def test_whatever_is_asked_for_the_bearer_s_name_is_in_the_certificate(mesh: Mesh) -> None:
    got = await mesh.certificate(WEB, await mesh.backing.mint(STRANGER))
    assert names(got.chain) == [STRANGER.identity]


@BOTH
async def test_a_token_of_somebody_else_s_key_is_refused(mesh: Mesh) -> None:
    foreign = minted(WEB, key_pem(ec.generate_private_key(ec.SECP256R1())).decode())
    for token in (foreign, "a.b.c", ""):
        with pytest.raises(CertificateError):
            await mesh.certificate(WEB, token)


@IN_CLUSTER
async def test_a_token_for_somebody_else_is_refused(mesh: Mesh) -> None:
    assert isinstance(mesh.backing, ApiServer)
    token = await token_of(mesh.backing.client, WEB.namespace, WEB.service_account, "vault")
    with pytest.raises(CertificateError, match="UNAUTHENTICATED"):
        await mesh.certificate(WEB, token)


@IN_CLUSTER
async def test_the_token_of_an_account_that_is_no_more_is_refused(mesh: Mesh) -> None:
    assert isinstance(mesh.backing, ApiServer)
    client, gone = mesh.backing.client, Resident("gone", "", BETA)
    await client.apply(account(BETA, "gone"))
    token = await token_of(client, BETA, "gone", "istio-ca")
    await client.delete(account(BETA, "gone"))
    with pytest.raises(CertificateError, match="UNAUTHENTICATED"):
        await mesh.certificate(gone, token)


@IN_CLUSTER
async def test_every_namespace_is_told_the_roots(mesh: Mesh) -> None:
    assert isinstance(mesh.backing, ApiServer)
    bundle = (await mesh.backing.authority()).bundle.decode()
    for space in (ALPHA, BETA, "istio-system"):
        assert await config_map(mesh.backing.client, space) == bundle
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio-ca-root-cert", "namespace": BETA}}
    await mesh.backing.client.apply({**config, "data": {"root-cert.pem": "mine"}})
    async with asyncio.timeout(SECONDS):
        while await config_map(mesh.backing.client, BETA) != bundle:  # noqa: ASYNC110 - nobody says when
            await asyncio.sleep(0.05)


@IN_CLUSTER
async def test_tokens_and_keys_are_in_no_page_and_no_log(mesh: Mesh) -> None:
    token = await mesh.backing.mint(WEB)
    await mesh.certificate(WEB, token)
    running = mesh.stage.control_plane
    pages = [json.dumps(await running.get_json(f"/debug/{page}")) for page in ("cluster", "connections", "problems")]
    told = "\n".join((*pages, running.child.stdout.read_text(), running.child.stderr.read_text()))
    assert "cluster.local" in told
    for secret in (token, "PRIVATE KEY"):
        assert secret not in told
