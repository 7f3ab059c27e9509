"""Writes where Ingresses can be reached into their status (KSVC-052). Only for the leader.

What is to be written comes from outside; an Ingress that cannot be written to costs the others nothing.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from pypilot.kube.connection import WritingConnection
from pypilot.kube.errors import FAILURES, ApiError
from pypilot.kube.objects import Collection, patch
from pypilot.kube.repair import repair_for_ever
from pypilot.kube.retry import Retry

API_VERSION = "networking.k8s.io/v1"
_LONGEST_PAUSE = 60.0

Entry = Mapping[str, str]
"""`{"ip": …}` or `{"hostname": …}`."""
Wrong = Mapping[tuple[str, str], Sequence[Entry]]
"""Namespace and name of an Ingress whose status is wrong -> its right entries."""


@dataclass(frozen=True, slots=True)
class StatusStatistics:
    """How it goes."""

    writes: int
    errors: dict[str, str]
    """By `namespace/name`."""


class _Place:
    """An Ingress whose status is wrong."""

    def __init__(self) -> None:
        self.retry = Retry(1.0, _LONGEST_PAUSE)
        self.not_before = 0.0
        self.error = ""


class IngressStatusWriter:
    """Keeps the statuses right."""

    def __init__(
        self,
        connection: WritingConnection,
        wrong: Callable[[], Wrong],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wrong` says what is to be written, as far as is known now; a write shows there after a while."""
        self._connection = connection
        self._wrong = wrong
        self._clock = clock
        self._places: dict[tuple[str, str], _Place] = {}
        self._writes = 0
        self._wake = asyncio.Event()
        self._log = structlog.get_logger("pypilot.kubernetes")

    def statistics(self) -> StatusStatistics:
        """How it goes."""
        errors = {"/".join(key): place.error for key, place in self._places.items() if place.error}
        return StatusStatistics(self._writes, errors)

    def changed(self) -> None:
        """Something else may be wrong now."""
        self._wake.set()

    async def run(self) -> None:
        """For ever."""
        await repair_for_ever(self._repair, self._wake, self._log, "statuses of Ingresses cannot be written")

    async def _repair(self) -> float | None:
        """One round; the seconds after which something is to be tried again, None if nothing is."""
        wrong = self._wrong()
        # Who has to be corrected again soon is corrected more and more slowly.
        recent = {k: p for k, p in self._places.items() if p.not_before + _LONGEST_PAUSE > self._clock()}
        self._places = recent | {key: self._places.get(key) or _Place() for key in wrong}
        for key, entries in wrong.items():
            place = self._places[key]
            if place.not_before <= self._clock():
                await self._write(key, place, entries)
        later = [self._places[key].not_before for key in wrong]
        return max(min(later) - self._clock(), 0.05) if later else None

    async def _write(self, key: tuple[str, str], place: _Place, entries: Sequence[Entry]) -> None:
        path = f"{Collection(API_VERSION, 'ingresses', key[0]).named(key[1])}/status"
        listed: list[dict[str, str]] | None = [dict(entry) for entry in entries] or None
        body: dict[str, Any] = {"status": {"loadBalancer": {"ingress": listed}}}
        at_least: float | None = None
        try:
            await patch(self._connection, path, body)
            self._writes += 1
            place.error = ""
        except FAILURES as error:
            is_gone = isinstance(error, ApiError) and error.status == 404
            text = "" if is_gone else str(error) or type(error).__name__
            if text and text != place.error:
                self._log.warning("the status of an Ingress cannot be written", ingress="/".join(key), error=text)
            place.error = text
            at_least = error.retry_after if isinstance(error, ApiError) else None
        # Even what was written is looked at again: somebody may write something else.
        place.not_before = self._clock() + place.retry.failed(at_least)
