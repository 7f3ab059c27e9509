"""Roots and certificates, held against OpenSSL by real handshakes."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from pypilot.security.authority import Authority
from pypilot.security.x509 import ROOT_LIFETIME, SKEW, make_root, parse_root, secret_data
from pypilot.xds.tls import TlsMaterial, server_context
from tests.security.workloads import intermediate, name, pem, sign

NOW = datetime.now(UTC).replace(microsecond=0)
NAMES = ("istiod.istio-system.svc", "istiod", "127.0.0.1")
DAY = timedelta(days=1)


def test_a_root_is_a_root_for_ten_years():
    root = make_root("cluster.local", NOW)
    certificate = x509.load_pem_x509_certificate(root.certificate)
    assert certificate.issuer == certificate.subject
    assert certificate.subject.rfc4514_string() == "O=cluster.local"
    assert certificate.not_valid_after_utc == NOW + ROOT_LIFETIME
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)


def test_a_root_survives_its_secret():
    root = make_root("cluster.local", NOW)
    assert set(secret_data(root)) == {"ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem", "key.pem"}
    assert parse_root(secret_data(root), NOW) == root
    # as Istio writes it: nothing but certificate and key
    bare = {**secret_data(root), "root-cert.pem": b"", "cert-chain.pem": b""}
    assert parse_root(bare, NOW) == root


async def handshake(issued, trusted, host):
    """True if a client that trusts these roots accepts the server under this name."""

    async def serve(reader, writer):
        await reader.read()
        writer.close()

    context = server_context(TlsMaterial(issued.key, issued.chain, None))
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    client = ssl.create_default_context(cadata=trusted.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=host)
        writer.close()
        return True
    except ssl.SSLCertVerificationError:
        return False
    finally:
        server.close()


async def test_clients_accept_what_it_issues_under_its_names_only():
    root = make_root("cluster.local", NOW)
    issued = Authority(root).server(NAMES, NOW, DAY)
    assert (issued.not_before, issued.not_after) == (NOW - SKEW, NOW + DAY)
    for host in NAMES:
        assert await handshake(issued, root.bundle, host)
    assert not await handshake(issued, root.bundle, "pypilot.istio-system.svc")
    assert not await handshake(issued, make_root("other", NOW).bundle, "istiod")


async def test_a_plugged_in_intermediate_shows_its_way_to_the_root():
    data = intermediate("operator")
    root = parse_root(data, NOW)
    assert root.bundle == data["root-cert.pem"]
    assert root.chain == data["ca-cert.pem"]
    issued = Authority(root).server(NAMES, NOW, DAY)
    key = ssl.create_default_context(cadata=root.bundle.decode())
    assert key.cert_store_stats()["x509_ca"] == 1
    certificates = x509.load_pem_x509_certificates(issued.chain)
    certificates[0].verify_directly_issued_by(certificates[1])
    certificates[1].verify_directly_issued_by(x509.load_pem_x509_certificate(root.bundle))


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["p384", "rsa", "ed25519"],
)
def test_other_keys_sign_too(key):
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name("x")).issuer_name(name("x")).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - DAY).not_valid_after(now + DAY)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    from cryptography.hazmat.primitives import hashes

    certificate = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    root = parse_root({"ca-cert.pem": certificate.public_bytes(Encoding.PEM), "ca-key.pem": pem(key)}, NOW)
    issued = Authority(root).server(NAMES, NOW, timedelta(days=30))
    assert issued.not_after <= certificate.not_valid_after_utc  # never beyond its CA
    x509.load_pem_x509_certificates(issued.chain)[0].verify_directly_issued_by(certificate)


def broken():
    root, other = make_root("a", NOW), make_root("b", NOW)
    good = secret_data(root)
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    leaf = sign(name("l"), name("l"), leaf_key.public_key(), leaf_key, [])
    locked = leaf_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    short = make_root("c", NOW - ROOT_LIFETIME)
    return {
        "nothing": ({}, "missing"),
        "no key": ({**good, "ca-key.pem": b""}, "missing"),
        "no certificate": ({**good, "ca-cert.pem": b""}, "missing"),
        "garbage certificate": ({**good, "ca-cert.pem": b"x"}, "PEM"),
        "garbage key": ({**good, "ca-key.pem": b"x"}, "PEM"),
        "garbage chain": ({**good, "cert-chain.pem": b"x"}, "cert-chain"),
        "garbage root": ({**good, "root-cert.pem": b"x"}, "root-cert"),
        "locked key": ({**good, "ca-key.pem": locked}, "unencrypted"),
        "another's key": ({**good, "ca-key.pem": other.key}, "does not belong"),
        "another's root": ({**good, "root-cert.pem": other.bundle}, "does not lead"),
        "no CA": ({"ca-cert.pem": leaf.public_bytes(Encoding.PEM), "ca-key.pem": pem(leaf_key)}, "not the certificate"),
        "expired": (secret_data(short), "expired"),
        "of tomorrow": (secret_data(make_root("d", NOW + DAY)), "not valid yet"),
    }


@pytest.mark.parametrize("what", sorted(broken()))
def test_what_cannot_be_a_root(what):
    data, reason = broken()[what]
    with pytest.raises(ValueError, match=reason) as error:
        parse_root(data, NOW)
    assert "BEGIN" not in str(error.value)


def test_keys_show_nowhere():
    root = make_root("a", NOW)
    issued = Authority(root).server(NAMES, NOW, DAY)
    for shown in (repr(root), str(root), repr(issued), str(issued)):
        assert "PRIVATE" not in shown
        assert root.key.decode().splitlines()[1] not in shown


def test_long_names_are_no_trouble():
    root = make_root("o" * 100, NOW)
    issued = Authority(root).server([f"{'x' * 60}.{'y' * 60}.svc"], NOW, DAY)
    certificate = x509.load_pem_x509_certificates(issued.chain)[0]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [f"{'x' * 60}.{'y' * 60}.svc"]
