import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pypilot.kinds import KINDS
from pypilot.kinds.base import Ref
from pypilot.kube.errors import ApiError
from pypilot.sources.kubernetes.source import KubernetesSource
from pypilot.sources.kubernetes.statistics import KindStatistics
from pypilot.world.advance import advance
from pypilot.world.world import World
from tests.sources.kubernetes.fakes import (
    Clock,
    FakeConnection,
    Hold,
    Reply,
    Request,
    event,
    item,
    listed,
    not_found,
    service,
    unreachable,
    until,
)

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
VIRTUAL_SERVICES = "/apis/networking.istio.io/v1/virtualservices"
CUSTOM = frozenset(k.plural for k in KINDS if k.group)


def virtual_service(name: str) -> dict[str, Any]:
    route = {"route": [{"destination": {"host": name}}]}
    return item(name, spec={"hosts": [name], "http": [route]})


class Server:
    """What a cluster holds; tests change it as it runs."""

    def __init__(self) -> None:
        self.lists: dict[str, list[dict[str, Any]]] = {"/api/v1/services": [service("a")]}
        self.lists[VIRTUAL_SERVICES] = [virtual_service("vs")]
        self.served = {k.plural: list(k.versions) for k in KINDS if k.group}
        self.defined = {f"{k.plural}.{k.group}" for k in KINDS if "istio" in k.group}
        self.broken: dict[str, Reply] = {}
        self.is_aggregated = True
        self.has_started = True
        self.events: dict[str, asyncio.Queue[bytes]] = {}

    def get(self, request: Request) -> Reply:
        path = request.path
        for start, reply in self.broken.items():
            if path.startswith(start):
                return reply
        if path == "/readyz":
            return b"ok" if self.has_started else ApiError(500, "informers have not synced yet")
        if path == "/apis":
            return self._groups(request.accept)
        if path == CRDS:
            return listed(*(item(name, "", metadata={"generation": 1}) for name in sorted(self.defined)))
        group, version, plural = ([*path.split("/"), "", ""])[2:5]
        if path.startswith("/apis/") and not plural:
            names = [p for p, versions in self.served.items() if self._group(p) == group and version in versions]
            return json.dumps({"resources": [{"name": name} for name in names]}).encode() if names else not_found()
        plural = path.rpartition("/")[2]
        if plural in CUSTOM and version not in self.served.get(plural, ()):
            return not_found()
        return listed(*self.lists.get(path, ()))

    def _group(self, plural: str) -> str:
        return next(k.group for k in KINDS if k.plural == plural)

    def _groups(self, accept: str) -> bytes:
        if not (self.is_aggregated and "APIGroupDiscoveryList" in accept):
            return b'{"kind": "APIGroupList", "groups": []}'
        items = [
            {
                "metadata": {"name": group},
                "versions": [
                    {"version": v, "resources": [{"resource": p} for p in self.served if v in self.served[p]]}
                    for v in ("v1", "v1beta1", "v1alpha3", "v9")
                ],
            }
            for group in {k.group for k in KINDS if k.group}
        ]
        return json.dumps({"kind": "APIGroupDiscoveryList", "items": items}).encode()

    async def _watch(self, path: str) -> AsyncIterator[bytes]:
        queue = self.events.setdefault(path, asyncio.Queue())
        while True:
            yield await queue.get()

    def watch(self, request: Request) -> Iterable[Reply | object]:
        if request.path.rpartition("/")[2] in self.served and self.get(request) is None:
            return [not_found()]
        return [Hold]

    def tell(self, path: str, kind: str, data: dict[str, Any]) -> None:
        self.events.setdefault(path, asyncio.Queue()).put_nowait(event(kind, data))


