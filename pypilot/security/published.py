"""The root's certificate in every namespace, as ConfigMap `istio-ca-root-cert`, from where proxies mount it (CA-009).

Only for the leader. Names of namespaces come from outside as plain data; a namespace that cannot be written to costs
the others nothing.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from pypilot.kube.connection import WritingConnection
from pypilot.kube.errors import FAILURES, ApiError
from pypilot.kube.objects import Collection, Follower, FollowTimes, create, patch
from pypilot.kube.repair import repair_for_ever
from pypilot.kube.retry import Retry
from pypilot.security.x509 import ROOT

CONFIG_MAP: Final = "istio-ca-root-cert"
_LABELS = {"istio.io/config": "true"}
_PARALLEL = 8
_QUARREL_SECONDS = 60.0
"""Who has to be corrected again within this time is corrected more and more slowly."""
_GONE_SECONDS = 300.0
"""After which a namespace that was being terminated is looked at again, if it is still there."""


@dataclass(frozen=True, slots=True)
class PublishingStatistics:
    """How far it is."""

    namespaces: int
    published: int
    writes: int
    errors: dict[str, str]
    """By namespace."""


class _Place:
    """A namespace."""

    def __init__(self) -> None:
        self.retry = Retry(1.0, 60.0)
        self.not_before = 0.0
        self.written_at: float | None = None
        self.error = ""


class RootPublisher:
    """Keeps the ConfigMaps right."""

    def __init__(
        self,
        connection: WritingConnection,
        bundle: Callable[[], bytes],
        namespaces: Sequence[str] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        times: FollowTimes | None = None,
    ) -> None:
        """`bundle`: what to publish now, nothing while empty. `namespaces`: watch in these one by one, not in all."""
        self._connection = connection
        self._bundle = bundle
        self._scope = tuple(namespaces)
        self._clock = clock
        self._times = times or FollowTimes()
        self._places: dict[str, _Place] = {}
        self._followers: dict[str, Follower] = {}
        self._writes = 0
        self._wake = asyncio.Event()
        self._log = structlog.get_logger("pypilot.security")

    def statistics(self) -> PublishingStatistics:
        """How far it is; nothing is known of the ConfigMaps while another replica leads."""
        text = self._bundle().decode("ascii", "replace")
        done = sum(self._is_right(name, text) for name in self._places)
        errors = {name: place.error for name, place in self._places.items() if place.error}
        return PublishingStatistics(len(self._places), done, self._writes, errors)

    def namespaces_changed(self, names: Iterable[str]) -> None:
        """All namespaces that there are now."""
        self._places = {name: self._places.get(name) or _Place() for name in sorted(names)}
        self._wake.set()

    def bundle_changed(self) -> None:
        """There is something else to publish."""
        self._wake.set()

    async def run(self) -> None:
        """Follow and repair, for ever."""
        # A place that is empty stands for all namespaces.
        places = self._scope or ("",)
        self._followers = {
            place: Follower(
                self._connection, Collection("v1", "configmaps", place), CONFIG_MAP, self._wake.set, self._times
            )
            for place in places
        }
        try:
            async with asyncio.TaskGroup() as tasks:
                for follower in self._followers.values():
                    tasks.create_task(follower.run())
                tasks.create_task(self._repair_for_ever())
        finally:
            self._followers = {}

    async def _repair_for_ever(self) -> None:
        await repair_for_ever(self._repair, self._wake, self._log, "publishing failed")

    async def _repair(self) -> float | None:
        """One round; the seconds after which something is to be tried again, None if nothing is."""
        text = self._bundle().decode("ascii")
        if not text:
            return None
        places = self._places
        wrong = [name for name in places if self._is_known(name) and not self._is_right(name, text)]
        now = self._clock()
        due = [name for name in wrong if places[name].not_before <= now]
        slots = asyncio.Semaphore(_PARALLEL)

        async def one(name: str) -> None:
            async with slots:
                await self._write(name, places[name], text)

        await asyncio.gather(*(one(name) for name in due))
        later = [places[name].not_before for name in wrong]
        return max(min(later) - self._clock(), 0.05) if later else None

    def _found(self, namespace: str) -> dict[str, Any] | None:
        follower = self._followers.get(namespace) or self._followers.get("")
        return follower.objects.get(namespace) if follower is not None else None

    def _is_known(self, namespace: str) -> bool:
        """False for a namespace out of reach, or one of which it is not known yet what it has."""
        follower = self._followers.get(namespace) or self._followers.get("")
        return follower is not None and follower.synced.is_set()

    def _is_right(self, namespace: str, text: str) -> bool:
        found = self._found(namespace)
        return found is not None and (found.get("data") or {}).get(ROOT) == text

    async def _write(self, namespace: str, place: _Place, text: str) -> None:
        collection = Collection("v1", "configmaps", namespace)
        body: dict[str, Any] = {"data": {ROOT: text}}
        try:
            if self._found(namespace) is None:
                metadata = {"name": CONFIG_MAP, "namespace": namespace, "labels": _LABELS}
                whole = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **body}
                if await create(self._connection, collection.path, whole) is None:
                    await patch(self._connection, collection.named(CONFIG_MAP), body)
            else:
                await patch(self._connection, collection.named(CONFIG_MAP), body)
        except FAILURES as error:
            self._failed(namespace, place, error)
            return
        now = self._clock()
        if place.written_at is None or now - place.written_at > _QUARREL_SECONDS:
            place.retry.succeeded()
        self._writes += 1
        # The watch will show it; if it shows something else, somebody quarrels.
        place.error, place.written_at, place.not_before = "", now, now + place.retry.failed()

    def _failed(self, namespace: str, place: _Place, error: Exception) -> None:
        if isinstance(error, ApiError) and _is_terminating(error):
            place.not_before = self._clock() + _GONE_SECONDS
            return
        after = error.retry_after if isinstance(error, ApiError) else None
        place.not_before = self._clock() + place.retry.failed(after)
        if place.error != str(error):
            place.error = str(error)
            self._log.warning("the root cannot be published", namespace=namespace, error=str(error))


def _is_terminating(error: ApiError) -> bool:
    """The namespace is going, or has gone."""
    text = str(error)
    is_going = error.status == 403 and "because it is being terminated" in text
    return is_going or (error.status == 404 and "namespaces" in text)
