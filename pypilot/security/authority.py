"""A CA at work: certificates for servers and for workloads. Pure: times come in as arguments, keys show in no repr.

Of a workload's request only the key counts; who it is was proved before, and stands in the certificate (CA-002).

Source: RFC 5280, RFC 2986; https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md; CA-001…003.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pypilot.security.x509 import SKEW, Issued, Root, key_pem, key_usage, load_signer, signature_hash

LONGEST_REQUEST: Final = 64 * 1024
"""Bytes of a PEM request that are looked at."""
_RSA_BITS: Final = range(2048, 8193)
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_WORKLOAD_USES: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
_SERVER_USES: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey


class RequestError(ValueError):
    """A certificate request that cannot be granted; says why, and quotes nothing of it."""


class ExpiredError(Exception):
    """The CA itself has expired."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A workload's certificate."""

    chain: tuple[str, ...]
    """PEM: the certificate, each certificate that leads to the root, the trusted roots together (CA-001)."""
    not_after: datetime


def requested_key(csr: bytes) -> PublicKey:
    """The key of a PKCS #10 request in PEM, of which its sender has shown that it is its own.

    Raises:
        RequestError: there is none, or none that may be used.
    """
    if len(csr) > LONGEST_REQUEST:
        raise RequestError(f"the certificate request is longer than {LONGEST_REQUEST} bytes")
    try:
        request = x509.load_pem_x509_csr(csr)
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise RequestError("this is no certificate request in PEM") from None
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size not in _RSA_BITS:
            raise RequestError(f"an RSA key of {key.key_size} bits is not taken")
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, _CURVES):
            raise RequestError(f"a key on the curve {key.curve.name} is not taken")
    elif not isinstance(key, ed25519.Ed25519PublicKey):
        raise RequestError("a key of this kind is not taken")
    try:
        is_own = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm):
        is_own = False
    if not is_own:
        raise RequestError("the signature of the certificate request is wrong")
    return key


class Authority:
    """A CA whose key is read once."""

    def __init__(self, root: Root) -> None:
        """`root` must be sound (`x509.parse_root`)."""
        self.root = root
        self._signer = load_signer(root.key)
        self._hash = signature_hash(self._signer)
        self._certificate = x509.load_pem_x509_certificate(root.certificate)
        self._identifier = _identifier(self._certificate)
        between = x509.load_pem_x509_certificates(root.chain) if root.chain else []
        self._tail = (*(c.public_bytes(Encoding.PEM).decode("ascii") for c in between), root.bundle.decode("ascii"))

    def server(self, names: Sequence[str], now: datetime, lifetime: timedelta) -> Issued:
        """A certificate with a new key for a server with these DNS names and IP addresses (XAUTH-005)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
        alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
        certificate = self._issue(key.public_key(), subject, alternatives, _SERVER_USES, now, lifetime)
        chain = certificate.public_bytes(Encoding.PEM) + self.root.chain
        return Issued(chain, key_pem(key), certificate.not_valid_before_utc, certificate.not_valid_after_utc)

    def workload(self, key: PublicKey, identity: str, now: datetime, lifetime: timedelta) -> Signed:
        """A certificate for a SPIFFE id, whatever else was asked for (CA-002, CA-003).

        Raises:
            ExpiredError: nothing that it signs would hold.
        """
        if now >= self._certificate.not_valid_after_utc:
            raise ExpiredError("the CA has expired")
        alternatives = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
        certificate = self._issue(key, x509.Name([]), alternatives, _WORKLOAD_USES, now, lifetime)
        leaf = certificate.public_bytes(Encoding.PEM).decode("ascii")
        return Signed((leaf, *self._tail), certificate.not_valid_after_utc)

    def _issue(
        self,
        key: PublicKey,
        subject: x509.Name,
        names: x509.SubjectAlternativeName,
        uses: x509.ExtendedKeyUsage,
        now: datetime,
        lifetime: timedelta,
    ) -> x509.Certificate:
        """No certificate outlives its CA, nor begins before it."""
        usage = key_usage(is_ca=False, enciphers=isinstance(key, rsa.RSAPublicKey))
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(now - SKEW, self._certificate.not_valid_before_utc))
            .not_valid_after(min(now + lifetime, self._certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(uses, critical=False)
            .add_extension(names, critical=not list(subject))  # RFC 5280 4.2.1.6
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(self._identifier, critical=False)
            .sign(self._signer, self._hash)
        )


def _identifier(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
            certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        )
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(certificate.public_key())  # type: ignore[arg-type]


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
