"""Hand-made frames are what protobuf reads; differences between sets are complete and minimal."""

from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import given
from hypothesis import strategies as st

from pypilot.wire.resource import Chunk, Resource, ResourceSet, content_version, diff, varint
from pypilot.wire.types import CLUSTER


def resource(name: str, body: bytes = b"") -> Resource:
    return Resource.of(name, CLUSTER, body)


@given(st.text(min_size=1, max_size=300), st.integers(0, 100_000))
def test_frames_are_the_fields_of_both_responses(name: str, size: int) -> None:
    body = cluster_pb2.Cluster(name=name, alt_stat_name="x" * size).SerializeToString()
    made = resource(name, body)
    (any_,) = discovery_pb2.DiscoveryResponse.FromString(made.sotw_frame()).resources
    assert (any_.type_url, any_.value) == (CLUSTER, body)
    (framed,) = discovery_pb2.DeltaDiscoveryResponse.FromString(made.delta_frame()).resources
    assert (framed.name, framed.version, framed.resource) == (name, made.version, any_)


@given(st.integers(0, 2**63))
def test_varints_are_the_protocol_s(value: int) -> None:
    message = discovery_pb2.DiscoveryRequest()
    message.ParseFromString(bytes((0x08 | 0xF8, 0x3F)) + varint(value))  # an unknown field, number 1023
    assert message.ByteSize() == 2 + len(varint(value))


BODIES = st.dictionaries(st.sampled_from("abcdef"), st.binary(max_size=1))


def chunks(groups: list[dict[str, bytes]]) -> tuple[Chunk, ...]:
    seen: set[str] = set()
    out = []
    for group in groups:
        out.append(Chunk(resource(n, b) for n, b in sorted(group.items()) if n not in seen))
        seen |= group.keys()
    return tuple(out)


@given(st.lists(BODIES, max_size=3), st.lists(BODIES, max_size=3), st.booleans())
def test_a_difference_leads_from_the_old_set_to_the_new(
    old: list[dict[str, bytes]], new: list[dict[str, bytes]], share: bool
) -> None:
    before, after = ResourceSet(chunks(old)), ResourceSet(chunks(new))
    if share and before.chunks and not before.chunks[0].names & frozenset(r.name for r in after):
        after = ResourceSet((before.chunks[0], *after.chunks))
    change = diff(before, after)
    state = {r.name: r.version for r in before}
    for name, changed in change.changed.items():
        assert state.get(name) != changed.version
        state[name] = changed.version
    for name in change.removed:
        del state[name]
    assert state == {r.name: r.version for r in after}
    if before == after:
        assert [(r.name, r.version) for r in before] == [(r.name, r.version) for r in after]


def test_the_first_of_two_resources_of_one_name_wins() -> None:
    """DR-018."""
    first, second = resource("a", b"1"), resource("a", b"2")
    assert list(ResourceSet((Chunk([first, second]),))) == [first]


def test_versions_are_hashes_of_the_content_alone() -> None:
    assert resource("a", b"x").version == resource("b", b"x").version == content_version(b"x")
    assert resource("a", b"x").version != resource("a", b"y").version
