"""Certificates made on the spot; EC keys are quick to make."""

import datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

NOON = datetime.datetime(2026, 6, 1, 12, tzinfo=datetime.UTC)
"""The time at which the tests take place."""
DAY = datetime.timedelta(days=1)


class Pair(NamedTuple):
    certificate: str
    key: str


def new_key(kind: str = "p256"):  # type: ignore[no-untyped-def]
    match kind:
        case "p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "p224":
            return ec.generate_private_key(ec.SECP224R1())
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "rsa1024":
            return rsa.generate_private_key(65537, 1024)
        case _:
            return rsa.generate_private_key(65537, 2048)


def key_pem(key, password: bytes = b"") -> str:  # type: ignore[no-untyped-def]
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


def certificate_pem(key, name: str = "shop.example", start=NOON - DAY, end=NOON + 30 * DAY) -> str:  # type: ignore[no-untyped-def]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def new_pair(kind: str = "p256", **dates: datetime.datetime) -> Pair:
    key = new_key(kind)
    return Pair(certificate_pem(key, **dates), key_pem(key))


def revocation_list() -> str:
    key = new_key()
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca.example")])
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer)
    made = builder.last_update(NOON - DAY).next_update(NOON + DAY).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()
