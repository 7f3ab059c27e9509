"""The state-of-the-world session: answers, nonces, reconnecting, warming and sharing, one test a rule.

Sections are those of https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
"""

from weakref import ref

import pytest

from pypilot.wire.resource import ResourceSet
from pypilot.wire.types import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET
from pypilot.xds.session import MAX_TYPES, ProtocolError, SotwRequest
from pypilot.xds.shared import Shared
from pypilot.xds.sotw import SotwSession
from tests.xds.builders import SotwClient, World, one

# ACK/NACK and resource type instance version


def test_a_nack_is_told_by_error_detail_alone():
    client = SotwClient(World(CDS={"a": "1"}))
    got = one(client.ask(CLUSTER))
    assert client.ask(CLUSTER, nonce=got.nonce, version=got.version, error="bad cluster a") == []
    assert client.last.kind == "nack"
    status = client.status(CLUSTER)
    assert (status.error, status.synced, status.acked_version) == ("bad cluster a", False, "")


def test_an_old_version_without_error_detail_is_an_ack():
    client = SotwClient(World(RDS={"a": "1", "b": "1"}))
    first = one(client.ask(ROUTE, "a"))
    second = one(client.ask(ROUTE, "a b", nonce=first.nonce))
    client.ask(ROUTE, "a b", nonce=second.nonce, version="something older")
    assert client.last.kind == "ack"


def test_what_was_rejected_is_not_sent_again_but_the_next_change_is():
    world = World(CDS={"a": "bad"})
    client = SotwClient(world)
    nonce = one(client.ask(CLUSTER)).nonce
    client.ask(CLUSTER, nonce=nonce, error="bad")
    assert client.pushed() == []
    world.put(CLUSTER, {"a": "bad"})
    assert client.pushed() == []
    world.put(CLUSTER, {"a": "good"})
    got = one(client.pushed())
    client.ask(CLUSTER, nonce=got.nonce, version=got.version)
    status = client.status(CLUSTER)
    assert (status.error, status.synced) == ("", True)


def test_neighbours_of_a_rejected_resource_are_offered_again_in_a_response_of_their_own():
    world = World(RDS={"a": "bad", "b": "1", "c": "1"})
    client = SotwClient(world)
    nonce = one(client.ask(ROUTE, "a b c")).nonce
    assert client.ask(ROUTE, "a b c", nonce=nonce, error="a is bad") == []
    world.put(ROUTE, {"a": "bad", "b": "1", "c": "2"})
    changed, offered = client.pushed()
    assert changed.resources == {"c": "2"}
    assert offered.resources == {"a": "bad", "b": "1"}
    assert client.ask(ROUTE, "a b c", nonce=changed.nonce) == []
    assert client.last.kind == "stale"  # a newer response is on its way, yet it counts as accepted
    client.ask(ROUTE, "a b c", nonce=offered.nonce, error="a is bad")
    world.put(ROUTE, {"a": "good", "b": "1", "c": "2"})
    fixed, rest = client.pushed()
    assert fixed.resources == {"a": "good"}
    assert rest.resources == {"b": "1"}
    client.ask(ROUTE, "a b c", nonce=rest.nonce)
    world.put(ROUTE, {"a": "good", "b": "2", "c": "2"})
    assert one(client.pushed()).resources == {"b": "2"}


def test_a_nack_may_change_the_names():
    client = SotwClient(World(RDS={"a": "bad", "b": "1"}))
    nonce = one(client.ask(ROUTE, "a")).nonce
    added, offered = client.ask(ROUTE, "a b", nonce=nonce, error="bad")
    assert (added.resources, offered.resources) == ({"b": "1"}, {"a": "bad"})


# Resource updates: stale nonces


def test_a_stale_nonce_is_never_answered_and_its_names_wait_for_the_next_answer():
    world = World(EDS={"a": "1", "b": "1"})
    client = SotwClient(world)
    old = one(client.ask(ENDPOINT, "a")).nonce
    world.put(ENDPOINT, {"a": "2", "b": "1"})
    new = one(client.pushed()).nonce
    assert client.ask(ENDPOINT, "a b", nonce=old) == []
    assert client.last.kind == "stale"
    assert one(client.ask(ENDPOINT, "a b", nonce=new)).resources == {"b": "1"}


def test_a_name_dropped_in_a_stale_request_is_new_when_it_comes_back():
    world = World(EDS={"a": "1", "b": "1"})
    client = SotwClient(world)
    old = one(client.ask(ENDPOINT, "a b")).nonce
    world.put(ENDPOINT, {"a": "1", "b": "2"})
    new = one(client.pushed()).nonce
    assert client.ask(ENDPOINT, "b", nonce=old) == []
    assert one(client.ask(ENDPOINT, "a b", nonce=new)).resources == {"a": "1"}


