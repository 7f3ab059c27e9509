"""A follower of a cluster through pypilot's source, and what must be true of it after every fault.

`assert_converges` says that the followed state is that of the cluster. It reads the cluster anew, by plain lists and
with the parser of files, that is with none of the source's code, and puts that into an engine of its own. Then it
compares the objects of both worlds, every derived table, and, for a router and a sidecar of each namespace that has
pods, the bytes of all that they would be served: clusters, listeners, endpoints, routes and secrets. The follower's
side of this is the engine that lived through the fault, with everything that it remembers of the time before.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from e2e.kube.client import Client
from pypilot.assembly import CLUSTER
from pypilot.compile.generators import GENERATORS
from pypilot.engine.loop import Engine
from pypilot.kinds import kind_of
from pypilot.kinds.base import Object, Ref
from pypilot.kinds.parse import parse_object
from pypilot.kube.connection import Access, KubernetesConnection
from pypilot.sources.intake import Intake
from pypilot.sources.kubernetes.pace import Pace
from pypilot.sources.kubernetes.slimming import CONFIG_MAP_KEYS
from pypilot.sources.kubernetes.source import KubernetesSource
from pypilot.sources.kubernetes.statistics import KindStatistics
from pypilot.sources.update import Update
from pypilot.wire.node import Proxy, parse_node
from pypilot.world.delta import Delta, Problem
from pypilot.world.world import World

FAST = Pace(first_retry=0.05, longest_retry=1.0, discovery=2.0, request=20.0, silence=60.0)
"""Faults are many here, and each costs a wait."""
SECONDS = 90.0
"""A hung test is a failure; a slow machine is not."""


class Follower:
    """Gives every update to an engine, as `pypilot serve` does, and keeps what was taken away."""

    def __init__(self, source: KubernetesSource) -> None:
        self.source = source
        self.engine = Engine(GENERATORS, linger=0.0)
        self._intake = Intake(self.engine.world.constants, [CLUSTER])
        self.problems: tuple[Problem, ...] = ()
        self.removed: list[Ref] = []
        self.updates = 0
        self.emptied: set[str] = set()
        """Kinds that had objects and then, after some update, none."""

    def take(self, update: Update) -> None:
        before = {kind for kind, objects in self.world.objects.items() if objects}
        delta = self._intake.admit(CLUSTER, update.delta)
        self.engine.load(delta, CLUSTER, update.problems)
        self.problems = update.problems
        self.removed.extend(delta.removals)
        self.updates += 1
        self.emptied |= {kind for kind in before if not self.world.objects.get(kind)}

    @property
    def world(self) -> World:
        return self.engine.world

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


async def fresh_engine(client: Client) -> Engine:
    """An engine over what plain lists and the parser of files give: none of the source's own code."""
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
    engine = Engine(GENERATORS, linger=0.0)
    engine.load(Intake(engine.world.constants, [CLUSTER]).admit(CLUSTER, Delta(tuple(objects))))
    return engine


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


def proxies_of(world: World) -> list[Proxy]:
    """A router and a sidecar of each namespace that has pods."""
    firsts: dict[str, Object] = {}
    for key, pod in sorted(world.objects.get("Pod", {}).items()):
        firsts.setdefault(key[0], pod)
    return [parse_node(_node(pod, kind)) for pod in firsts.values() for kind in ("sidecar", "router")]


def _node(pod: Object, kind: str) -> dict[str, Any]:
    ip = pod.ips[0]  # type: ignore[attr-defined]
    meta = {
        "NAME": pod.name,
        "NAMESPACE": pod.namespace,
        "CLUSTER_ID": "Kubernetes",
        "SERVICE_ACCOUNT": pod.spec.service_account_name,  # type: ignore[attr-defined]
        "ISTIO_VERSION": "1.30.0",
        "INSTANCE_IPS": ip,
        "LABELS": pod.metadata.labels if kind == "sidecar" else {"istio": "ingressgateway"},
    }
    where = f"{kind}~{ip}~{pod.name}.{pod.namespace}~{pod.namespace}.svc.cluster.local"
    return {"id": where, "metadata": meta}


def compiled(engine: Engine, proxy: Proxy) -> dict[str, dict[str, bytes]]:
    """Everything that a proxy would be served: type, name, bytes; in the order in which it is sent."""
    found = engine.compile_for(proxy)
    return {t: {r.name: r.any_bytes for r in resources} for t, resources in found.items()}


def wire_difference(ours: Engine, fresh: Engine, proxies: Iterable[Proxy]) -> str:
    """What differs between what two engines would serve; empty if nothing does."""
    for proxy in proxies:
        mine, theirs = compiled(ours, proxy), compiled(fresh, proxy)
        for kind, resources in theirs.items():
            if mine[kind] == resources and list(mine[kind]) == list(resources):
                continue
            names = [n for n in mine[kind].keys() | resources.keys() if mine[kind].get(n) != resources.get(n)]
            return f"{proxy.id}: {kind.rsplit('.', 1)[-1]} {sorted(names)[:5] or 'in another order'}"
    return ""


async def assert_converges(follower: Follower, client: Client) -> None:
    """The followed world becomes what a fresh list says: in objects, in every derived table, and in compiled bytes."""
    end = time.monotonic() + SECONDS
    while True:
        fresh = await fresh_engine(client)
        found = difference(follower.world, fresh.world)
        if not found:
            break
        assert time.monotonic() < end, found
        await asyncio.sleep(0.1)
    assert not wire_difference(follower.engine, fresh, proxies_of(fresh.world))
