"""The state-of-the-world session: subscriptions and updates, one test a rule, under its section of the specification.

Sections are those of https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
"""

import pytest

from pypilot.wire.types import CLUSTER, ENDPOINT, LISTENER, NAME_TABLE, ROUTE, SECRET
from tests.xds.builders import SotwClient, World, one

# How the client specifies what resources to return


@pytest.mark.parametrize("type_url", [CLUSTER, LISTENER])
@pytest.mark.parametrize("names", ["", "*", "* a"])
def test_first_request_without_names_or_with_star_gets_everything(type_url, names):
    world = World()
    world.put(type_url, {"a": "1"}, {"b": "1"})
    got = one(SotwClient(world).ask(type_url, names))
    assert got.resources == {"a": "1", "b": "1"}
    assert got.version == world.current(type_url).version
    assert got.type_url == type_url
    assert got.nonce


def test_first_request_of_a_wildcard_type_is_answered_though_nothing_exists():
    assert one(SotwClient(World()).ask(CLUSTER)).resources == {}


@pytest.mark.parametrize("type_url", [ENDPOINT, ROUTE, SECRET])
def test_first_request_without_names_of_another_type_asks_for_nothing(type_url):
    world = World()
    world.put(type_url, {"a": "1"})
    assert SotwClient(world).ask(type_url) == []


def test_the_name_table_has_no_name_and_comes_whenever_it_changes():
    world = World(NDS={"": "1"})  # NDS-001
    client = SotwClient(world)
    first = one(client.ask(NAME_TABLE))
    assert first.resources == {"": "1"}
    assert client.ask(NAME_TABLE, nonce=first.nonce) == []
    world.put(NAME_TABLE, {"": "2"})
    assert one(client.pushed()).resources == {"": "2"}


def test_legacy_wildcard_ends_when_a_name_is_given():
    world = World(LDS={"a": "1", "b": "1"})
    client = SotwClient(world)
    nonce = one(client.ask(LISTENER)).nonce
    got = one(client.ask(LISTENER, "a", nonce=nonce))
    assert got.resources == {"a": "1"}
    assert client.ask(LISTENER, "", nonce=got.nonce) == []
    world.put(LISTENER, {"a": "2", "b": "2"})
    assert client.pushed() == []  # it unsubscribed from all


def test_newly_requested_names_are_sent_even_if_they_were_sent_unasked_before():
    client = SotwClient(World(CDS={"a": "1"}))
    nonce = one(client.ask(CLUSTER)).nonce
    assert one(client.ask(CLUSTER, "* a", nonce=nonce)).resources == {"a": "1"}


def test_more_names_later_get_only_the_added_ones():
    client = SotwClient(World(RDS={"a": "1", "b": "1", "c": "1"}))
    first = one(client.ask(ROUTE, "a"))
    assert first.resources == {"a": "1"}
    assert one(client.ask(ROUTE, "a b", nonce=first.nonce)).resources == {"b": "1"}


# Grouping Resources into Responses


@pytest.mark.parametrize("type_url", [CLUSTER, LISTENER])
def test_clusters_and_listeners_are_always_complete(type_url):
    world = World()
    world.put(type_url, {"a": "1", "b": "1"})
    client = SotwClient(world)
    client.ask(type_url)
    world.put(type_url, {"a": "2", "b": "1"})
    assert one(client.pushed()).resources == {"a": "2", "b": "1"}


def test_named_clusters_are_complete_too():
    world = World(CDS={"a": "1", "b": "1", "c": "1"})
    client = SotwClient(world)
    client.ask(CLUSTER, "a b")
    world.put(CLUSTER, {"a": "2", "b": "1", "c": "2"})
    assert one(client.pushed()).resources == {"a": "2", "b": "1"}
    world.put(CLUSTER, {"a": "2", "b": "1", "c": "3"})
    assert client.pushed() == []


@pytest.mark.parametrize("type_url", [ENDPOINT, ROUTE, SECRET])
def test_other_types_get_only_what_changed(type_url):
    world = World()
    world.put(type_url, {"a": "1", "b": "1", "c": "1"})
    client = SotwClient(world)
    client.ask(type_url, "a b")
    world.put(type_url, {"a": "1", "b": "2", "c": "2"})
    assert one(client.pushed()).resources == {"b": "2"}


