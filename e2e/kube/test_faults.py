"""Everything that an API server does to those who watch it.

After each fault the followed world is that of a fresh list, nothing was taken away that was not deleted, and no kind
that had been read was ever empty.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import web

from e2e.kube import objects
from e2e.kube.client import Client, Data
from e2e.kube.cluster import Cluster
from e2e.kube.crds import custom_kinds, definition
from e2e.kube.following import FAST, Follower, assert_converges, following, wait_until
from e2e.kube.proxies import HttpProxy, TcpProxy, is_watch, refusing
from pypilot.kinds.base import Ref

LEEWAY_SECONDS = 60
"""For so long the API server takes a token that has expired."""


def ref_of(data: Data) -> Ref:
    return Ref(data["kind"], data["metadata"].get("namespace", ""), data["metadata"]["name"])


@asynccontextmanager
async def http_proxy(cluster: Cluster) -> AsyncIterator[tuple[HttpProxy, Path]]:
    """A misbehaving HTTP proxy and the kubeconfig that leads to it."""
    async with HttpProxy(cluster).running() as proxy:
        yield proxy, cluster.kubeconfig(f"http://127.0.0.1:{proxy.port}", name="http")


@asynccontextmanager
async def tcp_proxy(cluster: Cluster) -> AsyncIterator[tuple[TcpProxy, Path]]:
    """A misbehaving TCP proxy before plain HTTP, so that what it cuts is an event and no TLS record."""
    async with HttpProxy(cluster).running() as http, TcpProxy(http.port).running() as tcp:
        yield tcp, cluster.kubeconfig(f"http://127.0.0.1:{tcp.port}", name="tcp")


async def assert_unharmed(follower: Follower, client: Client, deleted: Iterable[Data] = ()) -> None:
    """What must be true after every fault."""
    await assert_converges(follower, client)
    assert sorted(follower.removed) == sorted(ref_of(data) for data in deleted)
    assert not follower.emptied
    await wait_until(lambda: not follower.problems, "the end of all problems")


async def test_apiserver_killed_and_restarted(cluster: Cluster, client: Client) -> None:
    place = "fault-restart"
    await client.apply_all(objects.mesh(place))
    async with following(cluster.kubeconfig()) as follower:
        await asyncio.to_thread(cluster.kill_apiserver)
        await wait_until(lambda: bool(follower.problems), "the outage to be reported")
        assert follower.get("VirtualService", place, "app0") is not None
        await asyncio.to_thread(cluster.start_apiserver)
        await client.apply(objects.virtual_service(place, "app0", weight=7))
        await client.delete(objects.service(place, "app1"))
        await assert_unharmed(follower, client, [objects.service(place, "app1")])


async def test_etcd_compacted_while_the_watch_is_down(cluster: Cluster, client: Client) -> None:
    place = "fault-compaction"
    await client.apply_all(objects.mesh(place))
    async with tcp_proxy(cluster) as (proxy, kubeconfig), following(kubeconfig) as follower:
        await assert_converges(follower, client)
        lists = follower.kind("Service").lists
        before = follower.get("Service", place, "app0")
        updates = follower.updates
        proxy.is_refusing = True
        proxy.cut_all()
        deleted = [objects.service(place, "app1"), objects.virtual_service(place, "app2")]
        for data in deleted:
            await client.delete(data)
        await client.apply_all([objects.service(place, "new"), objects.virtual_service(place, "app0", weight=3)])
        await asyncio.to_thread(cluster.compact)
        await asyncio.to_thread(cluster.kill_apiserver)  # what it remembers of events goes with it
        await asyncio.to_thread(cluster.start_apiserver)
        proxy.is_refusing = False
        await assert_unharmed(follower, client, deleted)
        assert follower.kind("Service").lists > lists, "it should have had to list again"
        assert follower.get("Service", place, "app0") is before, "what did not change is the same object"
        assert follower.updates > updates


async def test_etcd_restored_from_an_older_backup(cluster: Cluster, client: Client) -> None:
    """The server's resourceVersions go backwards: a watch from where we were would be silent, and miss everything."""
    place = "fault-restored"
    await client.apply_all(objects.mesh(place))
    copy = await asyncio.to_thread(cluster.back_up)
    lost = [objects.service(place, f"lost{i}") for i in range(30)]
    await client.apply_all([*lost, objects.virtual_service(place, "app0", weight=3)])
    async with following(cluster.kubeconfig()) as follower:
        await assert_converges(follower, client)
        await asyncio.to_thread(cluster.restore, copy)
        await assert_unharmed(follower, client, lost)
        assert _weight(follower, place, "app0") == 80
        await client.apply(objects.virtual_service(place, "app0", weight=4))
        await assert_unharmed(follower, client, lost)


