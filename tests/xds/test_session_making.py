"""Make before break on an incremental stream: what refers to clusters waits until the client has them (XDS-004)."""

import asyncio

import pytest

from pypilot.wire.types import CLUSTER, ENDPOINT, LISTENER, NAME_TABLE, ROUTE, SECRET, short_name
from pypilot.xds.server import XdsOptions
from tests.xds.builders import Decoded, DeltaClient, World, one
from tests.xds.harness import HandCatalog, connected, node_id, serving


def brief(responses: list[Decoded]) -> list[tuple[str, set[str], tuple[str, ...]]]:
    return [(short_name(r.type_url), set(r.resources), r.removed) for r in responses]


def settled(world: World) -> DeltaClient:
    """A client that took everything that there is."""
    client = DeltaClient(world)
    for type_url, names in ((CLUSTER, ""), (ENDPOINT, "a"), (LISTENER, ""), (ROUTE, "r"), (SECRET, "s")):
        for response in client.ask(type_url, names):
            assert client.ask(response.type_url, nonce=response.nonce) == []
    return client


@pytest.fixture
def world() -> World:
    return World(CDS={"a": "1"}, EDS={"a": "1"}, LDS={"l": "1"}, RDS={"r": "a"}, SDS={"s": "1"})


@pytest.fixture
def client(world) -> DeltaClient:
    return settled(world)


def arrive(world: World) -> None:
    """A new cluster with endpoints, a listener and a route that refer to it."""
    world.put(CLUSTER, {"a": "1", "b": "1"})
    world.put(ENDPOINT, {"a": "1", "b": "1"})
    world.put(LISTENER, {"l": "2"})
    world.put(ROUTE, {"r": "b"})


def test_routes_wait_until_a_new_cluster_and_its_endpoints_are_taken(world, client):
    arrive(world)
    clusters = one(client.pushed())
    assert brief([clusters]) == [("CDS", {"b"}, ())]
    assert client.session.is_waiting
    assert client.ask(CLUSTER, nonce=clusters.nonce) == []
    endpoints = one(client.ask(ENDPOINT, "b"))
    assert brief([endpoints]) == [("EDS", {"b"}, ())]
    assert client.pushed() == []
    rest = client.ask(ENDPOINT, nonce=endpoints.nonce)
    assert brief(rest) == [("LDS", {"l"}, ()), ("RDS", {"r"}, ())]
    assert not client.session.is_waiting


def test_answers_may_come_in_any_order(world, client):
    arrive(world)
    clusters = one(client.pushed())
    endpoints = one(client.ask(ENDPOINT, "b"))
    assert client.ask(ENDPOINT, nonce=endpoints.nonce) == []
    assert brief(client.ask(CLUSTER, nonce=clusters.nonce)) == [("LDS", {"l"}, ()), ("RDS", {"r"}, ())]


def test_the_old_cluster_stays_until_routes_have_left_it(world, client):
    world.put(CLUSTER, {"b": "1"})
    world.put(ENDPOINT, {"b": "1"})
    world.put(ROUTE, {"r": "b"})
    clusters = one(client.pushed())
    assert brief([clusters]) == [("CDS", {"b"}, ())]
    endpoints = one(client.ask(ENDPOINT, "b"))
    client.ask(CLUSTER, nonce=clusters.nonce)
    rest = client.ask(ENDPOINT, nonce=endpoints.nonce)
    assert brief(rest) == [("RDS", {"r"}, ()), ("CDS", set(), ("a",)), ("EDS", set(), ("a",))]


def test_a_cluster_that_comes_back_while_it_waits_to_go_does_not_go(world, client):
    world.put(CLUSTER, {"b": "1"})
    clusters = one(client.pushed())
    world.put(CLUSTER, {"a": "2", "b": "1"})
    again, endpoints = client.pushed()
    assert brief([again, endpoints]) == [("CDS", {"a"}, ()), ("EDS", {"a"}, ())]
    client.ask(CLUSTER, nonce=clusters.nonce)
    client.ask(CLUSTER, nonce=again.nonce)
    assert client.ask(ENDPOINT, nonce=endpoints.nonce) == []
    assert not client.session.owes()


def test_a_cluster_without_endpoints_is_there_once_it_is_taken(world, client):
    arrive(world)
    world.put(ENDPOINT, {"a": "1"})
    clusters = one(client.pushed())
    assert brief(client.ask(CLUSTER, nonce=clusters.nonce)) == [("LDS", {"l"}, ()), ("RDS", {"r"}, ())]


def test_nothing_waits_for_a_cluster_that_is_refused(world, client):
    arrive(world)
    clusters = one(client.pushed())
    rest = client.ask(CLUSTER, nonce=clusters.nonce, error="no")
    assert brief(rest) == [("LDS", {"l"}, ()), ("RDS", {"r"}, ())]


def test_nothing_waits_for_a_cluster_that_is_gone_again(world, client):
    arrive(world)
    client.pushed()
    world.put(CLUSTER, {"a": "1"})
    world.put(ENDPOINT, {"a": "1"})
    assert [r[0] for r in brief(client.pushed())] == ["LDS", "RDS", "CDS"]


def test_a_client_that_does_not_want_endpoints_is_not_waited_for(world):
    client = DeltaClient(world)
    for type_url, names in ((CLUSTER, ""), (ROUTE, "r")):
        for response in client.ask(type_url, names):
            client.ask(response.type_url, nonce=response.nonce)
    arrive(world)
    clusters = one(client.pushed())
    assert brief(client.ask(CLUSTER, nonce=clusters.nonce)) == [("RDS", {"r"}, ())]


def test_changes_of_known_clusters_hold_nothing_up(world, client):
    world.put(CLUSTER, {"a": "2"})
    world.put(ROUTE, {"r": "a2"})
    assert [r[0] for r in brief(client.pushed())] == ["CDS", "EDS", "RDS"]


def test_what_is_asked_for_and_secrets_do_not_wait(world, client):
    arrive(world)
    world.put(SECRET, {"s": "2"})
    assert [r[0] for r in brief(client.pushed())] == ["CDS", "SDS"]
    world.put(ROUTE, {"r": "b", "new": "b"})
    assert brief(client.ask(ROUTE, "new")) == [("RDS", {"r", "new"}, ())]
    assert brief(client.ask(NAME_TABLE)) == [("NDS", set(), ())]


def test_patience_ends(world, client):
    arrive(world)
    client.pushed()
    client.session.wait_no_longer()
    assert client.session.owes()
    assert brief(client.pushed()) == [("LDS", {"l"}, ()), ("RDS", {"r"}, ())]
    assert not client.session.owes()


async def test_a_client_that_never_answers_is_sent_its_routes_after_a_while():
    catalog = HandCatalog()
    catalog.put(CLUSTER, {"a": "1"})
    catalog.put(ROUTE, {"r": "a"})
    options = XdsOptions(warming_patience=0.05)
    async with serving(catalog, options) as server, connected(server, True) as client:
        await client.ask(CLUSTER, node=node_id())
        await client.ask(CLUSTER, answers=await client.next())
        await client.ask(ROUTE, ["r"])
        await client.ask(ROUTE, answers=await client.next())
        catalog.put(CLUSTER, {"a": "1", "b": "1"})
        catalog.put(ROUTE, {"r": "b"})
        await asyncio.sleep(0)
        catalog.publish()
        assert [short_name((await client.next()).type_url) for _ in range(2)] == ["CDS", "RDS"]
