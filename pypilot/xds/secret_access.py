"""Which secrets a proved identity is sent: all that its proxy refers to, or only what is public (SDS-005, SDS-009).

The answer comes from elsewhere and may take its time: until there is one, secrets are owed, and nothing else waits. It
is asked again when it has grown old, for rights are given and taken while a stream is open.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from pypilot.wire.resource import Chunk, ResourceSet
from pypilot.xds.auth import Identity

_LEAST_SECONDS = 0.2


class SecretAccess(Protocol):
    """Knows rights, and which credentials need none."""

    async def allowed(self, identity: Identity) -> tuple[bool | None, float]:
        """Whether the identity may read the Secrets of its namespace, and after how many seconds to ask again.

        None: it is not known.
        """

    def is_public(self, name: str) -> bool:
        """True for the name of a credential that anybody may have: a CA certificate."""


class SecretGate:
    """The gate of one connection."""

    def __init__(self, access: SecretAccess, identity: Identity, changed: Callable[[], None]) -> None:
        """`changed` is called whenever `filter` would answer otherwise."""
        self._access = access
        self._identity = identity
        self._changed = changed
        self._allowed: bool | None = None
        self._task: asyncio.Task[None] | None = None
        self._public: tuple[ResourceSet, ResourceSet] | None = None

    def filter(self, secrets: ResourceSet) -> ResourceSet | None:
        """What of the secrets may be sent; None as long as that is not known. The first call begins to ask."""
        if self._task is None:
            self._task = asyncio.create_task(self._follow())
        if self._allowed is None:
            return None
        if self._allowed:
            return secrets
        if self._public is None or self._public[0] is not secrets:
            kept = Chunk(resource for resource in secrets if self._access.is_public(resource.name))
            self._public = (secrets, ResourceSet((kept,)))
        return self._public[1]

    async def close(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            allowed, seconds = await self._access.allowed(self._identity)
            if allowed is not None and allowed is not self._allowed:
                self._allowed = allowed
                self._changed()
            await asyncio.sleep(max(seconds, _LEAST_SECONDS))
