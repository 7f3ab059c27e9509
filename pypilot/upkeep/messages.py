"""Writes what is wrong with Istio's objects into their `status.validationMessages` (VAL-012). Only for the leader.

Off unless it is asked for, as with Istio: it writes to objects of users. Messages of others in the same list stay. What
an earlier leader left behind is read once, at the beginning; from then on only what differs is written.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
import structlog

from pypilot.kinds.base import Kind, Ref
from pypilot.kinds.codes import CODES, DOCUMENTATION
from pypilot.kube.connection import JSON, WritingConnection
from pypilot.kube.errors import FAILURES, ApiError
from pypilot.kube.objects import Collection, patch
from pypilot.kube.retry import Retry
from pypilot.world.delta import Problem

PAUSE = 10.0
"""Seconds between rounds, those of Istio's analysis."""
_PAGE = "500"
_MOST = 20
"""Messages of one object."""

Message: TypeAlias = Mapping[str, Any]
"""Istio `AnalysisMessageBase`, and the text."""


def validation_messages(problems: Sequence[Problem], source: str) -> dict[Ref, list[Message]]:
    """The messages of each object that `source` gave."""
    found: dict[Ref, list[Message]] = {}
    for problem in problems:
        code = CODES.get(problem.code)
        if problem.ref is None or code is None or problem.origin is None or problem.origin.source != source:
            continue
        messages = found.setdefault(problem.ref, [])
        if len(messages) < _MOST:
            messages.append(
                {
                    "type": {"name": code.name, "code": code.number},
                    "level": problem.severity.upper(),
                    "documentationUrl": code.url,
                    "message": f"{problem.field}: {problem.message}" if problem.field else problem.message,
                }
            )
    return found


def message_rules(kinds: Sequence[Kind]) -> list[dict[str, list[str]]]:
    """What it needs, wherever these kinds are."""
    groups: dict[str, list[str]] = {}
    for kind in written_kinds(kinds):
        groups.setdefault(kind.group, []).append(f"{kind.plural}/status")
    return [{"apiGroups": [g], "resources": sorted(r), "verbs": ["patch"]} for g, r in sorted(groups.items())]


def written_kinds(kinds: Sequence[Kind]) -> tuple[Kind, ...]:
    """The kinds with such a status: Istio's."""
    return tuple(kind for kind in kinds if kind.group.endswith(".istio.io"))


@dataclass(frozen=True, slots=True)
class MessageStatistics:
    """How it goes."""

    writes: int
    objects: int
    """With messages of ours."""
    errors: dict[str, str]


class _Place:
    """An object whose status cannot be written."""

    def __init__(self) -> None:
        self.retry = Retry(1.0, 300.0)
        self.not_before = 0.0
        self.error = ""


def _is_ours(message: object) -> bool:
    return isinstance(message, Mapping) and str(message.get("documentationUrl", "")).startswith(DOCUMENTATION)


class MessageWriter:
    """Keeps the messages right."""

    def __init__(
        self,
        connection: WritingConnection,
        wanted: Callable[[], Mapping[Ref, Sequence[Message]]],
        kinds: Sequence[Kind],
        namespaces: Sequence[str] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`wanted`: the messages that every object should have now. `namespaces`: only these, one by one."""
        self._connection = connection
        self._wanted = wanted
        self._places_read = tuple(namespaces) or ("",)
        self._kinds = {kind.name: kind for kind in written_kinds(kinds)}
        self._clock = clock
        self._sleep = sleep
        self._present: dict[Ref, list[Message]] = {}
        self._foreign: dict[Ref, list[Message]] = {}
        self._places: dict[Ref, _Place] = {}
        self._writes = 0
        self._log = structlog.get_logger("pypilot.kubernetes")

    def statistics(self) -> MessageStatistics:
        """How it goes."""
        errors = {str(ref): place.error for ref, place in self._places.items() if place.error}
        return MessageStatistics(self._writes, len(self._present), errors)

    async def run(self) -> None:
        """For ever."""
        self._present, self._foreign = {}, {}
        unread = dict(self._kinds)
        while True:
            for kind in list(unread.values()):
                try:
                    for place in self._places_read:
                        await self._read(kind, place)
                    del unread[kind.name]
                except FAILURES as error:
                    if isinstance(error, ApiError) and error.status == 404:
                        del unread[kind.name]  # not served
            try:
                await self._round(unread)
            except Exception:
                self._log.exception("messages cannot be written into statuses")
            await self._sleep(PAUSE)

    async def _read(self, kind: Kind, place: str) -> None:
        path = Collection(f"{kind.group}/{kind.versions[0]}", kind.plural, place).path
        parameters = {"limit": _PAGE}
        while True:
            answer = await self._connection.get(path, parameters, JSON, 30.0)
            page = msgspec.json.decode(answer.body)
            for item in page.get("items") or ():
                messages = (item.get("status") or {}).get("validationMessages") or []
                ref = Ref(kind.name, item["metadata"].get("namespace", ""), item["metadata"]["name"])
                if ours := [m for m in messages if _is_ours(m)]:
                    self._present[ref] = ours
                if foreign := [m for m in messages if not _is_ours(m)]:
                    self._foreign[ref] = foreign
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                return
            parameters = {"limit": _PAGE, "continue": more}

    async def _round(self, unread: Mapping[str, Kind]) -> None:
        wanted = {r: list(m) for r, m in self._wanted().items() if r.kind in self._kinds and r.kind not in unread}
        for ref in sorted(wanted.keys() | self._present.keys()):
            place = self._places.get(ref)
            if wanted.get(ref, []) != self._present.get(ref, []) and (not place or place.not_before <= self._clock()):
                await self._write(ref, wanted.get(ref, []))

    async def _write(self, ref: Ref, messages: list[Message]) -> None:
        kind = self._kinds[ref.kind]
        path = f"{Collection(f'{kind.group}/{kind.versions[0]}', kind.plural, ref.namespace).named(ref.name)}/status"
        listed = [dict(m) for m in (*self._foreign.get(ref, ()), *messages)]
        try:
            await patch(self._connection, path, {"status": {"validationMessages": listed or None}})
        except FAILURES as error:
            if isinstance(error, ApiError) and error.status == 404:  # the object is gone, and its status with it
                self._present.pop(ref, None)
                return
            place = self._places.setdefault(ref, _Place())
            if place.error != str(error):
                place.error = str(error)
                self._log.warning("messages cannot be written into a status", object=str(ref), error=place.error)
            place.not_before = self._clock() + place.retry.failed(
                error.retry_after if isinstance(error, ApiError) else None
            )
            return
        self._places.pop(ref, None)
        self._writes += 1
        self._present[ref] = messages
        if not messages:
            del self._present[ref]