def test_a_rejection_with_a_stale_nonce_is_not_forgotten():
    world = World(EDS={"a": "bad", "b": "1"})
    client = SotwClient(world)
    old = one(client.ask(ENDPOINT, "a b")).nonce
    world.put(ENDPOINT, {"a": "bad", "b": "2"})
    new = one(client.pushed()).nonce
    assert client.ask(ENDPOINT, "a b", nonce=old, error="a is bad") == []
    assert (client.last.kind, client.last.error) == ("stale", "a is bad")
    client.ask(ENDPOINT, "a b", nonce=new)
    world.put(ENDPOINT, {"a": "bad", "b": "3"})
    changed, offered = client.pushed()
    assert (changed.resources, offered.resources) == ({"b": "3"}, {"a": "bad"})


def test_nonces_are_counted_for_each_type_of_each_stream():
    world = World(CDS={"a": "1"}, LDS={"a": "1"})
    client = SotwClient(world)
    clusters, listeners = one(client.ask(CLUSTER)).nonce, one(client.ask(LISTENER)).nonce
    world.put(CLUSTER, {"a": "2"})
    assert one(client.pushed()).nonce != clusters
    client.ask(LISTENER, nonce=listeners)
    assert client.last.kind == "ack"


def test_a_first_request_with_a_nonce_of_another_stream_is_a_first_request():
    client = SotwClient(World(RDS={"a": "1"}))
    assert one(client.ask(ROUTE, "a", nonce="77")).resources == {"a": "1"}


def test_names_added_before_the_first_response_was_seen_are_answered():
    client = SotwClient(World(RDS={"a": "1", "b": "1"}))
    client.ask(ROUTE, "a")
    assert one(client.ask(ROUTE, "a b")).resources == {"b": "1"}


def test_requests_merge_until_they_are_answered():
    world = World(RDS={"a": "1", "b": "1"})
    client = SotwClient(world)
    client.session.on_request(SotwRequest(ROUTE, frozenset("a")))
    client.session.on_request(SotwRequest(ROUTE, frozenset("ab")))
    assert one(client.pushed()).resources == {"a": "1", "b": "1"}


# ACK/NACK and resource type instance version: reconnecting


@pytest.mark.parametrize(("names", "answered"), [("", False), ("*", True), ("* a", True), ("a", True)])
def test_a_reconnecting_client_that_holds_everything_of_the_legacy_wildcard_is_sent_nothing(names, answered):
    world = World(LDS={"a": "1", "b": "1"})
    client = SotwClient(world)
    got = client.ask(LISTENER, names, version=world.current(LISTENER).version)
    assert bool(got) == answered
    if not answered:
        assert client.status(LISTENER).synced
        world.put(LISTENER, {"a": "2", "b": "1"})
        assert one(client.pushed()).resources == {"a": "2", "b": "1"}


@pytest.mark.parametrize("type_url", [ENDPOINT, ROUTE, SECRET])
def test_a_reconnecting_client_is_sent_what_it_names_whatever_its_version(type_url):
    world = World()
    world.put(type_url, {"a": "1"})
    got = SotwClient(world).ask(type_url, "a", version=world.current(type_url).version)
    assert one(got).resources == {"a": "1"}


# Resource warming; Eventual consistency considerations


def test_a_push_goes_clusters_endpoints_listeners_routes_secrets():
    world = World()
    client = SotwClient(world)
    order = (CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET)
    for type_url in reversed(order):
        client.ask(type_url, "a")
    for type_url in order:
        world.put(type_url, {"a": "2"})
    assert tuple(response.type_url for response in client.pushed()) == order


def test_endpoints_come_again_when_their_cluster_changed():
    world = World(CDS={"a": "1", "b": "1"}, EDS={"a": "1", "b": "1"})
    client = SotwClient(world)
    client.ask(CLUSTER)
    client.ask(ENDPOINT, "a b")
    world.put(CLUSTER, {"a": "2", "b": "1"})
    clusters, endpoints = client.pushed()
    assert clusters.resources == {"a": "2", "b": "1"}
    assert (endpoints.type_url, endpoints.resources) == (ENDPOINT, {"a": "1"})


def test_endpoints_come_again_after_clusters_were_asked_for_later():
    client = SotwClient(World(CDS={"a": "1"}, EDS={"a": "1"}))
    client.ask(ENDPOINT, "a")
    clusters, endpoints = client.ask(CLUSTER)
    assert (clusters.type_url, endpoints.type_url) == (CLUSTER, ENDPOINT)
    assert endpoints.resources == {"a": "1"}


def test_endpoints_that_nobody_asked_for_do_not_follow_their_cluster():
    world = World(CDS={"a": "1"}, EDS={"a": "1"})
    client = SotwClient(world)
    client.ask(CLUSTER)
    world.put(CLUSTER, {"a": "2"})
    assert [r.type_url for r in client.pushed()] == [CLUSTER]


def test_routes_do_not_follow_their_listener():
    world = World(LDS={"a": "1"}, RDS={"a": "1"})
    client = SotwClient(world)
    client.ask(LISTENER)
    client.ask(ROUTE, "a")
    world.put(LISTENER, {"a": "2"})
    assert [r.type_url for r in client.pushed()] == [LISTENER]


# The rest


