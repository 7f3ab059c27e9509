"""One kind, kept up to date: list page by page, then watch from there, for ever, whatever the server does.

A fault costs time, never objects: nothing is taken away because of an error, only because a complete new list does not
have it. The state lives in a `KindStore`; changes are handed to a callback as they are found.

A watch may be silent because nothing happens, because the connection is dead, or because the server was put back to an
older state and has not come to our resourceVersion yet. So after every break and every silence it is asked where it is.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from pypilot.kinds.base import Kind, Origin
from pypilot.kube.connection import JSON, Connection
from pypilot.kube.errors import (
    FAILURES,
    ApiError,
    BrokenStreamError,
    ExpiredError,
    UnreachableError,
)
from pypilot.kube.lines import Lines
from pypilot.sources.kubernetes.decoding import Batch, Item, Key, ObjectDecoder, Page
from pypilot.sources.kubernetes.pace import Pace
from pypilot.sources.kubernetes.store import Changes, KindStore

_METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
_EVENTS_AT_ONCE = 200
_GOOD_WATCH_SECONDS = 1.0
"""A watch that held so long was no failure, even if nothing happened in it."""
_LASTING_FAILURES = 3
"""A failure is a user's business once it has happened so often in a row, or at once if it will not pass (403)."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What to list and watch."""

    kind: Kind
    version: str
    namespace: str = ""
    """Empty: all."""
    field_selector: str = ""
    metadata_only: bool = False
    """Ask for no more than the metadata of the objects."""

    @property
    def path(self) -> str:
        """The path of the list."""
        base = f"/apis/{self.kind.group}/{self.version}" if self.kind.group else f"/api/{self.version}"
        place = f"/namespaces/{self.namespace}" if self.namespace and self.kind.namespaced else ""
        return f"{base}{place}/{self.kind.plural}"


@dataclass(frozen=True, slots=True)
class Progress:
    """What a reflector did, and how it is."""

    is_synced: bool
    revision: str
    """The resourceVersion up to which it was read."""
    lists: int
    watches: int
    failures: int
    """In a row, now."""
    error: str
    """The last one, while it lasts."""