async def test_same_name_with_another_uid_while_the_watch_is_down(cluster: Cluster, client: Client) -> None:
    """The new object is wrong: the good version of the one that was deleted is not its own."""
    place = "fault-uid"
    await client.apply_all(objects.mesh(place))
    async with tcp_proxy(cluster) as (proxy, kubeconfig), following(kubeconfig) as follower:
        proxy.is_refusing = True
        proxy.cut_all()
        await client.delete(objects.virtual_service(place, "app0"))
        bad = objects.virtual_service(place, "app0")
        bad["spec"]["http"] = [{"timeout": "5s"}]
        await asyncio.sleep(1.1)  # the server writes ages in whole seconds
        await client.apply(bad)
        proxy.is_refusing = False
        await wait_until(lambda: follower.get("VirtualService", place, "app0") is None, "its end")
        await wait_until(lambda: "spec.http[0]" in {p.field for p in follower.problems}, "the problem")
        await client.apply(objects.virtual_service(place, "app0", weight=5))
        await assert_unharmed(follower, client, [bad])


async def test_watch_cut_mid_event(cluster: Cluster, client: Client) -> None:
    place = "fault-cut"
    await client.apply_all(objects.mesh(place))
    async with tcp_proxy(cluster) as (proxy, kubeconfig), following(kubeconfig) as follower:
        lists = follower.kind("VirtualService").lists
        for weight in (10, 20, 30):
            cuts = proxy.cuts
            proxy.cuts_in_half = True
            await client.apply(objects.virtual_service(place, "app0", weight))
            await wait_until(lambda cuts=cuts: proxy.cuts > cuts, "the cut")
            proxy.cuts_in_half = False
            await assert_converges(follower, client)
        deleted = objects.service(place, "app1")
        proxy.cuts_in_half = True
        await client.delete(deleted)
        await asyncio.sleep(0.2)
        proxy.cuts_in_half = False
        await assert_unharmed(follower, client, [deleted])
        assert follower.kind("VirtualService").lists == lists, "a cut watch goes on from where it was"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_429_and_500_answers(status: int, cluster: Cluster, client: Client) -> None:
    place = f"fault-{status}"
    await client.apply_all(objects.mesh(place))
    async with http_proxy(cluster) as (proxy, kubeconfig):
        headers = {"Retry-After": "1"} if status == 429 else {}
        proxy.rule = refusing(status, 2, **headers)
        async with following(kubeconfig) as follower:
            await client.apply(objects.virtual_service(place, "app0", weight=9))
            await client.delete(objects.service(place, "app1"))
            await assert_unharmed(follower, client, [objects.service(place, "app1")])
        if status == 429:
            times = [at for at, path, watch in proxy.requests if path == "/api/v1/services" and not watch]
            assert len(times) >= 3
            assert all(later - earlier >= 1.0 for earlier, later in pairwise(times)), "Retry-After is honoured"


async def test_a_watch_that_the_server_refuses_in_its_stream(cluster: Cluster, client: Client) -> None:
    """An ERROR event in a watch that began well: 410 means a new list, all else a new watch from the same place."""
    place = "fault-error-event"
    await client.apply_all(objects.mesh(place))
    async with http_proxy(cluster) as (proxy, kubeconfig):
        codes = {"/api/v1/services": 410, "/api/v1/pods": 500}

        async def rule(request: web.Request) -> web.StreamResponse | None:
            code = codes.pop(request.path, 0) if is_watch(request) else 0
            if not code:
                return None
            status = {"kind": "Status", "status": "Failure", "code": code, "message": "in the stream"}
            return web.Response(text=json.dumps({"type": "ERROR", "object": status}) + "\n")

        proxy.rule = rule
        async with following(kubeconfig) as follower:
            await wait_until(lambda: not codes, "both errors")
            await client.apply(objects.service(place, "after"))
            await assert_unharmed(follower, client)
            assert follower.kind("Service").lists == 2
            assert follower.kind("Pod").lists == 1


