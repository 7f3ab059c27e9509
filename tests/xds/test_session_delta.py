"""The incremental session, one test a rule; each names its section of the specification.

Sections are those of https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
"""

import pytest
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse

from pypilot.wire.types import CLUSTER, ENDPOINT, LISTENER, NAME_TABLE, ROUTE, SECRET
from pypilot.xds.delta import DeltaSession
from pypilot.xds.session import DeltaRequest
from pypilot.xds.shared import Shared
from tests.xds.builders import DeltaClient, World, one

# How the client specifies what resources to return


@pytest.mark.parametrize("type_url", [CLUSTER, LISTENER])
@pytest.mark.parametrize("names", ["", "*"])
def test_wildcard(type_url, names):
    world = World()
    world.put(type_url, {"a": "1"}, {"b": "1"})
    client = DeltaClient(world)
    got = one(client.ask(type_url, names))
    assert got.resources == {"a": "1", "b": "1"}
    assert got.versions == client.versions(type_url)
    assert got.version == world.current(type_url).version
    assert got.removed == ()


def test_a_wildcard_is_answered_though_nothing_exists():
    got = one(DeltaClient(World()).ask(CLUSTER))
    assert (got.resources, got.removed) == ({}, ())


@pytest.mark.parametrize("type_url", [ENDPOINT, ROUTE, SECRET])
def test_no_names_of_another_type_is_nothing(type_url):
    world = World()
    world.put(type_url, {"a": "1"})
    assert DeltaClient(world).ask(type_url) == []


def test_the_name_table_has_no_name_and_comes_whenever_it_changes():
    world = World(NDS={"": "1"})  # NDS-001
    client = DeltaClient(world)
    first = one(client.ask(NAME_TABLE))
    assert first.resources == {"": "1"}
    assert client.ask(NAME_TABLE, nonce=first.nonce) == []
    world.put(NAME_TABLE, {"": "2"})
    assert one(client.pushed()).resources == {"": "2"}


def test_legacy_wildcard_goes_on_beside_names_until_it_is_unsubscribed():
    world = World(CDS={"a": "1", "b": "1"})
    client = DeltaClient(world)
    client.ask(CLUSTER)
    assert one(client.ask(CLUSTER, "a")).resources == {"a": "1"}
    world.put(CLUSTER, {"a": "1", "b": "2"})
    assert one(client.pushed()).resources == {"b": "2"}
    assert client.ask(CLUSTER, unsubscribe="*") == []
    world.put(CLUSTER, {"a": "2", "b": "3"})
    assert one(client.pushed()).resources == {"a": "2"}


# Grouping Resources into Responses; Deleting Resources


@pytest.mark.parametrize("type_url", [CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET])
def test_only_what_changed_is_sent_and_what_is_gone_is_named(type_url):
    world = World()
    world.put(type_url, {"a": "1", "b": "1", "c": "1", "d": "1"})
    client = DeltaClient(world)
    client.ask(type_url, "a b c")
    world.put(type_url, {"a": "1", "b": "2"})
    got = client.pushed()
    resources = {name: text for response in got for name, text in response.resources.items()}
    removed = tuple(name for response in got for name in response.removed)
    assert (resources, removed) == ({"b": "2"}, ("c",))


def test_clusters_and_endpoints_are_removed_after_all_else_was_sent():
    """Eventual consistency considerations: stale clusters go when nothing refers to them any more."""
    world = World(CDS={"a": "1", "b": "1"}, EDS={"a": "1", "b": "1"}, RDS={"r": "a"}, LDS={"l": "1"})
    client = DeltaClient(world)
    client.ask(CLUSTER)
    client.ask(ENDPOINT, "a b")
    client.ask(LISTENER)
    client.ask(ROUTE, "r")
    world.put(CLUSTER, {"b": "2"})
    world.put(ENDPOINT, {"b": "2"})
    world.put(ROUTE, {"r": "b"})
    got = [(r.type_url, r.resources, r.removed) for r in client.pushed()]
    assert got == [
        (CLUSTER, {"b": "2"}, ()),
        (ENDPOINT, {"b": "2"}, ()),
        (ROUTE, {"r": "b"}, ()),
        (CLUSTER, {}, ("a",)),
        (ENDPOINT, {}, ("a",)),
    ]


