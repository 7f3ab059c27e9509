"""Identity as the control plane gives it: its own certificate, who proxies are, and the certificates that they get.

Wiring only, and the same whether the root is kept in a Secret or in files, and whoever says whose a token is.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import structlog

from pypilot.security.impersonation import Impersonation, Pods
from pypilot.security.issuing import CertificateIssuer, IssueError, IssuingStatistics, Lifetimes
from pypilot.security.root_files import RootFiles
from pypilot.security.serving import RootSource, ServingIdentity, serving_names
from pypilot.security.token_keys import TokenKeys
from pypilot.settings import Settings
from pypilot.xds.auth import Authenticator, CertificateAuthenticator, Identity
from pypilot.xds.certificates import RefusedError
from pypilot.xds.own_certificates import Credential
from pypilot.xds.token import TokenAuthenticator, TokenReviewer

_SAY_SECONDS: Final = 10.0


class KeptRoot(RootSource, Protocol):
    """Where the root is kept, and followed."""

    @property
    def trouble(self) -> str:
        """Why there is no root, or not the one that is there now; empty if all is well."""
        ...

    async def run(self) -> None:
        """Follow, for ever."""
        ...


class IdentityServices:
    """`start`, then `run` beside everything else, then `close`."""

    def __init__(
        self,
        settings: Settings,
        roots: KeptRoot,
        reviewer: TokenReviewer | None,
        trust_domain: Callable[[], str],
        pods: Callable[[], Pods],
    ) -> None:
        """`trust_domain` is the mesh's, `pods` those of the world, at that moment. Without a reviewer, no tokens."""
        names = serving_names(settings.root_namespace, settings.cluster_domain, settings.revision)
        self.roots = roots
        self.tls = ServingIdentity(roots, names)
        """For `XdsServer.start`."""
        tokens = (TokenAuthenticator(reviewer, trust_domain),) if reviewer is not None else ()
        self.authenticators: tuple[Authenticator, ...] = (CertificateAuthenticator(), *tokens)
        """For `XdsServer`."""
        self._issuer = CertificateIssuer(
            lambda: roots.root,
            Impersonation(pods, settings.ca_trusted_node_accounts).allows,
            Lifetimes(timedelta(seconds=settings.workload_cert_ttl), timedelta(seconds=settings.max_workload_cert_ttl)),
        )
        self._outdated = asyncio.Event()
        roots.listen(self._roots_changed)
        self._tasks: list[asyncio.Task[None]] = []
        self._log = structlog.get_logger("pypilot")

    @property
    def statistics(self) -> IssuingStatistics:
        """Of certificates."""
        return self._issuer.statistics

    @property
    def not_after(self) -> datetime | None:
        """When our own certificate would expire."""
        return self.tls.not_after

    async def issue(self, caller: Identity, csr: str, seconds: int, metadata: Mapping[str, object]) -> tuple[str, ...]:
        """Sign a workload's certificate, for `XdsServer`.

        Raises:
            RefusedError: there is none.
        """
        try:
            return await self._issuer.issue(caller, csr, seconds, metadata)
        except IssueError as error:
            raise RefusedError(error.code, str(error)) from None

    async def credential(self, caller: Identity) -> Credential:
        """Key and certificate of a workload that has no agent, for `XdsServer`.

        Raises:
            RefusedError: there is none.
        """
        outdated = self._outdated
        try:
            made = await self._issuer.credential(caller)
        except IssueError as error:
            raise RefusedError(error.code, str(error)) from None
        *chain, roots = (text.encode() for text in made.chain)
        return Credential(b"".join(chain), made.key, roots, made.not_after, outdated)

    def _roots_changed(self) -> None:
        before, self._outdated = self._outdated, asyncio.Event()
        before.set()

    async def start(self, *beside: Coroutine[Any, Any, None]) -> None:
        """Begin, and run other work beside; returns once there is a certificate to serve with."""
        self._tasks = [asyncio.create_task(work) for work in (self.roots.run(), self.tls.run(), *beside)]
        ready = asyncio.ensure_future(self.tls.ready.wait())
        try:
            while not ready.done():
                await asyncio.wait({ready, *self._tasks}, timeout=_SAY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                self._check()
                if not ready.done():
                    self._log.warning("waiting for a root to serve with", reason=self.roots.trouble)
        finally:
            ready.cancel()

    async def run(self) -> None:
        """For ever; ends only by a defect."""
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        self._check()

    async def close(self) -> None:
        """Stop everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def _check(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()


def identity_of_files(
    settings: Settings, trust_domain: Callable[[], str], pods: Callable[[], Pods]
) -> IdentityServices | None:
    """Identity without a cluster: a CA in a directory, tokens by keys in a file; None if there is no such directory."""
    if settings.ca_dir is None:
        return None
    reviewer = TokenKeys(settings.token_keys) if settings.token_keys is not None else None
    return IdentityServices(settings, RootFiles(settings.ca_dir), reviewer, trust_domain, pods)
