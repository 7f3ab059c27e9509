"""TLS of a port: keys and certificates from wherever they are kept, as contexts that follow their changes (XAUTH-005).

Knows no peer and decides nothing about one. Keys stay in memory, or in the files that the user gave.
"""

import os
import ssl
import tempfile
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from pypilot.settings import CompliancePolicy

_FIPS_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
)


class TlsMaterial(NamedTuple):
    """What a server's TLS is made of, all PEM."""

    key: bytes
    chain: bytes
    client_ca: bytes | None
    """With it a client may show a certificate, which must be signed by one of these. Without it none is asked for."""

    def __repr__(self) -> str:
        return "TlsMaterial(...)"


class TlsSource(Protocol):
    """Where a port's TLS comes from."""

    def stamp(self) -> Hashable:
        """Changes when `read` would bring something else.

        Raises:
            OSError: it cannot be known.
        """
        ...

    def read(self) -> tuple[bytes, bytes, bytes | None]:
        """Key, chain and client CA.

        Raises:
            ValueError, OSError: there are none that can be used.
        """
        ...


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of a TLS port; they are read again when they change."""

    certificate: Path
    """The server's certificate chain, PEM."""
    key: Path
    client_ca: Path | None = None

    def read(self) -> TlsMaterial:
        """Key, chain and client CA.

        Raises:
            ValueError: something is not PEM, or the key is not the certificate's.
            OSError: a file cannot be read.
        """
        key, chain = self.key.read_bytes(), self.certificate.read_bytes()
        ca = self.client_ca.read_bytes() if self.client_ca else None
        if ca is not None:
            x509.load_pem_x509_certificates(ca)
        leaf = x509.load_pem_x509_certificates(chain)[0].public_key()
        own = load_pem_private_key(key, password=None).public_key()
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if leaf.public_bytes(*form) != own.public_bytes(*form):
            raise ValueError("the private key does not belong to the certificate")
        return TlsMaterial(key, chain, ca)

    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Changes when a file was replaced or written."""
        files = (self.certificate, self.key, self.client_ca)
        stats = [path.stat() for path in files if path is not None]
        return tuple((s.st_mtime_ns, s.st_ino, s.st_size) for s in stats)


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path under which only this process finds `content`: Python's `ssl` takes keys from files only."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("pypilot-tls"), "wb") as memory:
            memory.write(content)
            memory.flush()
            yield f"/proc/self/fd/{memory.fileno()}"
        return
    with tempfile.NamedTemporaryFile(prefix="pypilot-tls-") as file:  # mode 0600
        file.write(content)
        file.flush()
        yield file.name


def load_certificate(context: ssl.SSLContext, key: bytes, chain: bytes) -> None:
    """Let a context show this certificate in its next handshakes.

    Raises:
        ssl.SSLError: it cannot be used.
    """
    with _as_file(key + b"\n" + chain) as path:
        context.load_cert_chain(path)


def comply(context: ssl.SSLContext, policy: CompliancePolicy) -> None:
    """Narrow a context of our own (DR-079). Post-quantum curves are for OpenSSL's configuration."""
    if policy.startswith("fips"):
        context.set_ciphers(_FIPS_CIPHERS)
        context.set_ecdh_curve("prime256v1")
    if policy == "fips-140-2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    elif policy == "pqc":
        context.minimum_version = ssl.TLSVersion.TLSv1_3


def server_context(
    material: TlsMaterial, protocols: tuple[str, ...] = ("h2",), compliance: CompliancePolicy = "none"
) -> ssl.SSLContext:
    """A context for one state of the material. Sessions are not resumed by ticket: each handshake verifies anew.

    Raises:
        ValueError: a CA cannot be read.
        ssl.SSLError: the certificate cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    comply(context, compliance)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.set_alpn_protocols(list(protocols))
    load_certificate(context, material.key, material.chain)
    if material.client_ca is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=material.client_ca.decode("ascii"))
    return context


class TlsContexts:
    """The context for the next handshake. Material that cannot be used is reported once and changes nothing."""

    def __init__(
        self, source: TlsSource, protocols: tuple[str, ...] = ("h2",), compliance: CompliancePolicy = "none"
    ) -> None:
        """Read for the first time.

        Raises:
            ValueError, OSError: as `TlsSource.read`.
        """
        self._source = source
        self._protocols = protocols
        self._compliance = compliance
        self._log = structlog.get_logger()
        self._stamp = source.stamp()
        self._refused: Hashable = None
        self._context = server_context(TlsMaterial(*source.read()), protocols, compliance)

    def current(self) -> ssl.SSLContext:
        """Made of what the source has now, or of the last that was good."""
        stamp: Hashable = None
        try:
            stamp = self._source.stamp()
            if stamp in (self._stamp, self._refused):
                return self._context
            self._context = server_context(TlsMaterial(*self._source.read()), self._protocols, self._compliance)
        except (OSError, ValueError) as error:
            if stamp is None or stamp != self._refused:
                self._log.warning("xds.tls_not_reloaded", reason=str(error))
            self._refused = stamp
            return self._context
        self._stamp, self._refused = stamp, None
        self._log.info("xds.tls_reloaded")
        return self._context
