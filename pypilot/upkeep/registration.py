"""Keeps WorkloadEntries for machines that are connected here (WE-004…008). Every replica does so for its own.

What to write is decided in `world.registration`; here it is carried to the API server, tried again where somebody else
wrote meanwhile, and cleaned up after a while. A machine whose entry cannot be made is told so and may come again.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import structlog

from pypilot.kinds import workload_entry, workload_group
from pypilot.kinds.base import Object, Ref
from pypilot.kinds.parse import parse_object
from pypilot.kinds.workload_entry import HEALTHY, WorkloadEntry
from pypilot.kinds.workload_group import WorkloadGroup
from pypilot.kube.connection import WritingConnection
from pypilot.kube.errors import FAILURES, ApiError
from pypilot.kube.objects import Collection, create, read, replace
from pypilot.kube.retry import Retry
from pypilot.wire.node import Proxy
from pypilot.world import registration as decide

_GROUP = workload_entry.KIND.group
_VERSION = f"{_GROUP}/{workload_entry.KIND.versions[0]}"
_ATTEMPTS = 6
_PAUSE = 0.05
_SWEEPS_A_GRACE = 10


def registration_rules() -> list[dict[str, list[str]]]:
    """What it needs, wherever entries are read."""
    entries = workload_entry.KIND.plural
    return [
        {"apiGroups": [_GROUP], "resources": [workload_group.KIND.plural], "verbs": ["get"]},
        {"apiGroups": [_GROUP], "resources": [entries], "verbs": ["get", "create", "update", "delete"]},
        {"apiGroups": [_GROUP], "resources": [f"{entries}/status"], "verbs": ["update"]},
    ]


class RegistrationError(Exception):
    """The machine has no entry here; the text is told to it."""

    def __init__(self, code: Literal["PERMISSION_DENIED", "FAILED_PRECONDITION", "UNAVAILABLE"], reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Registered:
    """A connection that stands for an entry."""

    namespace: str
    name: str
    since: datetime


class Registrar:
    """`connect` and `disconnect` for every connection, `report` for every word on health, and `run` beside them."""

    def __init__(
        self,
        connection: WritingConnection,
        instance: str,
        now: Callable[[], datetime],
        grace: float = 10.0,
    ) -> None:
        """`instance` names this replica; `grace` are the seconds after which a machine that left is forgotten."""
        self._connection = connection
        self._instance = instance
        self._now = now
        self._grace = grace
        self._counts: dict[tuple[str, str], int] = {}
        self._known: dict[Ref, WorkloadEntry] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger("pypilot.registration")

    # -- connections --------------------------------------------------------------------------------------------------

    async def connect(self, proxy: Proxy, account: tuple[str, str] | None, at: datetime) -> Registered | None:
        """The entry that a connection stands for; None for proxies that have none.

        Args:
            proxy: Who connects.
            account: Namespace and service account that were proved.
            at: Since when.

        Raises:
            RegistrationError: there is none, or it is not this proxy's.
        """
        if not proxy.register_group and not proxy.workload_entry:
            return None
        name = proxy.workload_entry
        if proxy.register_group:
            name = decide.entry_name(proxy.register_group, proxy.ip, proxy.network)
        if account is None:
            raise RegistrationError("PERMISSION_DENIED", "a WorkloadEntry is only for proxies that prove who they are")
        try:
            entry = await self._connected(proxy, name, account, at)
        except asyncio.CancelledError:  # the proxy left while its entry was written
            self._begin(self._leave(Registered(proxy.namespace, name, at), self._now()))
            raise
        except FAILURES as error:
            self._log.warning("a machine cannot be registered", proxy=proxy.id, error=str(error))
            raise RegistrationError("UNAVAILABLE", "the WorkloadEntry cannot be written now") from None
        if not proxy.register_group and not decide.takes_health(entry):
            return None
        key = (proxy.namespace, name)
        self._counts[key] = self._counts.get(key, 0) + 1
        return Registered(proxy.namespace, name, at)

    async def _connected(self, proxy: Proxy, name: str, account: tuple[str, str], at: datetime) -> Mapping[str, Any]:
        path = _path(proxy.namespace, name)
        for attempt in range(_ATTEMPTS):
            found = await read(self._connection, path)
            if found is None and not proxy.register_group:
                raise RegistrationError("FAILED_PRECONDITION", f"there is no WorkloadEntry {proxy.namespace}/{name}")
            entry = found if found is not None else await self._made(proxy, name)
            if reason := decide.refusal(entry, *account):
                raise RegistrationError("PERMISSION_DENIED", reason)
            wanted = decide.connected(entry, self._instance, at)
            if wanted is None or (found is not None and not (proxy.register_group or decide.takes_health(entry))):
                return entry
            written = (
                await create(self._connection, path.rpartition("/")[0], wanted)
                if found is None
                else await replace(self._connection, path, wanted)
            )
            if written is not None:
                self._log.info("machine registered", proxy=proxy.id, entry=f"{proxy.namespace}/{name}")
                return written
            await asyncio.sleep(_PAUSE * attempt)
        raise RegistrationError("UNAVAILABLE", "the WorkloadEntry changes all the time")

    async def _made(self, proxy: Proxy, name: str) -> Mapping[str, Any]:
        """A new entry of the group, not written yet. The group is asked for: the watch may lag behind."""
        place = Collection(_VERSION, workload_group.KIND.plural, proxy.namespace)
        found = await read(self._connection, place.named(proxy.register_group))
        parsed = parse_object(workload_group.KIND, found) if found is not None else None
        group = parsed.object if parsed is not None else None
        if found is None or not isinstance(group, WorkloadGroup):
            state = "cannot be used" if found is not None else "does not exist"
            reason = f"WorkloadGroup {proxy.namespace}/{proxy.register_group} {state}"
            raise RegistrationError("FAILED_PRECONDITION", reason)
        return decide.new_entry(name, proxy, group, str(found["metadata"].get("uid", "")), _VERSION)

    def disconnect(self, registered: Registered) -> None:
        """The end of a connection. Only the last one of an entry counts."""
        key = (registered.namespace, registered.name)
        self._counts[key] -= 1
        if not self._counts[key]:
            del self._counts[key]
            self._begin(self._leave(registered, self._now()))

    def report(self, registered: Registered, healthy: bool, message: str) -> None:
        """The machine's own word on its health."""
        at = self._now()
        self._begin(
            self._change(registered, lambda e: decide.with_health(e, self._instance, healthy, message, at), "/status")
        )

    # -- in the background --------------------------------------------------------------------------------------------

    def changed(self, upserts: Iterable[Object], removals: Iterable[Ref]) -> None:
        """Objects that came, changed or went; only WorkloadEntries are of interest."""
        for ref in removals:
            self._known.pop(ref, None)
        self._known.update((obj.ref, obj) for obj in upserts if isinstance(obj, WorkloadEntry))

    async def run(self) -> None:
        """Sweep for ever: a replica that ended may have left entries behind."""
        while True:
            await asyncio.sleep(self._grace * _SWEEPS_A_GRACE)
            now = self._now()
            for entry in tuple(self._known.values()):
                health = any(c.type == HEALTHY for c in entry.status.conditions)
                if decide.is_due(entry.metadata.annotations, health, now, self._grace):
                    await self._clean(entry.namespace, entry.name)

    async def close(self) -> None:
        """Note the departures that are still to be noted, for a moment; then end."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _leave(self, registered: Registered, at: datetime) -> None:
        await self._change(registered, lambda e: decide.disconnected(e, self._instance, registered.since, at))
        await asyncio.sleep(self._grace)
        await self._clean(registered.namespace, registered.name)

    async def _change(
        self, registered: Registered, change: Callable[[Mapping[str, Any]], Mapping[str, Any] | None], part: str = ""
    ) -> None:
        """Write an entry anew, until nobody else wrote meanwhile."""
        path = _path(registered.namespace, registered.name)
        retry = Retry(0.1, 10.0)
        for _ in range(2 * _ATTEMPTS):
            try:
                found = await read(self._connection, path)
                wanted = change(found) if found is not None else None
                if wanted is None or await replace(self._connection, path + part, wanted) is not None:
                    return
            except FAILURES as error:
                self._log.warning("a WorkloadEntry cannot be written", path=path, error=str(error))
            await asyncio.sleep(retry.failed())

    async def _clean(self, namespace: str, name: str) -> None:
        """Forget a machine that did not come back: its entry, or what was known of its health."""
        path = _path(namespace, name)
        try:
            found = await read(self._connection, path)
            if found is None:
                return
            conditions = (found.get("status") or {}).get("conditions") or ()
            noted = found["metadata"].get("annotations") or {}
            if not decide.is_due(noted, any(c.get("type") == HEALTHY for c in conditions), self._now(), self._grace):
                return
            if decide.registered_itself(found):
                seen = {"preconditions": {"resourceVersion": found["metadata"]["resourceVersion"]}}
                await self._connection.send("DELETE", path, seen)
                self._log.info("machine forgotten", entry=f"{namespace}/{name}")
            else:
                await replace(self._connection, f"{path}/status", decide.without_health(found))
        except ApiError as error:
            if error.status not in (404, 409):  # gone already, or back again
                self._log.warning("a WorkloadEntry cannot be cleaned up", path=path, error=str(error))
        except FAILURES as error:
            self._log.warning("a WorkloadEntry cannot be cleaned up", path=path, error=str(error))


def _path(namespace: str, name: str) -> str:
    return Collection(_VERSION, workload_entry.KIND.plural, namespace).named(name)
