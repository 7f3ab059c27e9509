"""What a Secret or ConfigMap holds for TLS, and whether it can be served (KSVC-040…042, GW-047).

Pure functions of bytes. Reasons never contain anything of a key or certificate but dates. Whether a certificate is
expired is for those who have a clock: `Credential` says until when it is good.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from pypilot.kinds.config_map import ConfigMap
from pypilot.kinds.secret import Secret

_PAIR_KEYS = (("cert", "key"), ("tls.crt", "tls.key"))
_STAPLE_KEYS = {"cert": "", "tls.crt": "tls.ocsp-staple"}
_CA_KEYS = (("cacert", "crl"), ("ca.crt", "ca.crl"))
_MINIMUM_RSA_BITS = 2048
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_DER = serialization.Encoding.DER
_SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


class KeyPair(NamedTuple):
    """A certificate chain and its key as a Secret holds them, and under which keys."""

    certificate: bytes
    private_key: bytes
    staple: bytes
    certificate_key: str
    private_key_key: str

    def __repr__(self) -> str:
        return f"KeyPair({self.certificate_key}, {self.private_key_key})"


class TrustedCA(NamedTuple):
    """CA certificates and, optionally, revocations, as a Secret or ConfigMap holds them."""

    certificates: bytes
    revocations: bytes
    certificates_key: str
    revocations_key: str


@dataclass(frozen=True, slots=True)
class Credential:
    """A pair that can be served. Times are Unix seconds."""

    not_before: float
    not_after: float


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why something must not be served, and which half is to blame."""

    reason: str
    blames_key: bool = False


# -- reading ----------------------------------------------------------------------------------------------------------


def pair_of(secret: Secret) -> KeyPair | None:
    """The certificate and key: `cert`+`key` if both have content, else `tls.crt`+`tls.key`; None if neither."""
    for certificate_key, private_key_key in _PAIR_KEYS:
        certificate, private_key = secret.value(certificate_key), secret.value(private_key_key)
        if certificate and private_key:
            staple = secret.value(_STAPLE_KEYS[certificate_key]) if _STAPLE_KEYS[certificate_key] else b""
            return KeyPair(certificate, private_key, staple, certificate_key, private_key_key)
    return None


def half_pair(secret: Secret) -> str | None:
    """The half without content of what is meant as a pair; None if nothing is.

    A lone `key` or `cert` may be anything, so those names count only together.
    """
    stated = {*secret.data, *secret.string_data}
    for keys in _PAIR_KEYS:
        empty = [key for key in keys if not secret.value(key)]
        meant = stated.issuperset(keys) or (keys == _PAIR_KEYS[1] and not stated.isdisjoint(keys))
        if meant and empty:
            return empty[0]
    return None


def ca_of(holder: Secret | ConfigMap) -> TrustedCA | None:
    """The CA certificates: `cacert` with `crl`, else `ca.crt` with `ca.crl`; None if neither has content."""
    for ca_key, crl_key in _CA_KEYS:
        if certificates := _value(holder, ca_key):
            return TrustedCA(certificates, _value(holder, crl_key), ca_key, crl_key)
    return None


def _value(holder: Secret | ConfigMap, key: str) -> bytes:
    return holder.value(key) if isinstance(holder, Secret) else holder.data.get(key, "").encode()


# -- judging ----------------------------------------------------------------------------------------------------------


def _private_key(pem: bytes) -> PrivateKeyTypes | Rejection:
    try:
        return serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        return Rejection("the private key is encrypted: Envoy has no password for it", blames_key=True)
    except (ValueError, UnsupportedAlgorithm):
        return Rejection("the private key is not a PEM private key", blames_key=True)


def _unusable(key: PrivateKeyTypes) -> str:
    """Why Envoy (its BoringSSL) takes no key of this kind; empty if it does."""
    match key:
        case rsa.RSAPrivateKey():
            small = key.key_size < _MINIMUM_RSA_BITS
            return f"the RSA key has {key.key_size} bits: Envoy wants at least {_MINIMUM_RSA_BITS}" if small else ""
        case ec.EllipticCurvePrivateKey():
            known = isinstance(key.curve, _CURVES)
            return "" if known else f"Envoy does not take the curve {key.curve.name}: use P-256, P-384 or P-521"
        case ed25519.Ed25519PrivateKey():
            return ""
        case _:
            return "the private key is neither RSA, ECDSA nor Ed25519: Envoy takes no other"


def check_pair(certificate: bytes, private_key: bytes) -> Credential | Rejection:
    """Whether Envoy can serve the pair: both readable, of a kind that it takes, and made for each other."""
    try:
        leaf = x509.load_pem_x509_certificates(certificate)[0]
        certified = leaf.public_key().public_bytes(_DER, _SPKI)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return Rejection("the certificate is not a PEM certificate chain that can be read")
    key = _private_key(private_key)
    if isinstance(key, Rejection):
        return key
    if reason := _unusable(key):
        return Rejection(reason, blames_key=True)
    if certified != key.public_key().public_bytes(_DER, _SPKI):
        return Rejection("the certificate and the private key do not match", blames_key=True)
    return Credential(leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp())


def check_ca(certificates: bytes) -> Credential | Rejection:
    """Whether the bytes are PEM certificates. They are good from the first start to the last end."""
    try:
        bundle = x509.load_pem_x509_certificates(certificates)
    except (ValueError, x509.InvalidVersion):
        return Rejection("not PEM certificates")
    return Credential(
        min(c.not_valid_before_utc.timestamp() for c in bundle), max(c.not_valid_after_utc.timestamp() for c in bundle)
    )


def check_revocations(pem: bytes) -> Rejection | None:
    """None if the bytes hold only PEM revocation lists."""
    try:
        for block in _pem_blocks(pem):
            x509.load_pem_x509_crl(block)
    except ValueError:
        return Rejection("not a PEM certificate revocation list")
    return None


def _pem_blocks(pem: bytes) -> Iterable[bytes]:
    end = b"-----END X509 CRL-----"
    parts = pem.split(end)
    if len(parts) == 1:
        raise ValueError("no revocation list")
    return [part + end for part in parts[:-1]]
