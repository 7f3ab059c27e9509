"""Certificates on request: whose, for how long, and who may ask for another's. Knows no transport.

Source: CA-001…004, CA-007.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from pypilot.security.authority import Authority, ExpiredError, RequestError, requested_key
from pypilot.security.impersonation import Caller
from pypilot.security.x509 import Root, key_pem

Code = Literal["INVALID_ARGUMENT", "PERMISSION_DENIED", "UNAVAILABLE", "INTERNAL"]
_LONGEST_SECONDS: Final = 10 * 366 * 86_400


class IssueError(Exception):
    """No certificate; says why, without quoting the request."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Of workload certificates (CA-003)."""

    default: timedelta = timedelta(hours=24)
    longest: timedelta = timedelta(days=90)
    shortest: timedelta = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class MadeCredential:
    """A workload's key, made here, and its certificate."""

    chain: tuple[str, ...]
    """As for a request."""
    key: bytes = field(repr=False)
    """PEM."""
    not_after: datetime


@dataclass(slots=True)
class IssuingStatistics:
    """Counters since the start."""

    requests: int = 0
    issued: int = 0
    bad_requests: int = 0
    denied: int = 0
    failed: int = 0


class CertificateIssuer:
    """Signs with whatever root there is at that moment."""

    def __init__(
        self,
        root: Callable[[], Root | None],
        may_impersonate: Callable[[Caller, str], bool] = lambda *_: False,
        lifetimes: Lifetimes | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`may_impersonate` says if a caller may have a certificate of another SPIFFE id (CA-004)."""
        self._root = root
        self._may_impersonate = may_impersonate
        self._lifetimes = lifetimes or Lifetimes()
        self._now = now
        self._authority: Authority | None = None
        self.statistics = IssuingStatistics()
        self._log = structlog.get_logger("pypilot.security")

    async def issue(self, caller: Caller, csr: str, seconds: int, metadata: Mapping[str, object]) -> tuple[str, ...]:
        """The chain for a request: the certificate, what leads to the root, the roots. PEM.

        Args:
            caller: who asks.
            csr: PKCS #10 in PEM.
            seconds: how long it shall hold; 0 or less leaves it to us, too long is cut.
            metadata: `ImpersonatedIdentity`: whose certificate it shall be, if not the caller's.

        Raises:
            IssueError: there is none.
        """
        self.statistics.requests += 1
        try:
            chain = await self._issue(caller, csr, seconds, metadata)
        except IssueError as error:
            self._count(error.code)
            self._log.warning("no certificate issued", caller=str(caller), reason=str(error))
            raise
        except Exception as error:  # a CA of a strange kind; the reason is for our log only
            self.statistics.failed += 1
            self._log.error("signing failed", caller=str(caller), reason=type(error).__name__)
            raise IssueError("INTERNAL", "signing failed") from None
        self.statistics.issued += 1
        return chain

    async def credential(self, caller: Caller) -> MadeCredential:
        """A new key with its certificate, of the caller's own identity and the usual lifetime.

        Raises:
            IssueError: there is none.
        """
        self.statistics.requests += 1
        try:
            authority, lifetime, now = self._current(), self._lifetime(0), self._now()

            def make() -> MadeCredential:
                key = ec.generate_private_key(ec.SECP256R1())
                signed = authority.workload(key.public_key(), str(caller), now, lifetime)
                return MadeCredential(signed.chain, key_pem(key), signed.not_after)

            made = await asyncio.to_thread(make)
        except IssueError as error:
            self._count(error.code)
            raise
        except ExpiredError as error:
            self.statistics.failed += 1
            raise IssueError("UNAVAILABLE", str(error)) from None
        except Exception as error:  # as for a request
            self.statistics.failed += 1
            self._log.error("signing failed", caller=str(caller), reason=type(error).__name__)
            raise IssueError("INTERNAL", "signing failed") from None
        self.statistics.issued += 1
        return made

    async def _issue(self, caller: Caller, csr: str, seconds: int, metadata: Mapping[str, object]) -> tuple[str, ...]:
        identity = self._whose(caller, metadata)
        authority = self._current()
        lifetime = self._lifetime(seconds)
        now = self._now()

        def sign() -> tuple[str, ...]:
            return authority.workload(requested_key(csr.encode()), identity, now, lifetime).chain

        try:
            return await asyncio.to_thread(sign)  # OpenSSL lets others run meanwhile
        except RequestError as error:
            raise IssueError("INVALID_ARGUMENT", str(error)) from None
        except ExpiredError as error:
            raise IssueError("INTERNAL", str(error)) from None

    def _whose(self, caller: Caller, metadata: Mapping[str, object]) -> str:
        if metadata.get("CertSigner"):
            raise IssueError("INVALID_ARGUMENT", "CertSigner: other signers than this CA are not supported")
        wanted = metadata.get("ImpersonatedIdentity")
        if wanted in (None, "", str(caller)):
            return str(caller)
        if not isinstance(wanted, str) or not self._may_impersonate(caller, wanted):
            raise IssueError("PERMISSION_DENIED", f"{caller} may not have a certificate of another identity")
        return wanted

    def _lifetime(self, seconds: int) -> timedelta:
        if seconds <= 0:
            return min(self._lifetimes.default, self._lifetimes.longest)
        wanted = timedelta(seconds=min(seconds, _LONGEST_SECONDS))
        return max(min(wanted, self._lifetimes.longest), self._lifetimes.shortest)

    def _current(self) -> Authority:
        root = self._root()
        if root is None:
            raise IssueError("UNAVAILABLE", "there is no root to sign with yet")
        if self._authority is None or self._authority.root is not root:
            self._authority = Authority(root)
        return self._authority

    def _count(self, code: Code) -> None:
        if code == "INVALID_ARGUMENT":
            self.statistics.bad_requests += 1
        elif code == "PERMISSION_DENIED":
            self.statistics.denied += 1
        else:
            self.statistics.failed += 1
