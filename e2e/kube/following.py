"""A follower of a cluster through pypilot's source, and what must be true of it after every fault."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from e2e.kube.client import Client
from pypilot.kinds import kind_of
from pypilot.kinds.base import Object, Ref
from pypilot.kinds.parse import parse_object
from pypilot.kube.connection import Access, KubernetesConnection
from pypilot.sources.kubernetes.pace import Pace
from pypilot.sources.kubernetes.slimming import CONFIG_MAP_KEYS
from pypilot.sources.kubernetes.source import KubernetesSource
from pypilot.sources.kubernetes.statistics import KindStatistics
from pypilot.sources.update import Update
from pypilot.world.advance import advance
from pypilot.world.delta import Delta, Problem
from pypilot.world.world import World

FAST = Pace(first_retry=0.05, longest_retry=1.0, discovery=2.0, request=20.0, silence=60.0)
"""Faults are many here, and each costs a wait."""
SECONDS = 90.0
"""A hung test is a failure; a slow machine is not."""


class Follower:
    """Applies every update to a world, and keeps what was taken away."""

    def __init__(self, source: KubernetesSource) -> None:
        self.source = source
        self.world = World()
        self.problems: tuple[Problem, ...] = ()
        self.removed: list[Ref] = []
        self.updates = 0
        self.emptied: set[str] = set()
        """Kinds that had objects and then, after some update, none."""

    def take(self, update: Update) -> None:
        before = {kind for kind, objects in self.world.objects.items() if objects}
        self.world = advance(self.world, update.delta)
        self.problems = update.problems
        self.removed.extend(update.delta.removals)
        self.updates += 1
        self.emptied |= {kind for kind in before if not self.world.objects.get(kind)}

    def kind(self, name: str) -> KindStatistics:
        """The statistics of a kind."""
        return next(k for k in self.source.statistics().kinds if k.kind == name)

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        return self.world.get(Ref(kind, namespace, name))


@asynccontextmanager
async def following(kubeconfig: Path, pace: Pace = FAST, **options: object) -> AsyncIterator[Follower]:
    """A source that was read completely and is being followed."""
    source = KubernetesSource(KubernetesConnection(Access(kubeconfig)), pace=pace, **options)  # type: ignore[arg-type]
    follower = Follower(source)

    async def follow() -> None:
        async for update in source.updates():
            follower.take(update)

    try:
        async with asyncio.timeout(SECONDS):
            follower.take(await source.initial())
        task = asyncio.create_task(follow())
        try:
            yield follower
            assert not task.done(), "following ended"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    finally:
        await source.close()


async def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that must come true."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"in vain for {what}"
        await asyncio.sleep(0.02)


async def fresh_world(client: Client) -> World:
    """The world by plain lists and the parser of files: none of the source's own code."""
    objects = []
    for data in await client.everything():
        meta = data["metadata"]
        if data["kind"] == "Secret" and data.get("type") == "helm.sh/release.v1":
            continue
        if data["kind"] == "ConfigMap":
            data["data"] = {k: v for k, v in (data.get("data") or {}).items() if k in CONFIG_MAP_KEYS}
            if not data["data"]:
                continue
        if data["kind"] == "Pod" and "conditions" in data.get("status", {}):
            data["status"]["conditions"] = [c for c in data["status"]["conditions"] if c["type"] == "Ready"]
        kind = kind_of(data["apiVersion"], data["kind"])
        assert kind is not None
        parsed = parse_object(kind, data)
        assert parsed.object is not None, (meta, parsed.findings)
        objects.append(parsed.object)
    return advance(World(), Delta(tuple(objects)))


def difference(ours: World, fresh: World) -> str:
    """What differs between two worlds; empty if nothing does."""
    for kind in sorted(ours.objects.keys() | fresh.objects.keys()):
        mine, theirs = dict(ours.objects.get(kind, {})), dict(fresh.objects.get(kind, {}))
        if mine != theirs:
            keys = [k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k)]
            return f"{kind}: {len(keys)} differ, as {keys[0]}: {mine.get(keys[0])!r} != {theirs.get(keys[0])!r}"
    for table in sorted(ours.tables.keys() | fresh.tables.keys()):
        left, right = dict(ours.tables.get(table, {})), dict(fresh.tables.get(table, {}))
        if left != right:
            keys = [k for k in left.keys() | right.keys() if left.get(k) != right.get(k)]
            return f"table {table}: {keys[:3]}"
    return ""


async def assert_converges(follower: Follower, client: Client) -> None:
    """The followed world becomes what a fresh list says, in objects and in every derived table."""
    end = time.monotonic() + SECONDS
    while True:
        found = difference(follower.world, await fresh_world(client))
        if not found:
            return
        assert time.monotonic() < end, found
        await asyncio.sleep(0.1)
