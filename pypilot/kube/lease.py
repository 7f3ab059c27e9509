"""Who of several replicas may write: one holds a Lease, the others wait until it is not renewed any more.

Times are only ever compared with this process's own clock: a lease has expired when nobody was seen to change it for
its duration, whatever its timestamps say. The holder stops earlier than the others may begin (renew deadline < lease
duration), also if it cannot reach the API server, so there are never two at a time.

Source: coordination.k8s.io/v1 Lease.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from pypilot.kube.connection import WritingConnection
from pypilot.kube.errors import FAILURES, ApiError
from pypilot.kube.objects import Collection, create, read, replace

_API = "coordination.k8s.io/v1"
_RELEASE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """Seconds, and where time and chance come from."""

    duration: float = 15.0
    renew_deadline: float = 10.0
    """The holder that could not renew for so long stops."""
    retry: float = 2.0
    """How often it is renewed, or tried for; a little longer by chance."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


class Election:
    """One candidate."""

    def __init__(
        self,
        connection: WritingConnection,
        namespace: str,
        name: str,
        identity: str,
        timing: LeaseTiming | None = None,
    ) -> None:
        """`identity` must be no other candidate's, nor that of an earlier process."""
        self.identity = identity
        self.holder = ""
        """Who was last seen to hold the lease."""
        self.leading = asyncio.Event()
        """Set while the work is done, for those who wait for it; whether one may write is `is_leading`."""
        self._connection = connection
        self._collection = Collection(_API, "leases", namespace)
        self._path = self._collection.named(name)
        self._name = name
        self._timing = timing or LeaseTiming()
        self._lease: dict[str, Any] | None = None
        self._until: float | None = None
        self._seen: tuple[Any, ...] = ()
        self._seen_at = 0.0
        self._error = ""
        self._log = structlog.get_logger("pypilot.kubernetes").bind(lease=f"{namespace}/{name}")

    @property
    def is_leading(self) -> bool:
        """True while no other can be; becomes false by time alone, should this process stall."""
        return self._left() > 0

    def _left(self) -> float:
        return 0.0 if self._until is None else self._until - self._timing.clock()

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Lead again and again, and do the work meanwhile. Never ends by itself; releases the lease when cancelled."""
        try:
            while True:
                while not await self._try_to_acquire():
                    await self._pause()
                self._log.info("leading", identity=self.identity)
                self.leading.set()
                await self._lead(work)
                await self._pause()
        finally:
            await self._release()

    # -- leading ------------------------------------------------------------------------------------------------------

    async def _lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Until the lease is lost or the work fails; nothing of it runs afterwards."""
        doing = asyncio.ensure_future(work())
        keeping = asyncio.create_task(self._keep())
        try:
            await asyncio.wait({doing, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if doing.done() and not doing.cancelled() and (error := doing.exception()) is not None:
                self._log.error("the leader's work failed", error=repr(error))
        finally:
            doing.cancel()
            keeping.cancel()
            await asyncio.gather(doing, keeping, return_exceptions=True)
            held = self.is_leading
            self._log.info("no longer leading", identity=self.identity)
            if held:
                await self._release()
            self._until = None
            self.leading.clear()

    async def _keep(self) -> None:
        """Renew until the lease is lost."""
        timing = self._timing
        while (left := self._left()) > 0:
            await timing.sleep(min(self._interval(), left))
            if (left := self._left()) <= 0:
                return
            try:
                async with asyncio.timeout(left):  # wait_for of Python 3.11 can lose a cancellation
                    is_held = await self._renew()
                if not is_held:
                    self._log.warning("the lease was taken over", holder=self.holder)
                    self._until = None
                    return
            except TimeoutError:
                return
            except FAILURES as error:
                self._failed(error)

    async def _renew(self) -> bool:
        """False if somebody else holds the lease."""
        begun = self._timing.clock()
        assert self._lease is not None
        lease = None
        try:
            lease = await replace(self._connection, self._path, self._body(self._lease), self._timing.retry * 2)
        except ApiError as error:
            if error.status != 404:
                raise
        if lease is None:  # changed or deleted by somebody, or by ourselves if an answer was lost
            found = await read(self._connection, self._path, self._timing.retry * 2)
            if found is None:
                lease = await create(self._connection, self._collection.path, self._body(None))
            elif self._observe(found) == self.identity:
                lease = await replace(self._connection, self._path, self._body(found), self._timing.retry * 2)
            else:
                return False
            if lease is None:
                return True  # somebody was quicker: the next attempt shows who
        self._hold(lease, begun)
        return True

    # -- acquiring ----------------------------------------------------------------------------------------------------

    async def _try_to_acquire(self) -> bool:
        timing = self._timing
        try:
            found = await read(self._connection, self._path)
            begun = timing.clock()
            if found is None:
                lease = await create(self._connection, self._collection.path, self._body(None))
            else:
                holder = self._observe(found)
                duration = max(timing.duration, float(found.get("spec", {}).get("leaseDurationSeconds") or 0))
                if holder not in ("", self.identity) and begun < self._seen_at + duration:
                    self._succeeded()
                    return False
                lease = await replace(self._connection, self._path, self._body(found))
        except FAILURES as error:
            self._failed(error)
            return False
        self._succeeded()
        if lease is None or timing.clock() >= begun + timing.renew_deadline:
            return False
        self._hold(lease, begun)
        return True

    def _hold(self, lease: dict[str, Any], begun: float) -> None:
        self._lease = lease
        self._observe(lease)
        self._until = begun + self._timing.renew_deadline
        self._succeeded()

    def _observe(self, lease: dict[str, Any]) -> str:
        """The holder; remembers when its record was first seen as it is."""
        spec = lease.get("spec") or {}
        seen = tuple(spec.get(key) for key in ("holderIdentity", "renewTime", "acquireTime", "leaseTransitions"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._timing.clock()
        self.holder = spec.get("holderIdentity") or ""
        return self.holder

    def _body(self, before: dict[str, Any] | None) -> dict[str, Any]:
        now = self._timing.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = dict((before or {}).get("spec") or {})
        if spec.get("holderIdentity") != self.identity:
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (before is not None)
            spec["acquireTime"] = now
        spec |= {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": round(self._timing.duration),
            "renewTime": now,
        }
        metadata = (before or {}).get("metadata") or {"name": self._name, "namespace": self._collection.namespace}
        return {"apiVersion": _API, "kind": "Lease", "metadata": metadata, "spec": spec}

    # -- the rest -----------------------------------------------------------------------------------------------------

    async def _release(self) -> None:
        """Let the others have it at once; only if the work has ended."""
        lease, self._lease, self._until = self._lease, None, None
        if lease is None:
            return
        spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await replace(self._connection, self._path, {**lease, "spec": spec}, _RELEASE_SECONDS)
        except (*FAILURES, TimeoutError) as error:
            self._log.info("the lease could not be released", error=str(error))

    def _interval(self) -> float:
        return self._timing.retry * (1 + 0.2 * self._timing.chance())

    async def _pause(self) -> None:
        await self._timing.sleep(self._interval())

    def _failed(self, error: Exception) -> None:
        kind = type(error).__name__
        if kind != self._error:
            self._error = kind
            self._log.warning("the lease cannot be reached", error=str(error))

    def _succeeded(self) -> None:
        self._error = ""