def test_a_type_without_a_present_set_keeps_what_it_owes():
    client = SotwClient(World(CDS={"a": "1"}))
    client.session.on_request(SotwRequest(CLUSTER))
    assert client.session.push(lambda _: None) == []
    assert client.session.owes()
    assert one(client.pushed()).resources == {"a": "1"}
    assert not client.session.owes()


def test_unknown_types_are_served_like_the_others():
    world = World()
    world.put("type.googleapis.com/x.Y", {"a": "1"})
    assert one(SotwClient(world).ask("type.googleapis.com/x.Y", "a")).resources == {"a": "1"}


def test_broken_requests():
    session = SotwSession(Shared())
    with pytest.raises(ProtocolError):
        session.on_request(SotwRequest(""))
    for number in range(MAX_TYPES):
        session.on_request(SotwRequest(f"type/{number}"))
    with pytest.raises(ProtocolError):
        session.on_request(SotwRequest("type/one too many"))


def test_whole_chunks_are_sent_as_the_very_bytes_they_keep():
    world = World()
    world.put(ENDPOINT, {"a": "1", "b": "1"}, {"c": "1"})
    session = SotwSession(Shared())
    session.on_request(SotwRequest(ENDPOINT, frozenset("abc")))
    (response,) = session.push(world.current)
    assert all(
        piece is chunk.sotw_frames
        for piece, chunk in zip(response.frames.pieces, world.current(ENDPOINT).chunks, strict=True)
    )


def test_streams_share_differences_and_name_sets():
    shared = Shared()
    world = World(EDS={str(n): "1" for n in range(50)})
    clients = [SotwClient(world, shared) for _ in range(5)]
    for client in clients:
        client.ask(ENDPOINT, " ".join(str(n) for n in range(50)))
    world.put(ENDPOINT, {str(n): "1" if n else "2" for n in range(50)})
    assert [one(client.pushed()).resources for client in clients] == [{"0": "2"}] * 5
    assert shared.diffs_made == 1
    assert shared.names([str(n) for n in range(50)]) is shared.names([str(n) for n in range(50)])


def test_chunks_that_differ_from_proxy_to_proxy_do_not_hinder_sharing():
    shared = Shared()
    common = [World(CDS={"a": text}).current(CLUSTER).chunks[0] for text in "12"]
    own = [World(CDS={f"own {n}": "1"}).current(CLUSTER).chunks[0] for n in range(5)]
    changes = {id(shared.difference(ResourceSet((common[0], o)), ResourceSet((common[1], o)))) for o in own}
    assert len(changes) == shared.diffs_made == 1


def test_differences_are_forgotten_with_their_chunks():
    shared = Shared()
    old, new = World(CDS={"a": "1"}).current(CLUSTER), World(CDS={"a": "2"}).current(CLUSTER)
    assert shared.difference(old, new) is shared.difference(old, new)
    assert shared.remembered == 1
    del old
    assert shared.remembered == 0


def test_name_sets_are_forgotten_with_their_streams():
    shared = Shared()
    names = shared.names(["a", "b"])
    assert shared.names(["b", "a"]) is names
    forgotten = ref(names)
    del names
    assert forgotten() is None


# What only random clients found


def test_endpoints_follow_a_cluster_that_is_accepted_only_with_a_later_response():
    world = World(CDS={"a": "1", "b": "1"}, EDS={"a": "1", "b": "1"})
    client = SotwClient(world)
    nonce = one(client.ask(CLUSTER)).nonce
    client.ask(ENDPOINT, "a b")
    client.ask(CLUSTER, nonce=nonce, error="no")
    world.put(CLUSTER, {"a": "2", "b": "1"})
    _, endpoints = client.pushed()
    assert endpoints.resources == {"a": "1", "b": "1"}  # the client may see b for the first time


def test_endpoints_follow_a_cluster_whose_rejection_came_after_a_newer_response():
    world = World(CDS={"a": "1", "b": "1"}, EDS={"a": "1", "b": "1"})
    client = SotwClient(world)
    client.ask(CLUSTER, nonce=one(client.ask(CLUSTER)).nonce)
    client.ask(ENDPOINT, "a b")
    world.put(CLUSTER, {"a": "2", "b": "1"})
    first = client.pushed()[0]
    world.put(CLUSTER, {"a": "2", "b": "2"})
    client.pushed()
    endpoints = one(client.ask(CLUSTER, nonce=first.nonce, error="no"))
    assert (endpoints.type_url, endpoints.resources) == (ENDPOINT, {"a": "1"})


def test_a_rejected_resource_that_a_newer_response_repeats_is_not_offered_a_third_time():
    world = World(EDS={"a": "bad", "b": "1"})
    client = SotwClient(world)
    first = one(client.ask(ENDPOINT, "a b"))
    world.put(ENDPOINT, {"a": "good", "b": "1"})
    second = one(client.pushed())
    client.ask(ENDPOINT, "a b", nonce=first.nonce, error="a is bad")
    client.ask(ENDPOINT, "a b", nonce=second.nonce)
    world.put(ENDPOINT, {"a": "good", "b": "2"})
    assert one(client.pushed()).resources == {"b": "2"}
