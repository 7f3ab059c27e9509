"""The Secret of the root, what is served from it, and where it is published; on a server in memory."""

import asyncio
import base64
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store
from structlog.testing import capture_logs

from pypilot.kube.errors import ApiError, UnreachableError
from pypilot.kube.objects import FollowTimes
from pypilot.security.authority import Authority
from pypilot.security.published import CONFIG_MAP, RootPublisher
from pypilot.security.root import RootKeeper
from pypilot.security.serving import ServingIdentity, serving_names
from pypilot.security.x509 import make_root, secret_data
from tests.kube.fake_api import FakeApi
from tests.security.test_authority import P256
from tests.security.workloads import intermediate
from tests.xds.harness import until

OWN = "/api/v1/namespaces/root/secrets/istio-ca-secret"
PLUGGED = "/api/v1/namespaces/root/secrets/cacerts"


async def instant(_):
    await asyncio.sleep(0.001)


TIMES = FollowTimes(sleep=instant)


def secret(data):
    return {"data": {k: base64.b64encode(v).decode() for k, v in data.items()}}


@asynccontextmanager
async def running(*works):
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_leader_makes_one_and_followers_wait_for_it():
    api = FakeApi()
    leader, follower = (RootKeeper(api, "root", times=TIMES) for _ in range(2))
    async with running(leader.run(), follower.run()):
        await until(lambda: "no Secret" in follower.trouble)
        assert follower.root is None
        async with running(leader.keep_made()):
            await until(lambda: follower.root is not None and leader.root is not None)
        assert follower.root == leader.root
        assert follower.trouble == ""
        assert api.objects[OWN]["type"] == "istio.io/ca-root"
        assert api.writes() == [("POST", "/api/v1/namespaces/root/secrets")]


async def test_two_that_make_one_at_once_end_with_the_same():
    api = FakeApi()
    keepers = [RootKeeper(api, "root", times=TIMES) for _ in range(5)]
    async with running(*(k.run() for k in keepers), *(k.keep_made() for k in keepers)):
        await until(lambda: all(k.root for k in keepers))
        assert len({k.root.fingerprint for k in keepers}) == 1
    assert len(api.writes()) >= 5  # all of them tried


async def test_one_that_was_deleted_comes_back_as_it_was():
    api = FakeApi()
    keeper = RootKeeper(api, "root", times=TIMES)
    async with running(keeper.run(), keeper.keep_made()):
        await until(lambda: keeper.root is not None)
        before = api.objects[OWN]["data"]
        api.remove(OWN)
        await until(lambda: OWN in api.objects)
        assert api.objects[OWN]["data"] == before


async def test_our_own_is_renewed_with_its_key_and_whoever_trusts_either_trusts_both():
    api = FakeApi()
    now = datetime.now(UTC)
    old = make_root("a", now - timedelta(days=365 * 9))
    api.put(OWN, secret(secret_data(old)))
    keepers = [RootKeeper(api, "root", times=TIMES) for _ in range(2)]
    async with running(*(k.run() for k in keepers), *(k.keep_made() for k in keepers)):
        await until(lambda: all(k.root and k.root.certificate != old.certificate for k in keepers))
        new = keepers[0].root
        await until(lambda: keepers[1].root == new)
    assert new.key == old.key
    certificates = [x509.load_pem_x509_certificate(r.certificate) for r in (old, new)]
    assert certificates[1].not_valid_after_utc > now + timedelta(days=3600)
    for root, other in ((old, new), (new, old)):
        chain = Authority(root).workload(P256.public_key(), "spiffe://a/ns/b/sa/c", now, timedelta(days=1)).chain
        leaf = x509.load_pem_x509_certificate(chain[0].encode())
        store = Store([x509.load_pem_x509_certificate(other.bundle)])
        assert PolicyBuilder().store(store).time(now).build_client_verifier().verify(leaf, []).subjects


async def test_what_an_operator_plugged_in_is_never_written():
    api = FakeApi()
    api.put(OWN, secret(secret_data(make_root("a", datetime.now(UTC) - timedelta(days=365 * 9)))))
    api.put(PLUGGED, secret(intermediate("operator")))
    keeper = RootKeeper(api, "root", times=TIMES, now=lambda: datetime.now(UTC) + timedelta(days=45))
    async with running(keeper.run(), keeper.keep_made()):
        await until(lambda: keeper.root is not None)
        await until(lambda: keeper.trouble == "")
    assert api.writes() == []


async def test_it_is_tried_again_until_it_can_be_made():
    api = FakeApi()
    faults = iter([ApiError(403, "no"), UnreachableError("away")])
    api.fault = lambda method, path: next(faults, None) if method == "POST" else None
    keeper = RootKeeper(api, "root", times=TIMES)
    async with running(keeper.run(), keeper.keep_made()):
        await until(lambda: keeper.root is not None)


