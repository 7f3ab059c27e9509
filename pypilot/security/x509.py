"""X.509: make a root, read one. Pure: times come in as arguments, keys show in no repr.

Source: RFC 5280; the form of Istio's own CA (CA-006).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

CA_CERTIFICATE: Final = "ca-cert.pem"
CA_KEY: Final = "ca-key.pem"
CHAIN: Final = "cert-chain.pem"
ROOT: Final = "root-cert.pem"
"""Keys of the Secret that holds a CA."""

ROOT_LIFETIME: Final = timedelta(days=3650)
SKEW: Final = timedelta(minutes=10)
"""How far the clock of a client may be behind."""

Signer = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Root:
    """A CA that signs, and what those who trust it need. All PEM."""

    certificate: bytes
    key: bytes = field(repr=False)
    chain: bytes
    """What a server shows beside its own certificate; empty if the CA is a root itself."""
    bundle: bytes
    """The trusted roots."""

    @property
    def fingerprint(self) -> str:
        """Names the CA in logs."""
        return hashlib.sha256(self.certificate + self.bundle).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its key. All PEM."""

    chain: bytes
    """The certificate, then what leads to the root."""
    key: bytes = field(repr=False)
    not_before: datetime
    not_after: datetime


def key_pem(key: Signer) -> bytes:
    """A private key in PEM, unencrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def signature_hash(key: Signer) -> hashes.SHA256 | None:
    """What such a key signs with."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def key_usage(*, is_ca: bool, enciphers: bool = False) -> x509.KeyUsage:
    """The key usage of a CA, or of a TLS peer."""
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=enciphers,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def make_root(organization: str, now: datetime) -> Root:
    """A new self-signed root."""
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization[:64])])
    return _self_signed(name, ec.generate_private_key(ec.SECP256R1()), now)


def renewed_root(root: Root, now: datetime) -> Root:
    """The same self-signed root for another ten years.

    Key and name stay, so that whoever trusts either certificate trusts what was and what will be signed.
    """
    return _self_signed(x509.load_pem_x509_certificate(root.certificate).subject, load_signer(root.key), now)


def is_due(root: Root, now: datetime) -> bool:
    """True for a self-signed root of which less than a fifth of its life is left."""
    certificate = x509.load_pem_x509_certificate(root.certificate)
    if root.bundle != root.certificate or root.chain:
        return False
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return now > certificate.not_valid_after_utc - life / 5


def _self_signed(name: x509.Name, key: Signer, now: datetime) -> Root:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(key_usage(is_ca=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, signature_hash(key))
    )
    pem = certificate.public_bytes(Encoding.PEM)
    return Root(pem, key_pem(key), b"", pem)


def secret_data(root: Root) -> dict[str, bytes]:
    """The data of the Secret of a self-signed root."""
    return {CA_CERTIFICATE: root.certificate, CA_KEY: root.key, CHAIN: root.chain, ROOT: root.bundle, "key.pem": b""}


def parse_root(data: Mapping[str, bytes], now: datetime) -> Root:
    """A CA from the data of its Secret (CA-006).

    Raises:
        ValueError: it cannot be used; says why, and quotes nothing.
    """
    certificate, key = _certificates(data, CA_CERTIFICATE), load_signer(data.get(CA_KEY, b""))
    if not certificate:
        raise ValueError(f"{CA_CERTIFICATE} is missing")
    own = certificate[0]
    chain = _certificates(data, CHAIN) or certificate
    roots = _certificates(data, ROOT) or chain[-1:]
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if own.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        raise ValueError(f"{CA_KEY} does not belong to {CA_CERTIFICATE}")
    _check_ca(own, now)
    _check_path([own, *(c for c in chain if c != own)], roots)
    between = [c for c in [own, *(c for c in chain if c != own)] if c not in roots]
    return Root(_join([own]), key_pem(key), _join(between), _join(roots))


def _check_ca(certificate: x509.Certificate, now: datetime) -> None:
    try:
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        is_ca = False
    if not is_ca:
        raise ValueError(f"{CA_CERTIFICATE} is not the certificate of a CA")
    if now >= certificate.not_valid_after_utc:
        raise ValueError(f"{CA_CERTIFICATE} expired at {certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}")
    if now + SKEW < certificate.not_valid_before_utc:
        raise ValueError(f"{CA_CERTIFICATE} is not valid yet")


def _check_path(chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> None:
    """The CA must be one of the roots, or lead to one by way of the chain."""
    current = chain[0]
    for _ in range(len(chain) + 1):
        if current in roots or any(_is_issuer(root, current) for root in roots):
            return
        above = next((c for c in chain if c != current and _is_issuer(c, current)), None)
        if above is None:
            break
        current = above
    raise ValueError(f"{CA_CERTIFICATE} does not lead to {ROOT}")


def _is_issuer(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _certificates(data: Mapping[str, bytes], name: str) -> list[x509.Certificate]:
    text = data.get(name, b"")
    if not text.strip():
        return []
    try:
        return x509.load_pem_x509_certificates(text)
    except ValueError:
        raise ValueError(f"{name} is not a PEM certificate") from None


def load_signer(text: bytes) -> Signer:
    """The key of a CA.

    Raises:
        ValueError: it cannot be used.
    """
    if not text.strip():
        raise ValueError(f"{CA_KEY} is missing")
    try:
        key = load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        raise ValueError(f"{CA_KEY} is not an unencrypted PEM key") from None
    if not isinstance(key, Signer):
        raise ValueError(f"{CA_KEY} is of a kind that cannot sign here")
    return key


def _join(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(c.public_bytes(Encoding.PEM) for c in certificates)