# Knowing When a Requested Resource Does Not Exist


@pytest.mark.parametrize("type_url", [CLUSTER, ENDPOINT, LISTENER, SECRET])
def test_a_missing_name_is_answered_as_removed_and_remembered(type_url):
    world = World()
    client = DeltaClient(world)
    assert one(client.ask(type_url, "a")).removed == ("a",)
    assert client.pushed() == []
    world.put(type_url, {"a": "1", "b": "1"})
    got = one(client.pushed())
    assert (got.resources, got.removed) == ({"a": "1"}, ())


def test_missing_routes_have_a_stand_in_until_they_are_there():
    """RDS-015. What goes is only said to be gone: connections that are drained still need what the client holds."""
    world = World(RDS={"b": "1"})
    client = DeltaClient(world)
    got = one(client.ask(ROUTE, "a b"))
    assert (got.resources, got.removed) == ({"a": "", "b": "1"}, ())
    assert client.pushed() == []
    got = one(client.ask(ROUTE, "c", nonce=got.nonce))
    assert (got.resources, got.removed) == ({"c": ""}, ())
    world.put(ROUTE, {"a": "1"})
    got = one(client.pushed())
    assert (got.resources, got.removed) == ({"a": "1"}, ("b",))
    got = one(client.ask(ROUTE, unsubscribe="b c", subscribe="*"))
    assert got.resources == {"a": "1"}  # the wildcard stands for what there is
    assert "c" in got.removed


def test_a_stand_in_is_a_configuration_without_hosts():
    session = DeltaSession(Shared())
    session.on_request(DeltaRequest(ROUTE, subscribe=frozenset({"a"})))
    sent = DeltaDiscoveryResponse.FromString(session.push(World().current)[0].encode())
    found = RouteConfiguration()
    assert sent.resources[0].resource.Unpack(found)
    assert (sent.resources[0].name, found.name, list(found.virtual_hosts)) == ("a", "a", [])
    assert found.HasField("validate_clusters")
    assert not found.validate_clusters.value


# Subscribing to Resources


def test_names_on_demand():
    client = DeltaClient(World(RDS={"a": "1", "b": "1"}))
    client.ask(ROUTE, "a")
    assert one(client.ask(ROUTE, "b")).resources == {"b": "1"}


def test_a_name_that_was_subscribed_to_before_is_sent_again():
    client = DeltaClient(World(RDS={"a": "1", "b": "1"}))
    client.ask(ROUTE, "a b")
    assert one(client.ask(ROUTE, "a")).resources == {"a": "1"}


# Unsubscribing from Resources


def test_unsubscribing_is_not_answered():
    world = World(EDS={"a": "1", "b": "1"})
    client = DeltaClient(world)
    client.ask(ENDPOINT, "a b")
    assert client.ask(ENDPOINT, unsubscribe="a") == []
    world.put(ENDPOINT, {"a": "2", "b": "1"})
    assert client.pushed() == []
    assert client.ask(ENDPOINT, unsubscribe="b phantom") == []
    assert client.session.watched() == ()


def test_unsubscribing_a_name_beside_a_wildcard_is_answered():
    client = DeltaClient(World(CDS={"a": "1"}))
    client.ask(CLUSTER, "* a x")
    got = one(client.ask(CLUSTER, unsubscribe="a x"))
    assert (got.resources, got.removed) == ({"a": "1"}, ("x",))


# Incremental xDS: nonces


