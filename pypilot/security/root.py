"""The root of the control plane's own certificates, kept in a Secret that all replicas read (CA-006).

`cacerts` if an operator plugged a CA in, else `istio-ca-secret`, which the leader makes where there is none. Never
written over: a Secret that cannot be used is said so, and the last good root stays.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from pypilot.kube.connection import WritingConnection
from pypilot.kube.errors import FAILURES, ApiError
from pypilot.kube.objects import Collection, Follower, FollowTimes, create, replace
from pypilot.kube.retry import Retry
from pypilot.security.x509 import Root, is_due, make_root, parse_root, renewed_root, secret_data

PLUGGED: Final = "cacerts"
OWN: Final = "istio-ca-secret"
TYPE_OF_OWN: Final = "istio.io/ca-root"
_LOOK_SECONDS: Final = 3600.0
"""How often it is looked if the root is to be renewed."""


def _encoded(root: Root) -> dict[str, str]:
    return {name: base64.b64encode(value).decode() for name, value in secret_data(root).items()}


class RootKeeper:
    """Follows the Secret."""

    def __init__(
        self,
        connection: WritingConnection,
        namespace: str,
        organization: str = "cluster.local",
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        times: FollowTimes | None = None,
    ) -> None:
        """`organization` is that of a root that is made, as Istio's: the trust domain."""
        self.root: Root | None = None
        self.error = ""
        """Why the Secret that is there cannot be used."""
        self._connection = connection
        self._secrets = Collection("v1", "secrets", namespace)
        self._organization = organization
        self._now = now
        self._own: Root | None = None
        self._stirred = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._followers = {
            name: Follower(connection, self._secrets, name, self._look, times) for name in (PLUGGED, OWN)
        }
        self._log = structlog.get_logger("pypilot.security")

    def listen(self, changed: Callable[[], None]) -> None:
        """Be told when there is another root."""
        self._listeners.append(changed)

    async def run(self) -> None:
        """Follow, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for follower in self._followers.values():
                tasks.create_task(follower.run())

    async def keep_made(self) -> None:
        """Only for the leader: make a Secret whenever there is none, and renew our own in time. For ever."""
        retry = Retry(1.0, 30.0)
        while True:
            self._stirred.clear()
            pause: float | None = _LOOK_SECONDS
            try:
                await self._make_if_absent()
                await self._renew_if_due()
                retry.succeeded()
            except FAILURES as error:
                self._log.warning("the root cannot be made", error=str(error))
                pause = retry.failed(error.retry_after if isinstance(error, ApiError) else None)
            try:
                async with asyncio.timeout(pause):  # wait_for of Python 3.11 can lose a cancellation
                    await self._stirred.wait()
            except TimeoutError:
                pass

    async def _make_if_absent(self) -> None:
        """Should another be quicker all the same, its root is the one. One that was deleted comes back as it was."""
        for follower in self._followers.values():
            await follower.synced.wait()
        if any(follower.objects for follower in self._followers.values()):
            return
        root = self._own or make_root(self._organization, self._now())
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": TYPE_OF_OWN,
            "metadata": {"name": OWN, "namespace": self._secrets.namespace},
            "data": _encoded(root),
        }
        if await create(self._connection, self._secrets.path, body) is not None:
            self._log.info("root made", secret=OWN, root=root.fingerprint)

    async def _renew_if_due(self) -> None:
        """Only what we made, and only if it is in use."""
        secret = next(iter(self._followers[OWN].objects.values()), None)
        if (
            self._own is None
            or secret is None
            or self._followers[PLUGGED].objects
            or not is_due(self._own, self._now())
        ):
            return
        root = renewed_root(self._own, self._now())
        body = {**secret, "data": _encoded(root)}
        # The version in its metadata: should somebody else have changed it meanwhile, his change is looked at first.
        if await replace(self._connection, self._secrets.named(OWN), body) is not None:
            self._log.info("root renewed", secret=OWN, root=root.fingerprint)

    @property
    def trouble(self) -> str:
        """Why there is no root, or not the one that is there now; empty if all is well."""
        if self.error:
            return self.error
        errors = [f"Secret {name}: {f.error}" for name, f in self._followers.items() if f.error]
        if errors:
            return "; ".join(errors)
        return "" if self.root else f"there is no Secret {PLUGGED} or {OWN} yet"

    def _look(self) -> None:
        self._stirred.set()
        if not all(follower.synced.is_set() for follower in self._followers.values()):
            return
        name = PLUGGED if self._followers[PLUGGED].objects else OWN
        for secret in self._followers[name].objects.values():
            self._take(name, secret)

    def _take(self, name: str, secret: dict[str, Any]) -> None:
        try:
            root = parse_root(_decoded(secret), self._now())
        except ValueError as error:
            text = f"Secret {name}: {error}"
            if text != self.error:
                self.error = text
                self._log.error("the root cannot be used", reason=text, kept=self.root is not None)
            return
        self.error = ""
        if name == OWN:
            self._own = root
        if root != self.root:
            self.root = root
            self._log.info("root", secret=name, root=root.fingerprint)
            for changed in self._listeners:
                changed()


def _decoded(secret: dict[str, Any]) -> dict[str, bytes]:
    try:
        return {k: base64.b64decode(v, validate=True) for k, v in (secret.get("data") or {}).items()}
    except (binascii.Error, ValueError):
        raise ValueError("a value is not base64") from None
