"""Certificates of the throw-away authority."""

import asyncio
import base64
import datetime
import ssl

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pypilot.cli.demo.certificates import Authority, Certificate


async def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> x509.Certificate:
    """The certificate that a client sees."""
    listening = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=server)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return x509.load_der_x509_certificate(shown)


async def test_a_client_of_the_authority_trusts_it_for_its_hosts_only() -> None:
    authority = Authority("one")
    certificate = authority.issue("a.example", "b.example")
    heard: list[str | None] = []
    server = certificate.server_context(heard.append)
    shown = await handshake(server, authority.client_context(), "b.example")
    assert shown.serial_number == certificate.serial
    assert heard == ["b.example"]
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await handshake(server, authority.client_context(), "c.example")
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        await handshake(server, Authority("two").client_context(), "a.example")


async def test_an_expired_one_is_refused() -> None:
    authority = Authority("one")
    server = authority.issue("a.example", valid=datetime.timedelta(hours=-1)).server_context()
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        await handshake(server, authority.client_context(), "a.example")


def key_matches(certificate: Certificate) -> bool:
    key = serialization.load_pem_private_key(certificate.key, None)
    public = x509.load_pem_x509_certificate(certificate.certificate).public_key()
    raw = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(*raw) == public.public_bytes(*raw)


def test_pairs_match_unless_made_not_to() -> None:
    authority = Authority("one")
    one, two = authority.issue("a.example"), authority.issue("a.example")
    assert one.serial != two.serial
    assert key_matches(one)
    assert not key_matches(one.with_key_of(two))


def test_the_secret_is_what_kubectl_makes_and_keys_stay_out_of_repr() -> None:
    certificate = Authority("one").issue("a.example")
    secret = yaml.safe_load(certificate.secret_yaml("pair", "demo"))
    assert secret["type"] == "kubernetes.io/tls"
    assert secret["metadata"] == {"name": "pair", "namespace": "demo"}
    assert base64.b64decode(secret["data"]["tls.crt"]) == certificate.certificate
    assert base64.b64decode(secret["data"]["tls.key"]) == certificate.key
    assert "PRIVATE" not in repr(certificate)
