"""The engine's loop: gathers deltas until the world is quiet for a moment, advances it once, and wakes the feeds.

A feed is one connected proxy's door: it compiles on demand through the memo, and keeps the last good set where a
compile function fails. Knows no protocol: type URLs are only keys of the generators it was given.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from pypilot.compile.envoy_filters.findings import bad_values, idle_patches, outcome
from pypilot.compile.view import ProxyView, view_of
from pypilot.engine.advice import Advice, Adviser
from pypilot.engine.memo import Memo
from pypilot.kinds.base import Ref
from pypilot.wire.node import Proxy
from pypilot.wire.resource import EMPTY, ResourceSet
from pypilot.world.advance import advance
from pypilot.world.delta import Delta, Problem
from pypilot.world.reader import Reader
from pypilot.world.world import Constants, World

Generator = Callable[[Reader, Proxy], ResourceSet]


class CompileFailedError(Exception):
    """A type cannot be compiled for a proxy, and never could."""


class Guard(Protocol):
    """Looks at a delta before the world does (see `last_good.CredentialGuard`)."""

    def admit(self, delta: Delta) -> tuple[Delta, tuple[Problem, ...]]:
        """The delta that may pass, and every problem that stands after it."""


@dataclass(frozen=True, slots=True)
class Debounce:
    """When a gathered change is published. Seconds."""

    quiet: float = 0.010
    """After this long without a further change."""
    longest: float = 0.100
    """At the latest this long after the first one, however constant the stream of changes is."""


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """Counters since the start, and sizes now."""

    generation: int
    publishes: int
    feeds: int
    views: int
    memo_entries: int
    memo_buckets: int
    computed: Mapping[str, int]
    compile_failures: int


class Engine:
    """Owns the world and the memo. All methods are called from one event loop."""

    def __init__(
        self,
        generators: Mapping[str, Generator],
        constants: Constants | None = None,
        debounce: Debounce | None = None,
        guard: Guard | None = None,
        linger: float = 30.0,
        advisers: Mapping[str, Adviser] | None = None,
    ) -> None:
        """`linger`: seconds for which what a proxy used is kept after it has gone, in case it or its like come back."""
        self.world = World(constants=constants or Constants())
        self.memo = Memo(self.world)
        self._advice = Advice(self.memo, advisers or {})
        self.debounce = debounce or Debounce()
        self._generators = generators
        self._guard = guard
        self._pending: list[Delta] = []
        self._source_problems: dict[str, tuple[Problem, ...]] = {}
        self._guard_problems: tuple[Problem, ...] = ()
        self._compile_problems: dict[tuple[str, str], Problem] = {}
        self._apply_problems: dict[Ref | None, Problem] = {}
        self._feeds: set[Feed] = set()
        self._listeners: list[Callable[[], None]] = []
        self._proxies: dict[Proxy, int] = {}
        self._linger = linger
        self._leaving: dict[Proxy, asyncio.TimerHandle] = {}
        self._first = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._publishes = 0
        self._failures = 0
        self._log = structlog.get_logger("pypilot.engine")

    # -- input --------------------------------------------------------------------------------------------------------

    def apply(self, delta: Delta, source: str = "", problems: Iterable[Problem] | None = None) -> None:
        """Take a change; it is published after the debounce. `problems` replaces what that source reported before."""
        if problems is not None:
            self._source_problems[source] = tuple(problems)
        if not delta:
            return
        now = asyncio.get_running_loop().time()
        if not self._pending:
            self._first = now
        self._pending.append(delta)
        at = min(now + self.debounce.quiet, self._first + self.debounce.longest)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(at, self.publish)

    def load(self, delta: Delta, source: str = "", problems: Iterable[Problem] | None = None) -> None:
        """Take a change and publish it at once: for the first state, and where no event loop runs."""
        if problems is not None:
            self._source_problems[source] = tuple(problems)
        self._pending.append(delta)
        self.publish()

    def publish(self) -> None:
        """Advance the world over everything gathered and wake the feeds; at once, without waiting for quiet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pending, self._pending = self._pending, []
        if not pending:
            return
        changed = False
        for delta in pending:
            if self._guard is not None:
                delta, self._guard_problems = self._guard.admit(delta)
            changed = self._advance(delta) or changed
        self._publishes += 1
        if changed:
            for feed in tuple(self._feeds):
                feed.notify()
        for told in self._listeners:
            told()

    def _advance(self, delta: Delta) -> bool:
        """Advance world and memo. If that fails, the objects are tried one by one, so that one cannot hold the rest."""
        try:
            self._step(advance(self.world, delta))
            return bool(self.world.changed)
        except Exception:
            self._log.exception("a change could not be applied whole, trying its objects one by one")
        changed = False
        singles = [Delta(removals=(ref,)) for ref in delta.removals]
        singles += [
            Delta(upserts=(o,), origins={o.ref: delta.origins[o.ref]} if o.ref in delta.origins else {})
            for o in delta.upserts
        ]
        singles += [Delta(mesh=delta.mesh)] if delta.mesh is not None else []
        singles += [Delta(key_sets=delta.key_sets)] if delta.key_sets else []
        for single in singles:
            subject = single.upserts[0].ref if single.upserts else None
            try:
                self._step(advance(self.world, single))
                changed = changed or bool(self.world.changed)
                self._apply_problems.pop(subject, None)
            except Exception as error:
                self._log.exception("an object could not be applied", object=str(subject))
                message = f"cannot be applied, what was known before stays in force: {type(error).__name__}"
                self._apply_problems[subject] = Problem(message, code="apply-failed", ref=subject)
        return changed

    def _step(self, world: World) -> None:
        self.world = world
        self.memo.advance(world, world.changed)

    # -- output -------------------------------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """True once the first delta was applied: before that nothing may be served."""
        return self.world.generation > 0

    def listen(self, told: Callable[[], None]) -> None:
        """`told` is called after every change that was taken, whether or not a proxy can notice it."""
        self._listeners.append(told)

    def open(self, proxy: Proxy, notify: Callable[[], None]) -> "Feed":
        """A door for one connected proxy; `notify` is called whenever something may have changed for it."""
        feed = Feed(self, proxy, notify)
        self._feeds.add(feed)
        self._proxies[proxy] = self._proxies.get(proxy, 0) + 1
        if (leaving := self._leaving.pop(proxy, None)) is not None:
            leaving.cancel()
        return feed

    def compile_for(self, proxy: Proxy) -> dict[str, ResourceSet]:
        """Everything one proxy could ask for, by type URL; a type that fails is empty and among the problems."""
        feed = self.open(proxy, lambda: None)
        made: dict[str, ResourceSet] = {}
        try:
            for type_url in self._generators:
                try:
                    made[type_url] = feed.current(type_url)
                except CompileFailedError:
                    made[type_url] = EMPTY
        finally:
            feed.close()
        return made

    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong now: with the sources, the credentials, the mesh, compilation, references."""
        origins = self.world.origins
        found = [p for problems in self._source_problems.values() for p in problems]
        found.extend(self._guard_problems)
        found.extend(self.world.problems)
        found.extend(self._apply_problems.values())
        found.extend(self._compile_problems.values())
        found.extend(self._filter_problems())
        found.extend(self._advice.problems(self.world))
        return tuple(
            Problem(p.message, p.severity, p.code, p.ref, p.field, origins[p.ref])
            if p.origin is None and p.ref is not None and p.ref in origins
            else p
            for p in found
        )

    def _filter_problems(self) -> Iterable[Problem]:
        """What is wrong with EnvoyFilters: in themselves, and at the proxies that are connected."""
        found = list(self.memo.root(bad_values))
        outcomes = []
        for proxy in self._proxies:
            # What cannot be compiled is a problem of its own.
            with suppress(Exception):
                outcomes.append(self.memo.root(outcome, proxy))
        found += idle_patches(Reader(self.world), outcomes)
        return (Problem(f.message, f.severity, f.code, ref, f.field) for ref, f in found)

    def statistics(self) -> EngineStatistics:
        """Counters and sizes."""
        sizes = self.memo.statistics()
        views: set[ProxyView] = {self.memo.root(view_of, proxy) for proxy in self._proxies}
        return EngineStatistics(
            generation=self.world.generation,
            publishes=self._publishes,
            feeds=len(self._feeds),
            views=len(views),
            memo_entries=sizes["entries"],
            memo_buckets=sizes["buckets"],
            computed=dict(self.memo.computed),
            compile_failures=self._failures,
        )

    # -- for feeds ----------------------------------------------------------------------------------------------------

    def generate(self, type_url: str, proxy: Proxy, last_good: ResourceSet | None) -> ResourceSet:
        """The current set; the last good one, and a problem, where the compile function fails.

        Raises:
            CompileFailedError: it fails and there is no last good one. An empty set would take away what a proxy has.
        """
        generator = self._generators.get(type_url)
        if generator is None:
            return EMPTY
        where = (type_url, proxy.id)
        try:
            made = self.memo.root(generator, proxy)
        except Exception as error:
            self._failures += 1
            kept = "nothing is sent" if last_good is None else "the last good resources stay in force"
            self._log.exception("compile failed", type_url=type_url, node=proxy.id, then=kept)
            message = f"cannot compile {type_url.rsplit('.', 1)[-1]} for {proxy.id}; {kept}"
            self._compile_problems[where] = Problem(message, code="compile-failed")
            if last_good is None:
                raise CompileFailedError(message) from error
            return last_good
        self._compile_problems.pop(where, None)
        return made

    def forget(self, feed: "Feed") -> None:
        """Close a feed; what no other proxy uses leaves the memo after a while."""
        if feed not in self._feeds:
            return
        self._feeds.discard(feed)
        self._proxies[feed.proxy] -= 1
        if self._proxies[feed.proxy]:
            return
        del self._proxies[feed.proxy]
        for type_url in self._generators:
            self._compile_problems.pop((type_url, feed.proxy.id), None)
        if self._linger and (loop := _running_loop()) is not None:
            self._leaving[feed.proxy] = loop.call_later(self._linger, self._release, feed.proxy)
        else:
            self._release(feed.proxy)

    def _release(self, proxy: Proxy) -> None:
        self._leaving.pop(proxy, None)
        for generator in self._generators.values():
            self.memo.release(generator, proxy)
        self.memo.release(view_of, proxy)
        self.memo.release(outcome, proxy)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Feed:
    """One connected proxy's door to the engine (`xds.catalog.ProxyFeed`)."""

    def __init__(self, engine: Engine, proxy: Proxy, notify: Callable[[], None]) -> None:
        self.proxy = proxy
        self.notify = notify
        self._engine = engine
        self._last_good: dict[str, ResourceSet] = {}

    def current(self, type_url: str) -> ResourceSet:
        """Everything of that type that the proxy could ask for; the same object as long as nothing changed.

        Raises:
            CompileFailedError: there is none to be had now.
        """
        made = self._engine.generate(type_url, self.proxy, self._last_good.get(type_url))
        self._last_good[type_url] = made
        return made

    def close(self) -> None:
        """The proxy is gone."""
        self._engine.forget(self)