def test_changes_of_the_subscription_count_whatever_the_nonce():
    world = World(RDS={"a": "1", "b": "1", "c": "1"})
    client = DeltaClient(world)
    old = one(client.ask(ROUTE, "a")).nonce
    world.put(ROUTE, {"a": "2", "b": "1", "c": "1"})
    client.pushed()
    assert one(client.ask(ROUTE, "b", nonce=old)).resources == {"b": "1"}
    assert one(client.ask(ROUTE, "c", nonce="never seen")).resources == {"c": "1"}
    assert client.last.kind == "stale"


def test_ack_and_nack():
    world = World(CDS={"a": "1"})
    client = DeltaClient(world)
    first = one(client.ask(CLUSTER))
    assert client.ask(CLUSTER, nonce=first.nonce) == []
    assert client.last.kind == "ack"
    assert client.status(CLUSTER).synced
    world.put(CLUSTER, {"a": "bad"})
    second = one(client.pushed())
    assert client.ask(CLUSTER, nonce=second.nonce, error="") == []
    assert client.last.kind == "nack"
    status = client.status(CLUSTER)
    assert not status.synced
    assert status.error
    assert status.acked_version == first.version
    assert client.pushed() == []


def test_neighbours_of_a_rejected_resource_are_offered_again_with_the_next_change():
    world = World(EDS={"a": "bad", "b": "1", "c": "1"})
    client = DeltaClient(world)
    nonce = one(client.ask(ENDPOINT, "a b c x")).nonce
    assert client.ask(ENDPOINT, nonce=nonce, error="a is bad") == []
    world.put(ENDPOINT, {"a": "bad", "b": "1", "c": "2"})
    changed, offered = client.pushed()
    assert changed.resources == {"c": "2"}
    assert (offered.resources, offered.removed) == ({"a": "bad", "b": "1"}, ("x",))


def test_a_rejected_removal_is_offered_again():
    world = World(LDS={"a": "1", "b": "1"})
    client = DeltaClient(world)
    client.ask(LISTENER)
    world.put(LISTENER, {"b": "1"})
    removal = one(client.pushed())
    assert removal.removed == ("a",)
    client.ask(LISTENER, nonce=removal.nonce, error="cannot")
    world.put(LISTENER, {"b": "2"})
    changed, offered = client.pushed()
    assert (changed.resources, offered.removed) == ({"b": "2"}, ("a",))


# Incremental xDS: reconnecting


@pytest.mark.parametrize("compare", [True, False])
@pytest.mark.parametrize("type_url", [CLUSTER, LISTENER])
def test_a_reconnecting_wildcard_gets_what_differs_and_what_is_gone(type_url, compare):
    world = World()
    world.put(type_url, {"same": "1", "other": "1", "new": "1"})
    client = DeltaClient(world)
    known = {"same": client.versions(type_url)["same"], "other": "old", "gone": "old"}
    got = one(client.ask(type_url, initial=known, compare=compare))
    assert (got.resources, got.removed) == ({"other": "1", "new": "1"}, ("gone",))
    assert client.pushed() == []


@pytest.mark.parametrize("compare", [True, False])
def test_a_reconnecting_client_with_names(compare):
    world = World(RDS={"same": "1", "other": "1", "new": "1"})
    client = DeltaClient(world)
    known = {"same": client.versions(ROUTE)["same"], "other": "old", "gone": "old", "unasked": "old"}
    got = one(client.ask(ROUTE, "same other new gone never", initial=known, compare=compare))
    assert (got.resources, got.removed) == ({"other": "1", "new": "1", "gone": "", "never": ""}, ())


def test_a_reconnecting_client_that_holds_everything_is_sent_nothing_it_names():
    world = World(RDS={"a": "1"}, LDS={"a": "1"})
    client = DeltaClient(world)
    assert client.ask(ROUTE, "a", initial=client.versions(ROUTE)) == []
    assert client.status(ROUTE).synced
    world.put(ROUTE, {"a": "2"})
    assert one(client.pushed()).resources == {"a": "2"}
    got = one(client.ask(LISTENER, initial=client.versions(LISTENER)))
    assert (got.resources, got.removed) == ({}, ())


