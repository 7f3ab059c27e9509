"""A Kubernetes cluster as a source: reflectors for all kinds that it serves, and their changes as `Update`s.

Which kinds are served is asked again and again, and at once when a CustomResourceDefinition comes or goes; a kind's
objects are taken away only when it is certain that it is no longer served. Everything runs on one event loop.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import structlog

from pypilot.kinds import KINDS
from pypilot.kinds.base import Kind, Object, Origin, Ref
from pypilot.kube.connection import Connection
from pypilot.kube.errors import FAILURES, ApiError, UnreachableError
from pypilot.sources.kubernetes.definitions import DefinitionWatch
from pypilot.sources.kubernetes.discovery import Served, discover, has_started
from pypilot.sources.kubernetes.pace import Pace
from pypilot.sources.kubernetes.plan import Plan
from pypilot.sources.kubernetes.reflector import Reflector
from pypilot.sources.kubernetes.statistics import KindStatistics, Statistics, describe
from pypilot.sources.kubernetes.store import Changes
from pypilot.sources.update import Update
from pypilot.world.delta import Delta, Problem

_CONFIRM_SECONDS = 10.0
"""Where CustomResourceDefinitions cannot be read: a kind must be missing for so long before its objects go."""
_STARTING_SECONDS = 10.0
"""For so long the first state waits for a server that says that it is starting, or that defines what it does not serve:
some do so for ever."""


class KubernetesSource:
    """All objects of `kinds` in one cluster, or in some of its `namespaces` and the root namespace."""

    def __init__(
        self,
        connection: Connection,
        root_namespace: str = "istio-system",
        namespaces: Sequence[str] = (),
        cluster_id: str = "Kubernetes",
        kinds: Sequence[Kind] = KINDS,
        pace: Pace | None = None,
    ) -> None:
        """With `namespaces`, only what Roles can allow is read: no cluster-scoped kinds, no resource definitions."""
        self._connection = connection
        self._kinds = tuple(kinds)
        self._plan = Plan(root_namespace, tuple(namespaces))
        self._origin = Origin(f"cluster {cluster_id}")
        self._pace = pace or Pace()
        self._reflectors: dict[Kind, tuple[Reflector, ...]] = {}
        self._tasks: dict[Kind, tuple[asyncio.Task[None], ...]] = {}
        self._absent: dict[Kind, float] = {}
        """Kinds that were being watched, and since when they are not found."""
        self._pending: dict[Ref, Object | None] = {}
        self._known: set[Ref] = set()
        self._awake = asyncio.Event()
        self._look = asyncio.Event()
        self._is_complete = asyncio.Event()
        self._discovered = False
        self._starting_since: float | None = None
        """Since when it is known that the server does not serve everything yet."""
        self._is_all_served = False
        self._discovery_error = ""
        self._supervisor: asyncio.Task[None] | None = None
        self._definitions = DefinitionWatch(connection, self._kinds, self._pace, self._look.set)
        self._reported: tuple[Problem, ...] = ()
        self._missing: tuple[str, ...] = ()
        self._is_unreachable = False
        self._log = structlog.get_logger("pypilot.kubernetes")

    # -- for the application ------------------------------------------------------------------------------------------

    async def initial(self) -> Update:
        """Begin, and wait until every kind that is served was read completely (CTL-002)."""
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise(), name="kubernetes kinds")
        await self._is_complete.wait()
        return self._update()

    async def updates(self) -> AsyncGenerator[Update, None]:
        """Every change from now on, for ever; what comes while the taker is busy is merged."""
        while True:
            await self._awake.wait()
            before = self._reported
            update = self._update()
            if update.delta or update.problems != before:
                yield update

    async def close(self) -> None:
        """Stop watching and end all requests."""
        if self._supervisor is not None:
            await _cancel([self._supervisor])
        await _cancel([t for ts in self._tasks.values() for t in ts])
        await self._definitions.close()
        await self._connection.close()

    def locate(self, problem: Problem) -> Problem:
        """The same problem with its origin, if it is about an object of this source."""
        if problem.origin is None and problem.ref in self._known:
            return replace(problem, origin=self._origin)
        return problem

    def statistics(self) -> Statistics:
        """What is watched, and how it goes."""
        kinds: list[KindStatistics] = [
            describe(kind, self._plan, self._reflectors.get(kind, ()), self._discovered) for kind in self._kinds
        ]
        return Statistics(tuple(kinds), self._discovery_error)

    # -- which kinds are served ---------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        """Ask what is served, start and stop reflectors accordingly; for ever."""
        backoff = self._pace.retry()
        if self._plan.is_namespaced:
            self._definitions.settled.set()
        else:
            self._definitions.start()
        core = {kind: kind.versions[0] for kind in self._kinds if not kind.group}
        await self._arrange(core, is_whole=False)  # need not be asked for
        while True:
            self._look.clear()
            try:
                if not self._is_all_served:
                    has_begun = await has_started(self._connection, self._pace.request)
                    await self._definitions.settled.wait()
                    self._look.clear()
                served = await discover(self._connection, self._kinds, self._pace.request)
                if not self._is_all_served:
                    self._is_all_served = self._has_all(served, has_begun)
                await self._arrange(served.versions, is_whole=True)
            except FAILURES as error:
                self._discovery_error = str(error) or type(error).__name__
                if backoff.failures == 1 and not isinstance(error, UnreachableError):
                    self._log.warning("cannot ask which kinds are served", error=self._discovery_error)
                delay = backoff.failed(error.retry_after if isinstance(error, ApiError) else None)
            except Exception as error:  # a defect of ours: what is being watched goes on
                self._log.exception("looking for kinds failed")
                self._discovery_error = type(error).__name__
                delay = backoff.failed()
            else:
                self._discovery_error = ""
                self._report_missing(served.versions)
                if self._definitions.expects(served) or self._absent or not self._is_all_served:
                    delay = backoff.failed()  # about to be served, or just gone: look again soon
                else:
                    backoff.succeeded()
                    delay = self._pace.discovery
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):  # wait_for of Python 3.11 can lose a cancellation
                    await self._look.wait()
            await self._pace.sleep(self._pace.first_retry / 2)  # those who call are many

    def _has_all(self, served: Served, has_begun: bool) -> bool:
        """False while a server that has just started does not serve yet all that it will: no state is complete then."""
        if has_begun and not self._definitions.expects(served):
            return True
        now = self._pace.clock()
        if self._starting_since is None:
            self._starting_since = now
        return now - self._starting_since >= _STARTING_SECONDS

    async def _arrange(self, served: Mapping[Kind, str], is_whole: bool) -> None:
        """Start what is newly served, stop what is gone."""
        for kind, version in served.items():
            self._absent.pop(kind, None)
            running = self._reflectors.get(kind)
            if running is None:
                self._begin(kind, version)
            elif running[0].resource.version != version:
                self._log.info("kind is served in another version", kind=kind.name, version=version)
                await self._restart(kind, version)
        if not is_whole:
            return
        now = self._pace.clock()
        for kind in [k for k in self._reflectors if k not in served]:
            since = self._absent.setdefault(kind, now)
            is_defined = self._definitions.is_defined(kind)
            # A server that just started may not list yet what it will serve: that alone takes nothing away.
            is_lost = all(r.is_missing for r in self._reflectors[kind]) and now - since >= _CONFIRM_SECONDS
            if is_defined is False or (is_defined is None and is_lost):
                await self._end(kind)
        self._discovered = True
        self._check_complete()

    def _begin(self, kind: Kind, version: str) -> None:
        resources = self._plan.resources(kind, version)
        if not resources:
            return
        if self._discovered:
            self._log.info("kind is served now", kind=kind.name, version=version)
        self._reflectors[kind] = tuple(
            Reflector(self._connection, r, self._origin, self._pace, self._take, self._look.set) for r in resources
        )
        self._run(kind)

    async def _restart(self, kind: Kind, version: str) -> None:
        """Another version of the same objects: they stay, and are listed again."""
        await self._stop(kind)
        resources = self._plan.resources(kind, version)
        for reflector, resource in zip(self._reflectors[kind], resources, strict=True):
            reflector.use(resource)
        self._run(kind)

    async def _end(self, kind: Kind) -> None:
        self._log.info("kind is no longer served", kind=kind.name)
        self._absent.pop(kind, None)
        await self._stop(kind)
        for reflector in self._reflectors.pop(kind):
            self._take(reflector.store.clear())

    def _run(self, kind: Kind) -> None:
        self._tasks[kind] = tuple(
            asyncio.create_task(r.run(), name=f"watch {kind.name}") for r in self._reflectors[kind]
        )

    async def _stop(self, kind: Kind) -> None:
        await _cancel(self._tasks.pop(kind, ()))

    def _report_missing(self, served: Mapping[Kind, str]) -> None:
        missing = tuple(f"{k.plural}.{k.group}" for k in self._kinds if k not in served and k not in self._reflectors)
        if missing != self._missing:
            self._missing = missing
            if missing:
                self._log.info("kinds that the cluster does not serve are watched once it does", missing=missing)

    # -- what changed -------------------------------------------------------------------------------------------------

    def _take(self, changes: Changes) -> None:
        """A reflector's changes."""
        upserts = tuple(obj for obj in changes.values() if obj is not None)
        removals = tuple(ref for ref, obj in changes.items() if obj is None)
        self._hand_over(Delta(upserts, removals))
        self._check_complete()
        down = next((r for rs in self._reflectors.values() for r in rs if r.is_unreachable), None)
        if (down is not None) != self._is_unreachable:
            self._is_unreachable = down is not None
            if down is not None:
                self._log.warning("the API server cannot be reached", error=down.lasting_error)
            else:
                self._log.info("the API server can be reached again")

    def _hand_over(self, delta: Delta) -> None:
        for ref in delta.removals:
            self._pending[ref] = None
        for obj in delta.upserts:
            self._pending[obj.ref] = obj
        if self._is_complete.is_set():
            self._awake.set()

    def _check_complete(self) -> None:
        if self._is_complete.is_set() or not (self._discovered and self._is_all_served):
            return
        if all(r.synced.is_set() for rs in self._reflectors.values() for r in rs):
            self._is_complete.set()

    def _update(self) -> Update:
        """Everything since the last call."""
        self._awake.clear()
        pending, self._pending = self._pending, {}
        upserts = tuple(obj for obj in pending.values() if obj is not None)
        removals = tuple(ref for ref, obj in pending.items() if obj is None and ref in self._known)
        new = [obj.ref for obj in upserts if obj.ref not in self._known]
        self._known.update(new)
        self._known.difference_update(removals)
        self._reported = tuple(self._problems())
        return Update(Delta(upserts, removals, dict.fromkeys(new, self._origin)), self._reported)

    def _problems(self) -> Iterable[Problem]:
        """Everything that is wrong now."""
        if self._is_unreachable:
            message = "the API server cannot be reached; what was known stays in force"
            yield Problem(message, code="watch", origin=self._origin)
        for kind, reflectors in self._reflectors.items():
            for reflector in reflectors:
                if reflector.lasting_error and not reflector.is_unreachable:
                    where = f" in {reflector.resource.namespace}" if reflector.resource.namespace else ""
                    message = f"{kind.plural}{where} cannot be watched: {reflector.lasting_error}"
                    yield Problem(f"{message}; what was known stays in force", code="watch", origin=self._origin)
                yield from reflector.store.problems()


async def _cancel(tasks: Collection[asyncio.Task[None]]) -> None:
    """End tasks, also those that mistake a cancellation for a request that took too long."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=1.0)
