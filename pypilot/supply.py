"""Where configuration comes from: all sources of a process, read completely at first, then followed for ever.

Their deltas pass the intake and go to the engine. What a source is, is its own business; here they are only started,
joined and kept going.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Protocol

import structlog

from pypilot.assembly import CLUSTER, FILES, constants_of
from pypilot.engine.loop import Engine
from pypilot.kube.connection import Access, Connection, KubernetesConnection
from pypilot.settings import Settings
from pypilot.sources.files import FileSource
from pypilot.sources.intake import Intake
from pypilot.sources.kubernetes.source import KubernetesSource
from pypilot.sources.kubernetes.statistics import Statistics
from pypilot.sources.update import Update
from pypilot.world.delta import Delta, Problem

_RETRY_SECONDS = 1.0
"""How long to wait before following a source again, should that ever fail."""


class Source(Protocol):
    """What gives objects."""

    async def initial(self) -> Update:
        """Everything there is. Waits for as long as it takes to know that."""
        ...

    def updates(self) -> AsyncGenerator[Update, None]:
        """Every change after that, for ever."""
        ...

    def locate(self, problem: Problem) -> Problem:
        """The same problem where it belongs, if it is about an object of this source. May block."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


class _Files:
    """Reads files in a thread."""

    def __init__(self, files: FileSource) -> None:
        self._files = files
        self.updates = files.updates
        self.locate = files.locate

    async def initial(self) -> Update:
        return await asyncio.to_thread(self._files.initial)

    async def close(self) -> None:
        return None


def connect(settings: Settings) -> KubernetesConnection | None:
    """The way to the cluster that the settings name, if they name one."""
    return KubernetesConnection(Access(settings.kubeconfig, settings.kube_context)) if settings.kubernetes else None


class Supply:
    """The sources that the settings name; files win over the cluster."""

    def __init__(
        self, settings: Settings, connection: Connection | None, engine: Engine, changed: Callable[[str, Delta], None]
    ) -> None:
        """`changed` is told of every change that went to the engine."""
        self._engine = engine
        self._changed = changed
        self._sources: dict[str, Source] = {}
        if settings.config or settings.mesh_config is not None:
            self._sources[FILES] = _Files(FileSource(settings.config, settings.mesh_config))
        self._cluster: KubernetesSource | None = None
        if connection is not None:
            self._cluster = KubernetesSource(
                connection, settings.root_namespace, settings.namespaces, settings.cluster_id
            )
            self._sources[CLUSTER] = self._cluster
        self._intake = Intake(constants_of(settings), tuple(self._sources), selects_namespaces=not settings.namespaces)
        self._problems: Mapping[str, frozenset[Problem]] = {}
        self._log = structlog.get_logger("pypilot")

    async def start(self) -> None:
        """Read all sources completely; only then the engine gets anything (CTL-002)."""
        updates = await asyncio.gather(*(source.initial() for source in self._sources.values()))
        gathered = dict(zip(self._sources, updates, strict=True))
        for name, update in gathered.items():
            self._take(name, update)
        self._engine.publish()
        if not self._engine.is_ready:  # there may be no object at all
            self._engine.load(Delta())

    async def follow(self) -> None:
        """Carry changes to the engine, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for name, source in self._sources.items():
                tasks.create_task(self._follow(name, source))

    async def close(self) -> None:
        """Let go of the sources."""
        await asyncio.gather(*(source.close() for source in self._sources.values()))

    def statistics(self) -> Statistics | None:
        """How watching the cluster goes; None without one."""
        return None if self._cluster is None else self._cluster.statistics()

    async def located(self, found: Iterable[Problem]) -> tuple[Problem, ...]:
        """The same problems, each where it belongs."""
        found = tuple(found)
        known = frozenset().union(*self._problems.values())
        if all(p in known for p in found):
            return found
        return await asyncio.to_thread(self._locate, found, known)

    def _locate(self, found: tuple[Problem, ...], known: frozenset[Problem]) -> tuple[Problem, ...]:
        out = []
        for problem in found:
            for source in self._sources.values() if problem not in known else ():
                problem = source.locate(problem)
            out.append(problem)
        return tuple(out)

    def _take(self, name: str, update: Update) -> None:
        self._problems = {**self._problems, name: frozenset(update.problems)}
        delta = self._intake.admit(name, update.delta)
        self._engine.apply(delta, name, update.problems)
        self._engine.apply(Delta(), "intake", self._intake.problems())
        if delta:
            self._changed(name, delta)

    async def _follow(self, name: str, source: Source) -> None:
        while True:
            try:
                async for update in source.updates():
                    self._take(name, update)
            except Exception:
                self._log.exception("following a source failed, trying again", source=name)
                await asyncio.sleep(_RETRY_SECONDS)