def test_changes_between_the_comparison_and_the_push_are_not_lost():
    world = World(RDS={"a": "1", "b": "1"})
    client = DeltaClient(world)
    request = DeltaRequest(ROUTE, frozenset("ab"), initial_versions=client.versions(ROUTE))
    client.session.on_request(request, world.current(ROUTE))
    world.put(ROUTE, {"a": "2"})
    got = one(client.pushed())
    assert (got.resources, got.removed) == ({"a": "2"}, ("b",))


# Resource warming


def test_endpoints_come_again_when_their_cluster_is_sent():
    world = World(CDS={"a": "1", "b": "1"}, EDS={"a": "1", "b": "1"})
    client = DeltaClient(world)
    client.ask(CLUSTER)
    client.ask(ENDPOINT, "a b")
    world.put(CLUSTER, {"a": "2", "b": "1"})
    clusters, endpoints = client.pushed()
    assert clusters.resources == {"a": "2"}
    assert endpoints.resources == {"a": "1"}


def test_a_cluster_without_endpoints_of_its_name_causes_no_removal():
    world = World(CDS={"a": "1", "b": "1"}, EDS={"b": "1"})
    client = DeltaClient(world)
    client.ask(CLUSTER)
    client.ask(ENDPOINT, "a b")
    world.put(CLUSTER, {"a": "2", "b": "1"})
    assert [r.type_url for r in client.pushed()] == [CLUSTER]


@pytest.mark.parametrize("compare", [True, False])
def test_after_a_reconnect_endpoints_are_sent_whatever_the_client_holds(compare):
    """Clusters may have been left warming when the last stream broke (XDS-009).

    A client that warms does not ask for clusters before it has the endpoints.
    """
    world = World(CDS={"a": "1"}, EDS={"a": "1"})
    client = DeltaClient(world)
    held = client.versions(ENDPOINT) | {"gone": "1"}
    endpoints = one(client.ask(ENDPOINT, "a gone", initial=held, compare=compare))
    assert (endpoints.resources, endpoints.removed) == ({"a": "1"}, ("gone",))
    clusters = one(client.ask(CLUSTER, initial=client.versions(CLUSTER), compare=compare))
    assert (clusters.resources, clusters.removed) == ({}, ())


def test_endpoints_follow_clusters_that_are_sent_later_on_the_stream():
    client = DeltaClient(World(CDS={"a": "1", "b": "1"}, EDS={"a": "1", "b": "1"}))
    client.ask(ENDPOINT, "a b")
    held = {"a": client.versions(CLUSTER)["a"]}
    clusters, endpoints = client.ask(CLUSTER, initial=held)
    assert (clusters.resources, endpoints.resources) == ({"b": "1"}, {"b": "1"})


# What only random clients found


def test_what_is_under_way_to_a_client_that_takes_up_the_wildcard_again_is_taken_back():
    world = World(CDS={"a": "1", "b": "1"})
    client = DeltaClient(world)
    client.ask(CLUSTER, "*")
    client.session.on_request(DeltaRequest(CLUSTER, unsubscribe=frozenset("*")))
    client.session.on_request(DeltaRequest(CLUSTER, subscribe=frozenset("*")))
    world.put(CLUSTER, {"b": "1"})
    got = one(client.pushed())
    assert (got.resources, got.removed) == ({"b": "1"}, ("a",))


def test_endpoints_follow_a_rejected_cluster_that_is_offered_again():
    world = World(CDS={"a": "1", "b": "1"}, EDS={"a": "1", "b": "1"})
    client = DeltaClient(world)
    nonce = one(client.ask(CLUSTER)).nonce
    client.ask(ENDPOINT, "a b")
    client.ask(CLUSTER, nonce=nonce, error="no")
    world.put(CLUSTER, {"a": "2", "b": "1"})
    changed, offered, endpoints = client.pushed()
    assert (changed.resources, offered.resources) == ({"a": "2"}, {"b": "1"})
    assert (endpoints.type_url, endpoints.resources) == (ENDPOINT, {"a": "1", "b": "1"})