async def test_slow_lists(cluster: Cluster, client: Client) -> None:
    """Pages that come slowly, one of them not in time at all, while the cluster changes."""
    place = "fault-slow"
    await client.apply_all(objects.mesh(place, apps=8))
    async with http_proxy(cluster) as (proxy, kubeconfig):
        late = [place]

        async def rule(request: web.Request) -> web.StreamResponse | None:
            if not is_watch(request) and "limit" in request.query:
                await asyncio.sleep(0.1)
                if "continue" in request.query and late:
                    late.clear()
                    await asyncio.sleep(3)
            return None

        proxy.rule = rule
        pace = replace(FAST, page=3, request=2.0)
        changing = asyncio.create_task(_change_weights(client, place, 15))
        async with following(kubeconfig, pace) as follower:
            assert not late, "no page was late"
            assert len(follower.world.objects["Service"]) >= 8
            await changing
            await assert_unharmed(follower, client)


async def _change_weights(client: Client, place: str, times: int) -> None:
    for weight in range(1, times):
        await client.apply(objects.virtual_service(place, "app0", weight))
        await asyncio.sleep(0.1)


async def test_a_list_whose_pages_expire(cluster: Cluster, client: Client) -> None:
    """The token of the second page is too old whenever it is used: then everything is asked for at once."""
    place = "fault-pages"
    await client.apply_all([objects.namespace(place), *(objects.service(place, f"s{i}") for i in range(12))])
    async with http_proxy(cluster) as (proxy, kubeconfig):

        async def rule(request: web.Request) -> web.StreamResponse | None:
            if "continue" in request.query:
                status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "token too old"}
                return web.json_response(status, status=410)
            return None

        proxy.rule = rule
        async with following(kubeconfig, replace(FAST, page=5)) as follower:
            await assert_unharmed(follower, client)


async def test_stuck_watch_is_noticed(cluster: Cluster, client: Client) -> None:
    """Connections that stay open and carry nothing, not even bookmarks."""
    place = "fault-stuck"
    await client.apply_all(objects.mesh(place))
    pace = replace(FAST, silence=1.0, request=1.0)
    async with tcp_proxy(cluster) as (proxy, kubeconfig), following(kubeconfig, pace) as follower:
        watches = follower.kind("VirtualService").watches
        proxy.is_stalled = True
        await client.apply(objects.virtual_service(place, "app0", weight=33))
        await client.delete(objects.service(place, "app1"))
        await asyncio.sleep(2.5)
        assert follower.get("Service", place, "app1") is not None
        proxy.is_stalled = False
        await assert_unharmed(follower, client, [objects.service(place, "app1")])
        assert follower.kind("VirtualService").watches > watches


async def test_expired_token_is_read_again(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    place = "fault-token"
    await client.apply_all([*objects.mesh(place), objects.service_account(place, "pilot")])
    account = await client.request("GET", f"/api/v1/namespaces/{place}/serviceaccounts/pilot")
    uid = account["metadata"]["uid"]
    rbac = "rbac.authorization.k8s.io"
    rule = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}
    role = {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": "e2e-reader"}, "rules": [rule]}
    subject = {"kind": "ServiceAccount", "name": "pilot", "namespace": place}
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "e2e-reader"},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "e2e-reader"},
        "subjects": [subject],
    }
    await client.apply_all([role, binding])
    token = tmp_path / "token"
    token.write_text(cluster.pki.token(place, "pilot", uid, seconds=4 - LEEWAY_SECONDS))
    async with TcpProxy(cluster.port).running() as proxy:
        user = {"tokenFile": str(token)}
        kubeconfig = cluster.kubeconfig(f"https://127.0.0.1:{proxy.port}", user, name="token")
        async with following(kubeconfig) as follower:
            assert follower.get("VirtualService", place, "app0") is not None
            # The API server remembers for ten seconds that a token was good.
            await wait_until(lambda: proxy.cut_all() or "401" in follower.kind("Service").error, "the expiry")
            await client.apply(objects.virtual_service(place, "app0", weight=44))
            await client.delete(objects.service(place, "app1"))
            await wait_until(lambda: bool(follower.problems), "the expiry to be reported")
            assert not any("eyJ" in str(problem) for problem in follower.problems), "a token is never shown"
            assert not follower.removed
            token.write_text(cluster.pki.token(place, "pilot", uid, seconds=3600))
            await assert_unharmed(follower, client, [objects.service(place, "app1")])


