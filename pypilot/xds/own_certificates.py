"""`default` and `ROOTCA` over ADS, for an Envoy without an agent: a certificate of its own proved identity (SDS-002).

Key and certificate are made for one stream, renewed at half of their life and when the roots change, and forgotten with
the stream. They are in nothing that is shared, and nothing here is logged but names and reasons.

Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/security/secret
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from pypilot.wire.resource import Chunk, Resource, ResourceSet
from pypilot.wire.types import SECRET
from pypilot.xds.auth import Identity
from pypilot.xds.certificates import RefusedError

CERTIFICATE: Final = "default"
ROOTS: Final = "ROOTCA"
_SPREAD: Final = 0.1
"""Part of the half life by which renewals are moved, so that streams that came together do not renew together."""
_LONGEST_SLEEP: Final = 600.0
"""Clocks are set, and machines sleep: the time is looked at again and again."""
_LEAST_SECONDS: Final = 0.2
"""Between two certificates, whatever happens to roots and clocks."""
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Credential:
    """Key and certificate of a workload."""

    chain: bytes
    """PEM, the certificate first."""
    key: bytes = field(repr=False)
    """PEM."""
    roots: bytes
    """PEM of all that are trusted."""
    not_after: datetime
    outdated: asyncio.Event = field(repr=False, compare=False)
    """Set when the roots are others than these."""


MakeCredential = Callable[[Identity], Awaitable[Credential]]
"""Makes one for a proved identity. Raises RefusedError."""


def _chunk(credential: Credential) -> Chunk:
    own, roots = secret_pb2.Secret(name=CERTIFICATE), secret_pb2.Secret(name=ROOTS)
    own.tls_certificate.certificate_chain.inline_bytes = credential.chain
    own.tls_certificate.private_key.inline_bytes = credential.key
    roots.validation_context.trusted_ca.inline_bytes = credential.roots
    return Chunk(Resource.of(s.name, SECRET, s.SerializeToString(deterministic=True)) for s in (own, roots))


class OwnCertificates:
    """Those of one connection."""

    def __init__(
        self,
        make: MakeCredential,
        identity: Identity,
        changed: Callable[[], None],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`changed` is called whenever `beside` would answer otherwise."""
        self._make = make
        self._identity = identity
        self._changed = changed
        self._now = now
        self._own: Chunk | None = None
        self._task: asyncio.Task[None] | None = None
        self._last: tuple[ResourceSet, Chunk, ResourceSet] | None = None
        self._log = structlog.get_logger()

    def beside(self, secrets: ResourceSet) -> ResourceSet | None:
        """The secrets and the own ones; None as long as there are none. The first call begins to make them."""
        if self._task is None:
            self._task = asyncio.create_task(self._follow())
        if self._own is None:
            return None
        if self._last is None or self._last[0] is not secrets or self._last[1] is not self._own:
            self._last = (secrets, self._own, ResourceSet((*secrets.chunks, self._own)))
        return self._last[2]

    async def close(self) -> None:
        """Make no more, and forget what there is."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._own = self._last = None

    async def _follow(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                credential = await self._make(self._identity)
            except RefusedError as error:
                self._log.warning("xds.no_certificate", identity=str(self._identity), reason=str(error), retry=pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            self._own = _chunk(credential)
            self._changed()
            await self._until_due(credential)
            await asyncio.sleep(_LEAST_SECONDS)

    async def _until_due(self, credential: Credential) -> None:
        """Wait for half of what is left, a little more or less, or for other roots."""
        half = (credential.not_after - self._now()) / 2
        due = self._now() + half * random.uniform(1 - _SPREAD, 1 + _SPREAD)  # noqa: S311 - nothing secret
        while not credential.outdated.is_set() and (left := (due - self._now()).total_seconds()) > 0:
            try:
                async with asyncio.timeout(min(left, _LONGEST_SLEEP)):  # wait_for of 3.11 can lose a cancellation
                    await credential.outdated.wait()
            except TimeoutError:
                continue