async def test_a_plugged_in_ca_wins_and_is_followed():
    api = FakeApi()
    api.put(OWN, secret(secret_data(make_root("a", datetime.now(UTC)))))
    keeper = RootKeeper(api, "root", times=TIMES)
    told = []
    keeper.listen(lambda: told.append(keeper.root.bundle))
    data = intermediate("operator")
    async with running(keeper.run(), keeper.keep_made()):
        await until(lambda: len(told) == 1)
        api.put(PLUGGED, secret(data))
        await until(lambda: len(told) == 2)
        assert keeper.root.bundle == data["root-cert.pem"]
        api.put(PLUGGED, {**secret(data), "metadata": {"labels": {"a": "b"}}})
        newer = intermediate("operator")
        api.put(PLUGGED, secret(newer))
        await until(lambda: len(told) == 3)
        assert told[-1] == newer["root-cert.pem"]
    assert api.writes() == []


async def test_one_that_cannot_be_used_is_said_and_neither_written_over_nor_followed():
    api = FakeApi()
    root = make_root("a", datetime.now(UTC))
    api.put(OWN, secret(secret_data(root)))
    keeper = RootKeeper(api, "root", times=TIMES)
    async with running(keeper.run(), keeper.keep_made()):
        await until(lambda: keeper.root is not None)
        with capture_logs() as logs:
            for text in (b"x", b"y"):
                api.put(OWN, secret({**secret_data(root), "ca-key.pem": text}))
            api.put(OWN, {"data": {"ca-key.pem": "***"}})
            await until(lambda: "base64" in keeper.trouble)
        assert len([e for e in logs if e["event"] == "the root cannot be used"]) == 2
        assert keeper.root == root
    assert api.writes() == []


def test_the_names_are_those_that_proxies_and_the_api_server_use():
    names = serving_names("istio-system", "cluster.local", "default")
    assert {"istiod.istio-system.svc", "istiod.istio-system.svc.cluster.local", "pypilot.istio-system.svc"} <= {*names}
    assert "istiod-canary.istio-system.svc" in serving_names("istio-system", "cluster.local", "canary")


async def test_the_certificate_is_renewed_at_half_its_life_and_when_the_root_changes():
    api = FakeApi()
    now = start = datetime.now(UTC)
    api.put(OWN, secret(secret_data(make_root("a", now))))
    keeper = RootKeeper(api, "root", times=TIMES, now=lambda: now)
    serving = ServingIdentity(keeper, ["istiod"], lifetime=timedelta(hours=24), now=lambda: now, sleep=instant)
    told = []
    serving.listen(lambda: told.append(serving.stamp()))
    with pytest.raises(ValueError, match="yet"):
        serving.read()
    async with running(keeper.run(), serving.run()):
        await asyncio.wait_for(serving.ready.wait(), 60)
        first = serving.stamp()
        now = start + timedelta(hours=11)
        await asyncio.sleep(0.1)
        assert serving.stamp() == first
        now = start + timedelta(hours=12, minutes=1)
        await until(lambda: serving.stamp() != first)
        second = serving.read()
        assert x509.load_pem_x509_certificates(second[1])[0].not_valid_after_utc > start + timedelta(hours=36)
        api.put(OWN, secret(secret_data(make_root("b", now))))
        await until(lambda: serving.read()[2] != second[2])
        assert serving.read()[2] == keeper.root.bundle
        assert told == [1, 2, 3]


# -- publishing -------------------------------------------------------------------------------------------------------


def place(namespace):
    return f"/api/v1/namespaces/{namespace}/configmaps/{CONFIG_MAP}"


def texts(api):
    return {
        path.split("/")[4]: found["data"].get("root-cert.pem")
        for path, found in api.objects.items()
        if path.endswith(CONFIG_MAP)
    }


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@asynccontextmanager
async def publishing(api, bundle=lambda: b"PEM", scope=()):
    clock = Clock()
    publisher = RootPublisher(api, bundle, scope, clock=clock, times=TIMES)
    async with running(publisher.run()):
        yield publisher, clock


async def test_every_namespace_gets_it_and_keeps_what_else_is_there():
    """KSVC-038."""
    api = FakeApi()
    api.put(place("b"), {"data": {"root-cert.pem": "old", "more": "x"}, "metadata": {"labels": {"l": "1"}}})
    async with publishing(api) as (publisher, _):
        publisher.namespaces_changed(["a", "b"])
        await until(lambda: texts(api) == {"a": "PEM", "b": "PEM"})
        assert api.objects[place("b")]["data"]["more"] == "x"
        assert api.objects[place("b")]["metadata"]["labels"] == {"l": "1"}
        publisher.namespaces_changed(["a", "b", "c"])
        await until(lambda: "c" in texts(api))
        await until(lambda: publisher.statistics().published == 3)
        assert publisher.statistics().writes == 3