async def test_crd_deleted_and_recreated(cluster: Cluster, client: Client) -> None:
    place = "fault-crd"
    kind = next(k for k in custom_kinds() if k.name == "DestinationRule")
    await client.apply_all(objects.mesh(place))
    async with following(cluster.kubeconfig()) as follower:
        rules = [Ref(kind.name, *key) for key in follower.world.objects[kind.name]]
        others = {name: dict(found) for name, found in follower.world.objects.items() if name != kind.name}
        crd = definition(kind)
        await client.delete(crd)
        await client.wait_gone(crd)
        await wait_until(lambda: follower.kind(kind.name).state == "not served", "the end of the kind")
        await wait_until(lambda: not follower.world.objects.get(kind.name), "the end of its objects")
        assert sorted(follower.removed) == sorted(rules)
        assert {name: dict(found) for name, found in follower.world.objects.items() if found} == others
        assert not follower.problems
        await client.apply_all([crd])
        await client.apply(objects.destination_rule(place, "app1"))
        await wait_until(lambda: follower.get(kind.name, place, "app1") is not None, "the kind again")
        await assert_converges(follower, client)
        assert follower.emptied == {kind.name}


async def test_300_objects_changed_within_a_second(cluster: Cluster, client: Client) -> None:
    place = "fault-burst"
    await client.apply_all(objects.mesh(place))
    await client.apply_all(objects.service(place, f"burst{i}") for i in range(300))
    async with following(cluster.kubeconfig()) as follower:
        await assert_converges(follower, client)
        updates, begun = follower.updates, time.monotonic()
        await client.apply_all(objects.service(place, f"burst{i}", port=81) for i in range(300))
        seconds = time.monotonic() - begun
        await assert_unharmed(follower, client)
        for i in range(300):
            changed = follower.get("Service", place, f"burst{i}")
            assert changed is not None
            assert changed.spec.ports[0].port == 81  # type: ignore[attr-defined]
        print(f"300 changes in {seconds:.2f} s came as {follower.updates - updates} updates")


async def test_object_that_fails_our_validation_though_the_crd_allowed_it(cluster: Cluster, client: Client) -> None:
    place = "fault-invalid"
    await client.apply_all(objects.mesh(place))
    async with following(cluster.kubeconfig()) as follower:
        good = follower.get("VirtualService", place, "app0")
        bad = objects.virtual_service(place, "app0")
        bad["spec"]["http"] = [{"timeout": "5s"}]  # no action at all
        await client.apply(bad)
        await client.apply(objects.virtual_service(place, "app1", weight=5))
        await wait_until(lambda: bool(follower.problems), "the problem")
        (problem,) = follower.problems
        assert problem.ref == Ref("VirtualService", place, "app0")
        assert problem.field == "spec.http[0]"
        assert problem.message.endswith("its last good version stays in force")
        assert str(problem.origin) == "cluster Kubernetes"
        assert follower.get("VirtualService", place, "app0") is good
        await wait_until(lambda: _weight(follower, place, "app1") == 5, "its neighbour")
        # One wrong route of two costs only itself, in an object that has no good version yet.
        half = objects.virtual_service(place, "half")
        half["spec"]["http"].append({"timeout": "1s"})
        await client.apply(half)
        await wait_until(lambda: follower.get("VirtualService", place, "half") is not None, "the usable part")
        await client.apply_all([objects.virtual_service(place, n, weight=6) for n in ("app0", "half")])
        await assert_unharmed(follower, client)
        assert _weight(follower, place, "half") == 6


def _weight(follower: Follower, place: str, name: str) -> int:
    found = follower.get("VirtualService", place, name)
    weight: int = found.spec.http[0].route[0].weight  # type: ignore[union-attr]
    return weight