# When to send an update


def test_nothing_is_sent_when_nothing_that_is_subscribed_to_changed():
    world = World(EDS={"a": "1", "b": "1"}, CDS={"a": "1"})
    client = SotwClient(world)
    client.ask(ENDPOINT, "a")
    client.ask(CLUSTER)
    client.pushed()
    world.put(ENDPOINT, {"a": "1", "b": "2"})
    world.put(CLUSTER, {"a": "1"})  # another object, the same content
    assert client.pushed() == []


def test_an_ack_is_not_answered():
    client = SotwClient(World(CDS={"a": "1"}))
    got = one(client.ask(CLUSTER))
    assert client.ask(CLUSTER, nonce=got.nonce, version=got.version) == []
    assert client.last.kind == "ack"
    status = client.status(CLUSTER)
    assert status.synced
    assert (status.acked_nonce, status.acked_version) == (got.nonce, got.version)
    assert (status.watched, status.wildcard) == (1, True)


# Deleting Resources


def test_a_deleted_cluster_is_absent_from_the_next_response():
    world = World(CDS={"a": "1", "b": "1"})
    client = SotwClient(world)
    client.ask(CLUSTER)
    world.put(CLUSTER, {"b": "1"})
    assert one(client.pushed()).resources == {"b": "1"}
    world.put(CLUSTER)
    assert one(client.pushed()).resources == {}


def test_deletion_of_another_type_sends_nothing():
    world = World(RDS={"a": "1", "b": "1"})
    client = SotwClient(world)
    client.ask(ROUTE, "a b")
    world.put(ROUTE, {"b": "1"})
    assert client.pushed() == []


# Knowing When a Requested Resource Does Not Exist


@pytest.mark.parametrize("type_url", [CLUSTER, ENDPOINT, LISTENER, SECRET])
def test_a_name_that_does_not_exist_yet_is_remembered(type_url):
    world = World()
    client = SotwClient(world)
    assert one(client.ask(type_url, "a")).resources == {}
    world.put(type_url, {"a": "1", "b": "1"})
    assert one(client.pushed()).resources == {"a": "1"}


def test_a_missing_name_that_is_added_later_is_remembered_in_silence():
    world = World(SDS={"a": "1"})
    client = SotwClient(world)
    nonce = one(client.ask(SECRET, "a")).nonce
    assert client.ask(SECRET, "a b", nonce=nonce) == []
    assert not client.session.owes()
    world.put(SECRET, {"a": "1", "b": "1"})
    assert one(client.pushed()).resources == {"b": "1"}


def test_missing_routes_have_a_stand_in_until_they_are_there():
    """RDS-015."""
    world = World(RDS={"b": "1"})
    client = SotwClient(world)
    first = one(client.ask(ROUTE, "a b"))
    assert first.resources == {"a": "", "b": "1"}
    assert client.ask(ROUTE, "a b", nonce=first.nonce) == []
    second = one(client.ask(ROUTE, "a b c", nonce=first.nonce))
    assert second.resources == {"c": ""}
    world.put(ROUTE, {"a": "1"})
    assert one(client.pushed()).resources == {"a": "1"}


# Unsubscribing From Resources


def test_an_emptied_list_is_an_unsubscription():
    world = World(EDS={"a": "1"})
    client = SotwClient(world)
    nonce = one(client.ask(ENDPOINT, "a")).nonce
    assert client.ask(ENDPOINT, "", nonce=nonce) == []
    assert client.session.watched() == ()
    world.put(ENDPOINT, {"a": "2"})
    assert client.pushed() == []
    assert one(client.ask(ENDPOINT, "a", nonce=nonce)).resources == {"a": "2"}


def test_a_name_that_comes_back_is_sent_again():
    client = SotwClient(World(EDS={"a": "1", "b": "1"}))
    nonce = one(client.ask(ENDPOINT, "a b")).nonce
    assert client.ask(ENDPOINT, "a", nonce=nonce) == []
    assert one(client.ask(ENDPOINT, "a b", nonce=nonce)).resources == {"b": "1"}
