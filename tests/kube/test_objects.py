"""Following single objects by name: nothing is lost by a fault, nothing is taken away by one."""

import asyncio

import pytest

from pypilot.kube.errors import ApiError, UnreachableError
from pypilot.kube.objects import Collection, Follower, FollowTimes, create, read, replace
from tests.kube.fake_api import FakeApi
from tests.xds.harness import until


def path(namespace, name="root"):
    return f"/api/v1/namespaces/{namespace}/configmaps/{name}"


def config_map(text):
    return {"data": {"k": text}, "metadata": {"managedFields": ["x" * 1000]}}


async def instant(_):
    await asyncio.sleep(0)


@pytest.fixture
async def following():
    tasks = []

    def make(api, namespace=""):
        follower = Follower(
            api, Collection("v1", "configmaps", namespace), "root", lambda: None, FollowTimes(sleep=instant)
        )
        tasks.append(asyncio.create_task(follower.run()))
        return follower

    yield make
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def seen(follower):
    return {namespace: found["data"]["k"] for namespace, found in follower.objects.items()}


@pytest.mark.parametrize(
    ("collection", "expected"),
    [
        (Collection("v1", "secrets", "a"), "/api/v1/namespaces/a/secrets"),
        (Collection("v1", "configmaps"), "/api/v1/configmaps"),
        (Collection("coordination.k8s.io/v1", "leases", "a"), "/apis/coordination.k8s.io/v1/namespaces/a/leases"),
    ],
)
def test_paths(collection, expected):
    assert collection.path == expected
    assert collection.named("n") == f"{expected}/n"


async def test_what_is_there_and_what_comes(following):
    api = FakeApi()
    api.put(path("a"), config_map("1"))
    api.put(path("a", "other"), config_map("no"))
    follower = following(api)
    await follower.synced.wait()
    assert seen(follower) == {"a": "1"}
    assert "managedFields" not in follower.objects["a"]["metadata"]
    api.put(path("b"), config_map("2"))
    api.put(path("a"), config_map("3"))
    await until(lambda: seen(follower) == {"a": "3", "b": "2"})
    api.remove(path("a"))
    await until(lambda: seen(follower) == {"b": "2"})


async def test_one_namespace(following):
    api = FakeApi()
    api.put(path("a"), config_map("1"))
    api.put(path("b"), config_map("2"))
    follower = following(api, "a")
    await follower.synced.wait()
    assert seen(follower) == {"a": "1"}


async def test_what_happened_while_the_watch_was_down_is_found(following):
    api = FakeApi()
    api.put(path("a"), config_map("1"))
    api.put(path("b"), config_map("1"))
    follower = following(api)
    await follower.synced.wait()
    broken = UnreachableError("away")
    api.fault = lambda method, _: broken
    await until(lambda: bool(api._watches))
    api.cut_watches()
    await until(lambda: follower.error == "away")
    api.put(path("a"), config_map("2"))
    api.remove(path("b"))
    assert seen(follower) == {"a": "1", "b": "1"}  # an error takes nothing away
    api.fault = lambda method, _: None
    await until(lambda: seen(follower) == {"a": "2"})
    assert follower.error == ""


async def test_an_expired_watch_lists_again(following):
    api = FakeApi()
    follower = following(api)
    await until(lambda: bool(api._watches))
    api._watches[0][2].put_nowait({"type": "ERROR", "object": {"code": 410, "message": "too old"}})
    api.put(path("a"), config_map("1"))
    await until(lambda: seen(follower) == {"a": "1"})


@pytest.mark.parametrize(
    "event", ["nonsense", {"type": "MODIFIED"}, {"type": "MODIFIED", "object": {"metadata": {}}}, 3]
)
async def test_odd_events_do_no_harm(following, event):
    api = FakeApi()
    api.put(path("a"), config_map("1"))
    follower = following(api)
    await until(lambda: bool(api._watches))
    api._watches[0][2].put_nowait(event)
    await until(lambda: bool(api._watches))
    api.put(path("b"), config_map("2"))
    await until(lambda: seen(follower) == {"a": "1", "b": "2"})


async def test_what_is_forbidden_is_said_at_once(following):
    api = FakeApi()
    api.fault = lambda method, _: ApiError(403, "forbidden")
    follower = following(api)
    await until(lambda: "forbidden" in follower.error)
    assert not follower.synced.is_set()


async def test_single_objects():
    api = FakeApi()
    collection = Collection("v1", "configmaps", "a")
    assert await read(api, collection.named("root")) is None
    made = await create(api, collection.path, {"metadata": {"name": "root"}, "data": {"k": "1"}})
    assert made
    assert await create(api, collection.path, {"metadata": {"name": "root"}}) is None
    assert await replace(api, collection.named("root"), {**made, "data": {"k": "2"}})
    assert await replace(api, collection.named("root"), {**made, "data": {"k": "3"}}) is None
    found = await read(api, collection.named("root"))
    assert found
    assert found["data"] == {"k": "2"}
    api.fault = lambda method, _: ApiError(500, "x")
    with pytest.raises(ApiError):
        await read(api, collection.named("root"))
