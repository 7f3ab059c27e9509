"""Who may connect: authenticators that turn a peer into an identity, and the check of that identity against the node.

Only the TLS port is authenticated (XAUTH-002). Authenticators are asked in order and the first that knows the peer wins
(XAUTH-001), so that another kind of credential is one more class. A credential that is no good is never as good as
none: without one that holds, the peer is refused. Nothing here looks at resources.

Source: https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md; XAUTH rows.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Literal, Protocol
from urllib.parse import unquote

from cryptography import x509

from pypilot.wire.node import Proxy

_SPIFFE = re.compile(r"spiffe://(?P<td>[^/]+)/ns/(?P<ns>[^/]+)/sa/(?P<sa>[^/]+)")


class DeniedError(Exception):
    """The peer may not connect."""

    def __init__(
        self,
        code: Literal["UNAUTHENTICATED", "PERMISSION_DENIED", "UNAVAILABLE", "FAILED_PRECONDITION"],
        reason: str,
    ) -> None:
        super().__init__(reason)
        self.code = code
        """UNAVAILABLE: it cannot be known now; the peer may try again."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A workload identity that was proved."""

    trust_domain: str
    namespace: str
    service_account: str
    pod: str = ""
    """The pod that the credential is bound to, where it is bound to one."""

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
    metadata: Mapping[str, str] | None = field(default=None, repr=False)
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
        """The peer's identity; None if it shows no credential of this kind.

        Raises:
            DeniedError: it shows one that is not good.
        """


class CertificateAuthenticator:
    """A client certificate whose one URI name is a SPIFFE id of a Kubernetes service account."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now

    async def authenticate(self, peer: Peer) -> Identity | None:
        if not peer.certificate:
            return None
        try:
            certificate = x509.load_pem_x509_certificate(peer.certificate)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, x509.ExtensionNotFound):
            raise DeniedError("UNAUTHENTICATED", "the client certificate has no SPIFFE identity") from None
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        match = _SPIFFE.fullmatch(uris[0]) if len(uris) == 1 else None
        if match is None:
            raise DeniedError("UNAUTHENTICATED", "the client certificate has no SPIFFE identity")
        if self._now() > certificate.not_valid_after_utc:  # the connection may be older than that
            raise DeniedError("UNAUTHENTICATED", "the client certificate has expired")
        return Identity(match["td"], match["ns"], match["sa"])


async def authenticate(peer: Peer, authenticators: Sequence[Authenticator]) -> Identity:
    """The identity that the first willing authenticator gives.

    Raises:
        DeniedError: none knows the peer; UNAVAILABLE if one might know it later.
    """
    denials = []
    for authenticator in authenticators:
        try:
            if (identity := await authenticator.authenticate(peer)) is not None:
                return identity
        except DeniedError as error:
            denials.append(error)
    if not denials:
        raise DeniedError("UNAUTHENTICATED", "no credential: a client certificate or a token is needed")
    later = any(error.code == "UNAVAILABLE" for error in denials)
    raise DeniedError("UNAVAILABLE" if later else "UNAUTHENTICATED", "; ".join(str(error) for error in denials))


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