class Reflector:
    """Runs one list and watch. The store outlives it, so that another version can go on from the same objects."""

    def __init__(
        self,
        connection: Connection,
        resource: Resource,
        origin: Origin,
        pace: Pace,
        changed: Callable[[Changes], None],
        missing: Callable[[], None] = lambda: None,
    ) -> None:
        """`changed` is told of every change, without any when problems or `progress` changed; `missing` after a 404."""
        self.resource = resource
        self.store = KindStore(resource.kind, origin)
        self.synced = asyncio.Event()
        self._connection = connection
        self._pace = pace
        self._changed = changed
        self._missing = missing
        self._log = structlog.get_logger("pypilot.kubernetes").bind(kind=resource.kind.name)
        self._begin()

    def _begin(self) -> None:
        self._decoder = ObjectDecoder(self.resource.kind, self.resource.version)
        self._backoff = self._pace.retry()
        self._expiries = self._pace.retry()
        self._is_paged = True
        self._is_doubtful = False
        """True if the server may have gone back since it was last heard of."""
        self._version = ""
        self._lists = self._watches = 0
        self._error = ""
        self._status = 0
        self._is_unreachable = False

    def use(self, resource: Resource) -> None:
        """Go on with another version of the same kind; only while `run` is not running."""
        self.resource = resource
        self._begin()

    @property
    def progress(self) -> Progress:
        """How it is now."""
        failures = self._backoff.failures
        return Progress(self.synced.is_set(), self._version, self._lists, self._watches, failures, self._error)

    @property
    def is_missing(self) -> bool:
        """True if the server says that there is no such kind."""
        return self._status == 404

    @property
    def is_unreachable(self) -> bool:
        """True if what fails is the server, rather than this kind."""
        return self._is_unreachable and bool(self.lasting_error)

    @property
    def lasting_error(self) -> str:
        """The error that keeps this kind from being followed, if a user should know of it."""
        return self._error if self._status == 403 or self._backoff.failures >= _LASTING_FAILURES else ""

    # -- the loop -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Never ends by itself."""
        while True:
            try:
                if self._version and self._is_doubtful:
                    await self._check()
                if not self._version:
                    await self._list()
                await self._watch()
            except ExpiredError as error:
                self._log.info("the watch is too old, listing again", reason=str(error))
                self._version = ""
                delay = self._expiries.failed()
                if self._expiries.failures > 1:  # the first time at once
                    await self._pace.sleep(delay)
            except FAILURES as error:
                status = error.status if isinstance(error, ApiError) else 0
                self._is_paged = status != 410  # pages that outlive their list: the next time all at once
                self._is_doubtful = self._is_doubtful or isinstance(error, UnreachableError)
                if status == 404:
                    self._version = ""
                    self._missing()
                await self._wait(error)
            except Exception as error:  # a defect of ours: the other kinds go on, and this one tries again
                self._log.exception("watching failed")
                self._version = ""
                await self._wait(error)

    async def _wait(self, error: Exception) -> None:
        before = (bool(self.lasting_error), self.is_unreachable)
        self._error = str(error) or type(error).__name__
        self._status = error.status if isinstance(error, ApiError) else 0
        self._is_unreachable = isinstance(error, UnreachableError)
        delay = self._backoff.failed(error.retry_after if isinstance(error, ApiError) else None)
        self._log.debug("trying again", error=self._error, seconds=round(delay, 3))
        if (bool(self.lasting_error), self.is_unreachable) != before:
            if self.lasting_error and not self._is_unreachable:
                self._log.warning("cannot be watched", error=self._error, path=self.resource.path)
            self._changed({})
        await self._pace.sleep(delay)

    def _succeeded(self) -> None:
        was_lasting = bool(self.lasting_error)
        self._backoff.succeeded()
        self._error, self._status, self._is_unreachable = "", 0, False
        if was_lasting:
            self._log.debug("is watched again")
            self._changed({})

    # -- list ---------------------------------------------------------------------------------------------------------

    async def _list(self) -> None:
        items: dict[Key, Item] = {}
        limit = {"limit": str(self._pace.page)} if self._is_paged else {}
        parameters = self._parameters(**limit)
        while True:
            page = await self._page(parameters)
            items.update(page.items)
            if not page.next:
                break
            parameters = self._parameters(**limit, **{"continue": page.next})
            await asyncio.sleep(0)
        if not page.version:
            raise BrokenStreamError("a list without resourceVersion")
        self._version = page.version
        self._lists += 1
        self._is_doubtful = False
        changes = self.store.replace(items)
        self._succeeded()
        is_first = not self.synced.is_set()
        self.synced.set()
        if changes or is_first or self.store.has_new_problems:
            self._changed(changes)

    async def _page(self, parameters: Mapping[str, str]) -> Page:
        accept = _METADATA.format("List") if self.resource.metadata_only else JSON
        answer = await self._connection.get(self.resource.path, parameters, accept, self._pace.request)
        return self._decoder.page(answer.body)

    def _parameters(self, **more: str) -> dict[str, str]:
        selector = {"fieldSelector": self.resource.field_selector} if self.resource.field_selector else {}
        return {**selector, **more}

    # -- watch --------------------------------------------------------------------------------------------------------

    async def _check(self) -> None:
        """Ask where the server is.

        Raises:
            ExpiredError: before the place from which we would go on (etcd was restored from a backup).
        """
        now = (await self._page(self._parameters(limit="1"))).version
        if now.isdecimal() and self._version.isdecimal() and int(now) < int(self._version):
            raise ExpiredError(f"the server has gone back from {self._version} to {now}")
        self._is_doubtful = False

    async def _watch(self) -> None:
        """One watch request, until it ends; returns if it did some good."""
        parameters = self._parameters(
            watch="true",
            resourceVersion=self._version,
            allowWatchBookmarks="true",
            timeoutSeconds=str(round(self._pace.watch * (1 + self._pace.random()))),
        )
        begun = self._pace.clock()
        events = 0
        accept = _METADATA.format("") if self.resource.metadata_only else JSON
        try:
            async with self._connection.stream(self.resource.path, parameters, accept, self._pace.silence) as chunks:
                self._watches += 1
                # Nothing may happen for a minute, so that it holds must do as a proof that it works.
                proof = asyncio.get_running_loop().call_later(_GOOD_WATCH_SECONDS, self._succeeded)
                try:
                    text = Lines()
                    async for chunk in chunks:
                        lines = text.feed(chunk)
                        for start in range(0, len(lines), _EVENTS_AT_ONCE):
                            self._take(lines[start : start + _EVENTS_AT_ONCE])
                            await asyncio.sleep(0)
                        events += len(lines)
                finally:
                    proof.cancel()
        except ApiError as error:
            if error.status == 410:
                raise ExpiredError(error.reason) from error
            raise
        if not events and self._pace.clock() - begun < _GOOD_WATCH_SECONDS:
            raise BrokenStreamError("the watch ended at once")

    def _take(self, lines: list[bytes]) -> None:
        """Take events. What stood before a broken one counts."""
        batch = Batch()
        try:
            for line in lines:
                if line.strip():
                    self._decoder.event(line, batch)
        finally:
            if batch.version:
                self._succeeded()
                self._expiries.succeeded()
                changes = self.store.update(batch.changes)
                self._version = batch.version
                if changes or self.store.has_new_problems:
                    self._changed(changes)
