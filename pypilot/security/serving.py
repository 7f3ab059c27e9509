"""The control plane's own certificate: issued from the root in this process's memory, renewed in time (XAUTH-005)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import structlog

from pypilot.security.authority import Authority
from pypilot.security.x509 import Issued, Root

LIFETIME: Final = timedelta(hours=24)
_LONGEST_SLEEP = 600.0
"""Clocks are set, and machines sleep: the time is looked at again and again."""


def serving_names(namespace: str, cluster_domain: str, revision: str) -> tuple[str, ...]:
    """The names by which proxies and the API server reach the control plane."""
    services = ["istiod", "pypilot"]
    if revision not in ("", "default"):
        services += [f"istiod-{revision}", f"pypilot-{revision}"]
    names = [f"{s}.{namespace}.svc{end}" for s in services for end in ("", f".{cluster_domain}")]
    return (*names, f"istiod-remote.{namespace}.svc", *(f"{s}.{namespace}" for s in services), *services)


class RootSource(Protocol):
    """Where the root comes from."""

    @property
    def root(self) -> Root | None:
        """The one that holds now."""
        ...

    def listen(self, changed: Callable[[], None]) -> None:
        """Be told when there is another."""
        ...


class ServingIdentity:
    """Certificate, key and trusted roots for the TLS ports; the form is that of `xds.tls.TlsSource`."""

    def __init__(
        self,
        keeper: RootSource,
        names: Sequence[str],
        *,
        lifetime: timedelta = LIFETIME,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.ready = asyncio.Event()
        """Set once there is a certificate."""
        self._keeper = keeper
        self._names = tuple(names)
        self._lifetime = lifetime
        self._now = now
        self._sleep = sleep
        self._issued: Issued | None = None
        self._root: Root | None = None
        self._count = 0
        self._wake = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._log = structlog.get_logger("pypilot.security")
        keeper.listen(self._wake.set)

    def listen(self, changed: Callable[[], None]) -> None:
        """Be told when there is another certificate."""
        self._listeners.append(changed)

    @property
    def not_after(self) -> datetime | None:
        """When the certificate would expire."""
        return self._issued.not_after if self._issued else None

    def stamp(self) -> int:
        """Changes with every certificate."""
        return self._count

    def read(self) -> tuple[bytes, bytes, bytes | None]:
        """Key, chain and the roots of client certificates.

        Raises:
            ValueError: there is no certificate yet.
        """
        if self._issued is None or self._root is None:
            raise ValueError("there is no certificate yet")
        return self._issued.key, self._issued.chain, self._root.bundle

    async def run(self) -> None:
        """Issue and renew, for ever."""
        while True:
            self._wake.clear()
            self._renew()
            sleeping = asyncio.ensure_future(self._sleep(self._seconds_left()))
            waking = asyncio.ensure_future(self._wake.wait())
            try:
                await asyncio.wait({sleeping, waking}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleeping.cancel()
                waking.cancel()

    def _seconds_left(self) -> float:
        """Until half of its life is over."""
        if self._issued is None:
            return _LONGEST_SLEEP
        half = self._issued.not_before + (self._issued.not_after - self._issued.not_before) / 2
        return min(max((half - self._now()).total_seconds(), 1.0), _LONGEST_SLEEP)

    def _renew(self) -> None:
        root = self._keeper.root
        if root is None:
            return
        if root == self._root and self._issued is not None:
            half = self._issued.not_before + (self._issued.not_after - self._issued.not_before) / 2
            if self._now() < half:
                return
        try:
            self._issued, self._root = Authority(root).server(self._names, self._now(), self._lifetime), root
        except Exception as error:  # a CA that is about to expire, of a strange kind, ...: the last one stays
            self._log.error("no certificate could be issued", reason=str(error), root=root.fingerprint)
            return
        self._count += 1
        self.ready.set()
        self._log.info(
            "serving certificate issued", root=root.fingerprint, until=self._issued.not_after.isoformat("T", "seconds")
        )
        for changed in self._listeners:
            changed()
