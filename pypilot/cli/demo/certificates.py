"""Certificates of a throw-away authority: what the demo's gateway and its external host show.

Keys are made in memory; nothing is written here. Not the mesh's certificate authority.
"""

import base64
import datetime
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_PURPOSES = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes
    serial: int

    def __repr__(self) -> str:
        return f"Certificate(serial={short(self.serial)}…)"

    def server_context(self, on_sni: Callable[[str | None], None] | None = None) -> ssl.SSLContext:
        """A context for a server that shows this certificate; `on_sni` hears the server name of each handshake."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.load_into(context)
        if on_sni is not None:
            hear = on_sni
            context.sni_callback = lambda _socket, name, _context: hear(name)
        return context

    def load_into(self, context: ssl.SSLContext) -> None:
        """Let a context show this certificate."""
        with tempfile.NamedTemporaryFile() as file:  # made with mode 0600
            file.write(self.certificate + self.key)
            file.flush()
            context.load_cert_chain(file.name)

    def secret_yaml(self, name: str, namespace: str) -> str:
        """A Kubernetes Secret of type `kubernetes.io/tls`, as `kubectl create secret tls` would make it."""
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": namespace},
                "type": "kubernetes.io/tls",
                "data": {
                    "tls.crt": base64.b64encode(self.certificate).decode(),
                    "tls.key": base64.b64encode(self.key).decode(),
                },
            },
            sort_keys=False,
        )

    def with_key_of(self, other: "Certificate") -> "Certificate":
        """A pair that does not match: this certificate with another's key."""
        return Certificate(self.certificate, other.key, self.serial)


def short(serial: int) -> str:
    """The first digits of a serial number, for people."""
    return f"{serial:x}"[:12]


class Authority:
    """A certificate authority that lives as long as the process."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        now = datetime.datetime.now(datetime.UTC)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        """The authority's own certificate: what clients trust."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def write(self, path: Path) -> None:
        """Write the authority's certificate, readable by all: it is public."""
        path.write_bytes(self.pem)
        path.chmod(0o644)

    def issue(self, *hosts: str, valid: datetime.timedelta = datetime.timedelta(days=7)) -> Certificate:
        """A certificate for the hosts, as servers or clients, with a serial number and key of its own.

        Args:
            hosts: DNS names; the first is also the common name.
            valid: How long from now on; negative for one that has expired.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        serial = x509.random_serial_number()
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_named(hosts[0]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(min(now, now + valid) - datetime.timedelta(hours=1))
            .not_valid_after(now + valid)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(h) for h in hosts]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_PURPOSES), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Certificate(certificate.public_bytes(serialization.Encoding.PEM), _pem_key(key), serial)

    def client_context(self, certificate: Certificate | None = None) -> ssl.SSLContext:
        """A context for a client that trusts only this authority, checks host names, and may show a certificate."""
        context = ssl.create_default_context(cadata=self.pem.decode())
        if certificate is not None:
            certificate.load_into(context)
        return context


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