class LiveConnection(FakeConnection):
    """Watches carry what the server tells."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.get, server.watch)
        self._server = server

    @asynccontextmanager
    async def stream(self, path: str, parameters: Any, accept: str, silence: float) -> AsyncIterator[Any]:
        self.requests.append(Request(path, dict(parameters), accept))
        found = self._server.get(Request(path, {}, accept))
        if isinstance(found, Exception):
            raise found
        yield self._server._watch(path)


class Followed:
    """A source and the world that it made."""

    def __init__(self, source: KubernetesSource, connection: FakeConnection, clock: Clock) -> None:
        self.source, self.connection, self.clock = source, connection, clock
        self.world = World()
        self.problems: list[str] = []
        self.removed: list[Ref] = []

    def take(self, update: Any) -> None:
        self.world = advance(self.world, update.delta)
        self.problems = [str(p) for p in update.problems]
        self.removed.extend(update.delta.removals)

    def names(self, kind: str) -> set[str]:
        return {name for _, name in self.world.objects.get(kind, {})}

    def kind(self, name: str) -> KindStatistics:
        return next(k for k in self.source.statistics().kinds if k.kind == name)


@asynccontextmanager
async def followed(server: Server, **options: Any) -> AsyncIterator[Followed]:
    connection, clock = LiveConnection(server), Clock()
    # Waiting for the next look at what is served is real time: a little.
    source = KubernetesSource(connection, pace=clock.pace(discovery=0.01, first_retry=0.001), **options)
    run = Followed(source, connection, clock)
    run.take(await source.initial())

    async def follow() -> None:
        async for update in source.updates():
            run.take(update)

    task = asyncio.create_task(follow())
    try:
        yield run
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await source.close()


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(90):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("is_aggregated", [True, False])
async def test_the_first_update_has_everything(is_aggregated: bool) -> None:
    server = Server()
    server.is_aggregated = is_aggregated
    async with followed(server) as run:
        assert run.names("Service") == {"a"}
        assert run.names("VirtualService") == {"vs"}
        assert {k.state for k in run.source.statistics().kinds} == {"synced"}
        assert str(run.world.origins[Ref("Service", "default", "a")]) == "cluster Kubernetes"


async def test_nothing_is_given_before_every_served_kind_was_read() -> None:
    server = Server()
    server.broken[VIRTUAL_SERVICES] = unreachable()
    source = KubernetesSource(LiveConnection(server), pace=Clock().pace())
    waiting = asyncio.create_task(source.initial())
    await until(lambda: sum(k.state == "synced" for k in source.statistics().kinds) == len(KINDS) - 1)
    assert not waiting.done()
    server.broken.clear()
    update = await waiting
    assert Ref("VirtualService", "default", "vs") in {o.ref for o in update.delta.upserts}
    await source.close()


async def test_no_discovery_no_readiness() -> None:
    server = Server()
    server.broken["/apis"] = ApiError(500, "not yet")
    source = KubernetesSource(LiveConnection(server), pace=Clock().pace(first_retry=0.001, longest_retry=0.01))
    waiting = asyncio.create_task(source.initial())
    await eventually(lambda: source.statistics().discovery_error)
    assert not waiting.done()
    assert {k.state for k in source.statistics().kinds if k.group} == {"unknown"}
    server.broken.clear()
    await waiting
    await source.close()


async def test_a_kind_that_is_defined_but_not_served_yet_is_waited_for() -> None:
    """As on a server that has just started: the first state would lack its objects."""
    server = Server()
    versions = server.served.pop("virtualservices")
    source = KubernetesSource(LiveConnection(server), pace=Clock().pace(first_retry=0.001, longest_retry=0.01))
    waiting = asyncio.create_task(source.initial())
    await eventually(lambda: sum(k.state == "synced" for k in source.statistics().kinds) == len(KINDS) - 1)
    assert not waiting.done()
    server.served["virtualservices"] = versions
    assert "vs" in {o.name for o in (await waiting).delta.upserts}
    await source.close()


@pytest.mark.parametrize("what", ["a definition that is never served", "a server that never says that it has started"])
async def test_but_not_for_ever(what: str) -> None:
    server, clock = Server(), Clock()
    if what.startswith("a definition"):
        del server.served["virtualservices"]
    else:
        server.has_started = False
    source = KubernetesSource(LiveConnection(server), pace=clock.pace(first_retry=0.001, longest_retry=0.01))
    waiting = asyncio.create_task(source.initial())
    await eventually(lambda: all(k.state in ("synced", "not served") for k in source.statistics().kinds))
    assert not waiting.done()
    clock.now += 11
    await waiting
    await source.close()


async def test_a_kind_in_a_version_of_the_future_is_not_waited_for() -> None:
    server, clock = Server(), Clock()
    server.served["virtualservices"] = ["v9"]
    server.defined.add("virtualservices.networking.istio.io")
    source = KubernetesSource(LiveConnection(server), pace=clock.pace())
    await source.initial()
    assert clock.now < 1
    assert {k.kind: k.state for k in source.statistics().kinds}["VirtualService"] == "not served"
    await source.close()


async def test_a_kind_without_definition_is_watched_as_soon_as_there_is_one() -> None:
    server = Server()
    del server.served["virtualservices"]
    server.defined.discard("virtualservices.networking.istio.io")
    async with followed(server) as run:
        assert run.kind("VirtualService").state == "not served"
        server.defined.add("virtualservices.networking.istio.io")
        name = "virtualservices.networking.istio.io"
        server.tell(CRDS, "ADDED", item(name, "", version="11"))
        server.served["virtualservices"] = ["v1beta1"]
        server.lists[VIRTUAL_SERVICES.replace("v1", "v1beta1")] = [virtual_service("old")]
        await eventually(lambda: run.names("VirtualService") == {"old"})
        assert run.kind("VirtualService").version == "v1beta1"
        # A better version is served.
        server.served["virtualservices"] = ["v1beta1", "v1"]
        server.lists[VIRTUAL_SERVICES] = [virtual_service("old")]
        await eventually(lambda: run.kind("VirtualService").version == "v1")
        assert not run.removed


async def test_a_definition_that_goes_takes_its_objects_and_no_others() -> None:
    server = Server()
    async with followed(server) as run:
        del server.served["virtualservices"]
        name = "virtualservices.networking.istio.io"
        server.defined.discard(name)
        server.tell(CRDS, "DELETED", item(name, "", version="11"))
        await eventually(lambda: not run.names("VirtualService"))
        assert run.removed == [Ref("VirtualService", "default", "vs")]
        assert run.kind("VirtualService").state == "not served"


async def test_discovery_that_misses_a_kind_takes_nothing_while_it_is_defined() -> None:
    """As of a server that has just started."""
    server = Server()
    async with followed(server) as run:
        versions = server.served.pop("virtualservices")
        await asyncio.sleep(0.1)
        run.clock.now += 1000
        await asyncio.sleep(0.1)
        assert run.names("VirtualService") == {"vs"}
        server.served["virtualservices"] = versions
        server.tell(VIRTUAL_SERVICES, "ADDED", {**virtual_service("new")})
        await eventually(lambda: "new" in run.names("VirtualService"))
        assert not run.removed


async def test_where_definitions_may_not_be_read_a_kind_must_be_missing_for_long() -> None:
    server = Server()
    server.broken[CRDS] = ApiError(403, "customresourcedefinitions is forbidden")
    async with followed(server) as run:
        await eventually(lambda: run.kind("VirtualService").watches > 0)
        del server.served["virtualservices"]
        await asyncio.sleep(0.05)
        assert run.names("VirtualService") == {"vs"}, "the watch is still open"
        server.tell(VIRTUAL_SERVICES, "ERROR", {"kind": "Status", "code": 410})
        await eventually(lambda: not run.names("VirtualService"))
        assert run.clock.now >= 10
        assert run.names("Service") == {"a"}


async def test_changes_while_the_taker_is_busy_are_merged() -> None:
    server = Server()
    source = KubernetesSource(LiveConnection(server), pace=Clock().pace(discovery=60))
    await source.initial()
    for i in range(50):
        server.tell("/api/v1/services", "ADDED", service(f"s{i % 10}", port=i + 1, version=str(20 + i)))
    server.tell("/api/v1/services", "DELETED", service("s9", version="99"))
    server.tell("/api/v1/services", "DELETED", service("a", version="100"))
    stored = source._reflectors[next(k for k in KINDS if k.name == "Service")][0].store
    await until(lambda: set(stored.objects) == {("default", f"s{i}") for i in range(9)})
    update = await anext(source.updates())
    assert len(update.delta.upserts) == 9
    assert update.delta.removals == (Ref("Service", "default", "a"),), "what was never given need not be removed"
    assert {o.spec.ports[0].port for o in update.delta.upserts} == set(range(41, 50))  # type: ignore[attr-defined]
    await source.close()


async def test_problems_are_given_and_go() -> None:
    server = Server()
    async with followed(server) as run:
        server.tell("/api/v1/services", "MODIFIED", item("a", version="11", spec={"type": "ExternalName"}))
        await eventually(lambda: bool(run.problems))
        assert run.problems == [
            "cluster Kubernetes: Service default/a: spec.externalName: an ExternalName service needs an externalName; "
            "its last good version stays in force"
        ]
        server.tell("/api/v1/services", "MODIFIED", service("a", version="12"))
        await eventually(lambda: not run.problems)


async def test_an_unreachable_server_is_one_problem_and_takes_nothing() -> None:
    server = Server()
    async with followed(server) as run:
        server.broken["/"] = unreachable()
        for path in ("/api/v1/services", VIRTUAL_SERVICES):
            server.tell(path, "ERROR", {"kind": "Status", "code": 500, "message": "bye"})
        await eventually(lambda: bool(run.problems))
        message = "cluster Kubernetes: the API server cannot be reached; what was known stays in force"
        assert run.problems == [message]
        server.broken.clear()
        server.tell("/api/v1/services", "ADDED", service("b", version="30"))
        await eventually(lambda: run.names("Service") == {"a", "b"})
        await eventually(lambda: not run.problems)
        assert not run.removed


async def test_namespaces_are_asked_for_one_by_one() -> None:
    server = Server()
    server.lists["/api/v1/namespaces/x/services"] = [service("in-x")]
    async with followed(server, namespaces=("x", "y")) as run:
        assert run.names("Service") == {"in-x"}
        paths = {r.path for r in run.connection.requests}
        assert {"/api/v1/namespaces/istio-system/configmaps", "/api/v1/namespaces/y/pods"} <= paths
        assert not [p for p in paths if p not in ("/apis", "/readyz") and "/namespaces/" not in p]
        assert run.kind("Node").state == "not read"


async def test_close_ends_everything() -> None:
    source = KubernetesSource(LiveConnection(Server()), pace=Clock().pace())
    await source.initial()
    await source.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
