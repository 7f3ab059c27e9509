"""Who may connect: authenticators that turn a peer into an identity, and the check of that identity against the node.

Only the TLS port is authenticated (XAUTH-002). Authenticators are asked in order and the first that knows the peer wins
(XAUTH-001), so that another kind of credential is one more class here. Nothing here looks at resources.

Source: https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md; XAUTH rows.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import unquote

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from pypilot.wire.node import Proxy

_SPIFFE = re.compile(r"spiffe://(?P<td>[^/]+)/ns/(?P<ns>[^/]+)/sa/(?P<sa>[^/]+)")


class DeniedError(Exception):
    """The peer may not connect."""

    def __init__(self, code: Literal["UNAUTHENTICATED", "PERMISSION_DENIED"], reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Identity:
    """A workload identity that was proved."""

    trust_domain: str
    namespace: str
    service_account: str

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


@dataclass(frozen=True, slots=True)
class Peer:
    """What is known of the other end of a connection before it says a word."""

    address: str
    """As gRPC gives it, e.g. `ipv4:127.0.0.1:40312`."""
    secure: bool
    certificate: bytes = b""
    """The client certificate in PEM, verified against the client CA; empty if there is none."""
    metadata: Mapping[str, str] | None = None
    """Request headers, where tokens travel."""

    @property
    def loopback(self) -> bool:
        """True if the peer is a process of this machine."""
        scheme, _, rest = self.address.partition(":")
        if scheme == "unix":
            return True
        try:
            address = ip_address(unquote(rest.rpartition(":")[0]).strip("[]"))
        except ValueError:
            return False
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback


class Authenticator(Protocol):
    """One way to prove an identity."""

    async def authenticate(self, peer: Peer) -> Identity | None:
        """The peer's identity; None if it shows no credential of this kind, or one that is not good."""


class CertificateAuthenticator:
    """A client certificate whose one URI name is a SPIFFE id of a Kubernetes service account."""

    async def authenticate(self, peer: Peer) -> Identity | None:
        if not peer.certificate:
            return None
        try:
            certificate = x509.load_pem_x509_certificate(peer.certificate)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, x509.ExtensionNotFound):
            return None
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        match = _SPIFFE.fullmatch(uris[0]) if len(uris) == 1 else None
        return Identity(match["td"], match["ns"], match["sa"]) if match else None


async def authenticate(peer: Peer, authenticators: Sequence[Authenticator]) -> Identity:
    """The identity that the first willing authenticator gives.

    Raises:
        DeniedError: UNAUTHENTICATED, none knows the peer.
    """
    for authenticator in authenticators:
        if (identity := await authenticator.authenticate(peer)) is not None:
            return identity
    raise DeniedError("UNAUTHENTICATED", "no valid credential: a client certificate with a SPIFFE identity is needed")


def authorize(identity: Identity, proxy: Proxy) -> Proxy:
    """The proxy with its proven service account, if it claims no other identity than its own (XAUTH-003).

    Raises:
        DeniedError: PERMISSION_DENIED.
    """
    if identity.namespace != proxy.namespace:
        raise DeniedError(
            "PERMISSION_DENIED", f"{identity} may not act for a proxy in namespace {proxy.namespace!r} ({proxy.id})"
        )
    if proxy.service_account and identity.service_account != proxy.service_account:
        raise DeniedError(
            "PERMISSION_DENIED", f"{identity} may not act for service account {proxy.service_account!r} ({proxy.id})"
        )
    return replace(proxy, service_account=identity.service_account)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of a TLS port; they are read again when they change (XAUTH-005)."""

    certificate: Path
    """The server's certificate chain, PEM."""
    key: Path
    client_ca: Path | None = None
    """With it, clients must show a certificate that it signed: gRPC offers Python no "if given". Without it no client
    certificate is asked for."""

    def read(self) -> tuple[bytes, bytes, bytes | None]:
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
        return key, chain, ca

    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Changes when a file was replaced or written."""
        files = (self.certificate, self.key, self.client_ca)
        stats = [path.stat() for path in files if path is not None]
        return tuple((s.st_mtime_ns, s.st_ino, s.st_size) for s in stats)


class _Reload:
    """Called by gRPC before each handshake: new certificates, or None to keep the present ones."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._log = structlog.get_logger()
        self._stamp = files.stamp()

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        try:
            stamp = self._files.stamp()
            if stamp == self._stamp:
                return None
            key, chain, ca = self._files.read()
        except (OSError, ValueError) as error:
            self._log.warning("xds.tls_not_reloaded", certificate=str(self._files.certificate), reason=str(error))
            return None
        self._stamp = stamp
        self._log.info("xds.tls_reloaded", certificate=str(self._files.certificate))
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=ca)


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials of a TLS port that follow their files.

    Raises:
        ValueError, OSError: as `TlsFiles.read`.
    """
    reload = _Reload(files)
    key, chain, ca = files.read()
    initial = grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=ca)
    return grpc.dynamic_ssl_server_credentials(initial, reload, require_client_authentication=ca is not None)