async def test_it_is_repaired_at_once_and_a_quarrel_becomes_slow():
    """KSVC-038."""
    api = FakeApi()
    async with publishing(api) as (publisher, clock):
        publisher.namespaces_changed(["a"])
        await until(lambda: texts(api) == {"a": "PEM"})
        clock.now += 100
        api.put(place("a"), {"data": {"root-cert.pem": "x"}})
        await until(lambda: texts(api) == {"a": "PEM"})
        clock.now += 100
        api.remove(place("a"))
        await until(lambda: texts(api) == {"a": "PEM"})
        writes = publisher.statistics().writes
        for _ in range(10):
            api.put(place("a"), {"data": {"root-cert.pem": "x"}})
            await asyncio.sleep(0.02)
        assert publisher.statistics().writes - writes <= 1


async def test_another_root_goes_everywhere():  # CA-009
    api, bundle = FakeApi(), b"PEM"
    async with publishing(api, lambda: bundle) as (publisher, clock):
        publisher.namespaces_changed(["a", "b"])
        await until(lambda: set(texts(api).values()) == {"PEM"})
        bundle = b"NEW"
        clock.now += 10
        publisher.bundle_changed()
        await until(lambda: texts(api) == {"a": "NEW", "b": "NEW"})


@pytest.mark.parametrize("steps", range(6))
async def test_it_can_be_stopped_at_any_moment(steps):
    api = FakeApi()
    keeper = RootKeeper(api, "root", times=TIMES)
    publisher = RootPublisher(api, lambda: b"PEM", times=TIMES)
    publisher.namespaces_changed(["a"])
    tasks = [asyncio.create_task(work) for work in (keeper.run(), keeper.keep_made(), publisher.run())]
    await until(lambda: keeper.root is not None and texts(api) == {"a": "PEM"})
    await asyncio.sleep(0.05)
    publisher.bundle_changed()
    api.put(OWN, {**api.objects[OWN], "more": 1})
    for _ in range(steps):  # something happens just before
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    _, running_on = await asyncio.wait(tasks, timeout=30)
    assert not running_on


async def test_nothing_is_published_before_there_is_something():
    api, bundle = FakeApi(), b""
    async with publishing(api, lambda: bundle) as (publisher, _):
        publisher.namespaces_changed(["a"])
        await asyncio.sleep(0.05)
        assert api.writes() == []
        bundle = b"PEM"
        publisher.bundle_changed()
        await until(lambda: texts(api) == {"a": "PEM"})


async def test_a_namespace_that_cannot_be_written_to_costs_the_others_nothing():
    api = FakeApi()
    api.fault = lambda method, path: ApiError(403, "forbidden") if method == "POST" and "/bad/" in path else None
    async with publishing(api) as (publisher, clock):
        publisher.namespaces_changed(["bad", "good"])
        await until(lambda: "good" in texts(api))
        await until(lambda: publisher.statistics().errors == {"bad": "403 forbidden"})
        tries = len(api.writes())
        await asyncio.sleep(0.1)
        assert len(api.writes()) == tries  # not again and again
        api.fault = lambda method, path: None
        clock.now += 100
        publisher.namespaces_changed(["bad", "good", "new"])
        await until(lambda: texts(api) == {"bad": "PEM", "good": "PEM", "new": "PEM"})
        assert publisher.statistics().errors == {}


@pytest.mark.parametrize(
    "error",
    [
        ApiError(
            403,
            'configmaps "x" is forbidden: unable to create new content in namespace a because it is being terminated',
        ),
        ApiError(404, 'namespaces "a" not found'),
    ],
)
async def test_a_namespace_that_goes_is_left_alone_without_a_word(error):
    api = FakeApi()
    api.fault = lambda method, path: error if method == "POST" else None
    with capture_logs() as logs:
        async with publishing(api) as (publisher, clock):
            publisher.namespaces_changed(["a"])
            await until(lambda: bool(api.writes()))
            clock.now += 100
            publisher.bundle_changed()
            await asyncio.sleep(0.05)
            assert len(api.writes()) == 1
            publisher.namespaces_changed([])
            api.fault = lambda method, path: None
            publisher.namespaces_changed(["a"])  # one of the same name is another namespace
            await until(lambda: texts(api) == {"a": "PEM"})
    assert logs == []


async def test_with_roles_only_each_namespace_is_watched_alone():
    api = FakeApi()
    async with publishing(api, scope=["a", "b"]) as (publisher, _):
        publisher.namespaces_changed(["a", "b", "c"])
        await until(lambda: texts(api) == {"a": "PEM", "b": "PEM"})
        lists = {path for method, path, _ in api.calls if method == "GET"}
        assert lists == {"/api/v1/namespaces/a/configmaps", "/api/v1/namespaces/b/configmaps"}
