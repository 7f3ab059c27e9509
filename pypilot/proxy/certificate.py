"""A workload's own certificate: asked of the CA, renewed at half its life, kept in memory alone (SDS-010).

While the CA cannot be asked, the certificate that is there is used to its end. Transport and storage are others'
business: `Ask` carries requests, listeners are told of changes.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pypilot.kube.retry import Retry
from pypilot.proxy import log

FIRST_RETRY: Final = 0.5
LONGEST_RETRY: Final = 30.0
_LONGEST_SLEEP: Final = 3600.0
_JITTER: Final = 0.1
"""Part of the time to the renewal by which it is earlier or later, so that not all of a mesh ask at once."""


_SPREAD: Final = 5.0
"""Seconds over which a mesh asks anew after a change of its roots."""

_LATE: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds after which a CA is asked again that has not read the published roots yet; in the end it knows better."""


class CertificateError(Exception):
    """The CA gave none, or none that can be used; says why."""


class Ask(Protocol):
    """Carries a certificate request to the CA."""

    async def __call__(self, csr: str, seconds: int) -> list[str]:
        """The chain in PEM, the certificate first, the roots last.

        Raises:
            CertificateError: there is none.
        """
        ...


@dataclass(frozen=True, slots=True)
class Credentials:
    """What Envoy proves itself with, and by what it knows others. All PEM."""

    chain: bytes
    key: bytes = field(repr=False)
    roots: bytes
    not_before: datetime
    not_after: datetime


def make_request(identity: str) -> tuple[ec.EllipticCurvePrivateKey, str]:
    """A new key and its request in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=True)
    return key, builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode("ascii")


def read_answer(key: ec.EllipticCurvePrivateKey, chain: list[str]) -> Credentials:
    """Credentials from the CA's answer.

    Raises:
        CertificateError: it does not belong to the key, or is not a chain.
    """
    if len(chain) < 2:
        raise CertificateError("the CA gave no chain with a root")
    try:
        leaf = x509.load_pem_x509_certificate(chain[0].encode())
        roots = chain[-1].encode()
        x509.load_pem_x509_certificates(roots)
    except ValueError:
        raise CertificateError("the CA's answer is not in PEM") from None
    if leaf.public_key() != key.public_key():
        raise CertificateError("the CA's certificate belongs to another key")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    shown = "".join(part if part.endswith("\n") else f"{part}\n" for part in chain[:-1])
    return Credentials(shown.encode(), pem, roots, leaf.not_valid_before_utc, leaf.not_valid_after_utc)


def _certificates(pem: bytes) -> frozenset[bytes]:
    try:
        return frozenset(one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(pem))
    except ValueError:
        return frozenset()


class WorkloadCertificate:
    """Keeps credentials that hold."""

    def __init__(
        self,
        identity: str,
        lifetime: timedelta,
        ask: Ask,
        *,
        more_roots: bytes = b"",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`more_roots` (PEM) are trusted beside the CA's."""
        self.credentials: Credentials | None = None
        self.error = ""
        """Why the last request failed."""
        self.renewals = 0
        self._identity = identity
        self._lifetime = lifetime
        self._ask = ask
        self._more_roots = more_roots
        self._now = now
        self._sleep = sleep
        self._chance = chance
        self._changed: list[Callable[[], None]] = []
        self._wake = asyncio.Event()
        self._published: frozenset[bytes] = frozenset()
        """Roots that the next answers should have; empty if that is not asked."""
        self._late = 0
        """How many answers in a row had others."""

    def listen(self, changed: Callable[[], None]) -> None:
        """Be told when there are other credentials."""
        self._changed.append(changed)

    def renew_soon(self, published: bytes = b"") -> None:
        """Do not wait for half of its life: there are other roots, which come with the next certificate.

        Args:
            published: those roots in PEM. A CA that gives others is asked a few times more: it may read them later.
        """
        self._published, self._late = _certificates(published), 0
        self._wake.set()

    async def run(self) -> None:
        """Ask and renew, for ever."""
        retry = Retry(FIRST_RETRY, LONGEST_RETRY, self._chance)
        while True:
            try:
                await self._renew()
                retry.succeeded()
                await self._sleep_until_renewal()
            except CertificateError as error:
                self.error = str(error)
                pause = retry.failed()
                log.warning("no certificate", reason=self.error, again_in=round(pause, 1))
                await self._sleep(pause)

    async def _renew(self) -> None:
        key, csr = make_request(self._identity)
        credentials = read_answer(key, await self._ask(csr, int(self._lifetime.total_seconds())))
        if credentials.not_after <= self._now():
            raise CertificateError("the CA's certificate has expired already")
        self.renewals += self.credentials is not None
        roots = credentials.roots if credentials.roots.endswith(b"\n") else credentials.roots + b"\n"
        self.credentials, self.error = replace(credentials, roots=roots + self._more_roots), ""
        log.info("certificate", until=credentials.not_after.isoformat("T", "seconds"))
        for changed in self._changed:
            changed()

    def _lacks_roots(self) -> bool:
        """Others are published than the CA gave."""
        if not self._published or self.credentials is None:
            return False
        return _certificates(self.credentials.roots) != self._published | _certificates(self._more_roots)

    async def _sleep_until_renewal(self) -> None:
        """In steps, for clocks are set and machines sleep."""
        assert self.credentials is not None
        now = self._now()
        half = (self.credentials.not_after - now) / 2
        due = now + half * (1 + _JITTER * (2 * self._chance() - 1))
        if self._lacks_roots() and self._late < len(_LATE):
            due = min(due, now + timedelta(seconds=_LATE[self._late]))
            self._late += 1
        while (left := (due - self._now()).total_seconds()) > 0 and not self._wake.is_set():
            sleeping = asyncio.ensure_future(self._sleep(min(left, _LONGEST_SLEEP)))
            waking = asyncio.ensure_future(self._wake.wait())
            try:
                await asyncio.wait({sleeping, waking}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleeping.cancel()
                waking.cancel()
        if self._wake.is_set():
            self._wake.clear()
            await self._sleep(_SPREAD * self._chance())
