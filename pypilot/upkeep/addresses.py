"""Writes the addresses of hosts that have none into the status of their ServiceEntries (SE-016, SE-018).

Only for the leader. What was written is remembered until it comes back by the watch, so nothing is handed out twice. An
entry that cannot be written to costs the others nothing.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from pypilot.kinds.base import Object, Ref
from pypilot.kinds.service_entry import KIND, ServiceEntry, ServiceEntryAddress, ServiceEntryStatus
from pypilot.kube.connection import WritingConnection
from pypilot.kube.errors import FAILURES, ApiError
from pypilot.kube.objects import Collection, read, replace
from pypilot.kube.repair import repair_for_ever
from pypilot.kube.retry import Retry
from pypilot.world.allocation import allocate

_VERSIONS = tuple(f"{KIND.group}/{version}" for version in KIND.versions)
_PARALLEL = 4
_SHOWN_SECONDS = 30.0
"""After which a status that did not come back is no longer believed in."""


def address_rules() -> list[dict[str, list[str]]]:
    """What it needs, wherever entries are read."""
    return [
        {"apiGroups": [KIND.group], "resources": [KIND.plural], "verbs": ["get"]},
        {"apiGroups": [KIND.group], "resources": [f"{KIND.plural}/status"], "verbs": ["update"]},
    ]


@dataclass(frozen=True, slots=True)
class AddressStatistics:
    """How far it is."""

    entries: int
    written: int
    errors: dict[str, str]
    """By entry."""


class _Entry:
    """An entry as it was last seen, and as it was last written."""

    def __init__(self, seen: ServiceEntry) -> None:
        self.seen = seen
        self.written: ServiceEntry | None = None
        self.written_at = 0.0
        self.retry = Retry(1.0, 60.0)
        self.not_before = 0.0
        self.error = ""


def _with_status(entry: ServiceEntry, addresses: tuple[ServiceEntryAddress, ...]) -> ServiceEntry:
    return msgspec.structs.replace(entry, status=ServiceEntryStatus(addresses=addresses))


class AddressWriter:
    """Keeps the addresses right."""

    def __init__(self, connection: WritingConnection, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._clock = clock
        self._entries: dict[Ref, _Entry] = {}
        self._last = (0, 0)
        self._written = 0
        self._wake = asyncio.Event()
        self._log = structlog.get_logger("pypilot.addresses")

    def statistics(self) -> AddressStatistics:
        """How far it is."""
        errors = {str(ref): entry.error for ref, entry in self._entries.items() if entry.error}
        return AddressStatistics(len(self._entries), self._written, errors)

    def changed(self, upserts: Iterable[Object], removals: Iterable[Ref]) -> None:
        """Objects that came, changed or went; only ServiceEntries are of interest."""
        for ref in removals:
            if self._entries.pop(ref, None) is not None:
                self._wake.set()
        for obj in upserts:
            if not isinstance(obj, ServiceEntry):
                continue
            known = self._entries.get(obj.ref)
            if known is None:
                self._entries[obj.ref] = _Entry(obj)
            else:
                known.seen, known.written, known.not_before = obj, None, 0.0
            self._wake.set()

    async def run(self) -> None:
        """For ever."""
        await repair_for_ever(self._round, self._wake, self._log, "addresses cannot be handed out")

    async def _round(self) -> float | None:
        """Write what is due; the seconds after which something is to be looked at again, None if nothing is."""
        now = self._clock()
        for entry in self._entries.values():
            if entry.written is not None and now - entry.written_at > _SHOWN_SECONDS:
                entry.written = None
        allocation = allocate([entry.written or entry.seen for entry in self._entries.values()], self._last)
        self._last = allocation.last
        slots = asyncio.Semaphore(_PARALLEL)

        async def one(entry: _Entry, addresses: tuple[ServiceEntryAddress, ...]) -> None:
            async with slots:
                await self._write(entry, addresses)

        wrong = [(self._entries[ref], addresses) for ref, addresses in allocation.changes.items()]
        await asyncio.gather(*(one(entry, addresses) for entry, addresses in wrong if entry.not_before <= now))
        waits = [entry.not_before for entry, _ in wrong if entry.written is None]
        waits += [e.written_at + _SHOWN_SECONDS + 1.0 for e in self._entries.values() if e.written is not None]
        return max(min(waits) - self._clock(), 0.05) if waits else None

    async def _write(self, entry: _Entry, addresses: tuple[ServiceEntryAddress, ...]) -> None:
        seen = entry.seen
        entry.not_before = self._clock() + entry.retry.failed()
        try:
            path, found = await self._read(seen)
            # What others wrote meanwhile comes by the watch, and then the answer may be another. Files have no status.
            if found is None or entry.seen is not seen or _addresses(found) != _pairs(seen.status.addresses):
                return
            body = [msgspec.to_builtins(address) for address in addresses]
            whole = {**found, "status": {**(found.get("status") or {}), "addresses": body}}
            if await replace(self._connection, f"{path}/status", whole) is None:
                return
        except FAILURES as error:
            at_least = error.retry_after if isinstance(error, ApiError) else None
            entry.not_before = max(entry.not_before, self._clock() + (at_least or 0.0))
            if entry.error != str(error):
                entry.error = str(error)
                self._log.warning("addresses cannot be written", object=str(seen.ref), error=str(error))
            return
        entry.error = ""
        entry.retry.succeeded()
        self._written += 1
        if entry.seen is seen:
            entry.written, entry.written_at = _with_status(seen, addresses), self._clock()

    async def _read(self, entry: ServiceEntry) -> tuple[str, dict[str, Any] | None]:
        """The entry as the API server has it, with its path. Items of a list do not say their version."""
        path, found = "", None
        for version in (entry.api_version,) if entry.api_version else _VERSIONS:
            path = Collection(version, KIND.plural, entry.namespace).named(entry.name)
            found = await read(self._connection, path)
            if found is not None:
                break
        return path, found


def _addresses(found: dict[str, Any]) -> list[tuple[str, str]]:
    stated = (found.get("status") or {}).get("addresses") or ()
    return [(str(a.get("host", "")), str(a.get("value", ""))) for a in stated]


def _pairs(addresses: tuple[ServiceEntryAddress, ...]) -> list[tuple[str, str]]:
    return [(a.host, a.value) for a in addresses]
