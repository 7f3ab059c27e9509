"""The certificate that Istio's agent asks for: its request, the order of the chain, and who is refused (CA-001…003)."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.contract.agent import CDS, PATIENCE, Credentials, Key, certificate, node, request_pem, streaming
from tests.contract.conftest import Plane
from tests.security.workloads import intermediate

WEB = "spiffe://cluster.local/ns/alpha/sa/web"
KEYS = {
    "RSA-2048": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ECDSA-P256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ECDSA-P384": lambda: ec.generate_private_key(ec.SECP384R1()),
}


def read(text: str) -> x509.Certificate:
    """The one certificate of a PEM."""
    (found,) = x509.load_pem_x509_certificates(text.encode())
    return found


def put(path: Path, content: bytes) -> None:
    """Replace a file at once."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.rename(path)


def names(leaf: x509.Certificate) -> list[str]:
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert len(found.value) == 1
    return found.value.get_values_for_type(x509.UniformResourceIdentifier)


@pytest.mark.parametrize("kind", KEYS)
async def test_each_kind_of_key_gets_a_certificate_for_the_identity_of_the_token(plane: Plane, kind: str) -> None:
    key: Key = KEYS[kind]()
    chain = await certificate(plane.port, plane.credentials("web"), request_pem(key, WEB), 3600)
    assert len(chain) >= 2, "the agent takes the last one for the roots, and refuses a chain of one"
    leaf = read(chain[0])
    assert leaf.public_key() == key.public_key()
    assert names(leaf) == [WEB]
    assert "".join(chain[-1:]).encode() == plane.roots
    leaf.verify_directly_issued_by(read(chain[-1]))
    left = leaf.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(minutes=50) < left <= timedelta(hours=1), "it renews at half of what it asked for"


async def test_nothing_but_the_key_of_the_request_counts(plane: Plane) -> None:
    """CA-002."""
    key = KEYS["ECDSA-P256"]()
    csr = request_pem(key, "spiffe://cluster.local/ns/istio-system/sa/istiod")
    chain = await certificate(plane.port, plane.credentials("web"), csr)
    assert names(read(chain[0])) == [WEB]


async def renewed(plane: Plane, enough: Callable[[Sequence[str]], bool]) -> Sequence[str]:
    """The first chain that is as wanted: files are looked at from time to time, and the port's certificate follows."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(grpc.aio.AioRpcError):
                key = ec.generate_private_key(ec.SECP256R1())
                chain = await certificate(plane.port, plane.credentials("web"), request_pem(key, WEB))
                if enough(chain):
                    return chain


async def test_a_plugged_in_intermediate_stands_between(plane: Plane) -> None:
    """The agent joins the whole chain for its Envoy; its last element alone is what it trusts."""
    for name, content in intermediate("mesh").items():
        put(plane.root / "ca" / name, content)
    chain = await renewed(plane, lambda chain: len(chain) > 2)
    leaf, authority, *_ = x509.load_pem_x509_certificates("".join(chain).encode())
    leaf.verify_directly_issued_by(authority)
    authority.verify_directly_issued_by(read(chain[-1]))
    assert chain[-1].encode() == plane.roots


async def test_two_roots_are_the_last_element_together(plane: Plane) -> None:
    """While a root is rotated the agent's `ROOTCA` holds both."""
    put(plane.root / "ca" / "root-cert.pem", plane.roots + intermediate("next")["root-cert.pem"])
    chain = await renewed(plane, lambda chain: len(x509.load_pem_x509_certificates(chain[-1].encode())) == 2)
    assert chain[-1].encode() == plane.roots
    assert len(chain) == 2


async def test_a_machine_with_a_provisioned_certificate_needs_no_token(plane: Plane) -> None:
    """`PROV_CERT`: the certificate of the last run proves who asks for the next, and who opens a stream."""
    key = KEYS["ECDSA-P256"]()
    chain = await certificate(plane.port, plane.credentials("web"), request_pem(key, WEB))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    own = Credentials(plane.roots, chain="".join(chain).encode(), key=private)
    fresh = KEYS["RSA-2048"]()
    assert names(read((await certificate(plane.port, own, request_pem(fresh, WEB)))[0])) == [WEB]
    async with streaming(plane.port, own, node("web", "10.1.0.1")) as stream:
        assert (await stream.get(CDS)).resources


async def refusal(plane: Plane, credentials: Credentials, **more: str) -> tuple[grpc.StatusCode, str]:
    """How a request for a certificate fails."""
    csr = request_pem(ec.generate_private_key(ec.SECP256R1()), WEB)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await certificate(plane.port, credentials, csr, **more)
    return refused.value.code(), refused.value.details() or ""


async def test_who_trusts_another_root_does_not_speak_to_it(plane: Plane) -> None:
    stranger = Credentials(intermediate("stranger")["root-cert.pem"], plane.mint("web"))
    assert (await refusal(plane, stranger))[0] == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"audience": "kubernetes.default.svc"}, "not for audience istio-ca"),
        ({"seconds": -60}, "the token has expired"),
    ],
)
async def test_tokens_that_do_not_count(plane: Plane, claims: dict[str, object], reason: str) -> None:
    """XAUTH-001; the agent tries again with the token that the file has then."""
    code, details = await refusal(plane, plane.credentials("web", **claims))
    assert code == grpc.StatusCode.UNAUTHENTICATED
    assert reason in details


async def test_another_signer_is_refused(plane: Plane) -> None:
    """`ISTIO_META_CERT_SIGNER` is for signers of Kubernetes."""
    code, details = await refusal(plane, plane.credentials("web"), signer="example.com/signer")
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "CertSigner" in details
