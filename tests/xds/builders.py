"""Small worlds for the tests of the streams: resource sets from dictionaries, and responses read back with protobuf."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse, DiscoveryResponse
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import StringValue

from pypilot.wire.resource import EMPTY, Chunk, Resource, ResourceSet
from pypilot.wire.types import BY_SHORT
from pypilot.xds.delta import DeltaSession
from pypilot.xds.response import Response
from pypilot.xds.session import DeltaRequest, SotwRequest, TypeStatus
from pypilot.xds.shared import Shared
from pypilot.xds.sotw import SotwSession


def encoded(name: str, text: str) -> bytes:
    return StringValue(value=f"{name}={text}").SerializeToString()


def resource_set(type_url: str, *chunks: Mapping[str, str]) -> ResourceSet:
    """A set whose resources hold `name=text` as a StringValue, so that a client can tell what it got."""
    return ResourceSet(
        tuple(Chunk(Resource.of(name, type_url, encoded(name, text)) for name, text in c.items()) for c in chunks)
    )


@dataclass(frozen=True)
class Decoded:
    """A response as a client reads it."""

    type_url: str
    version: str
    nonce: str
    resources: dict[str, str]
    versions: dict[str, str]
    removed: tuple[str, ...]


def _text(type_url: str, message: AnyMessage) -> tuple[str, str]:
    assert message.type_url == type_url
    name, _, text = StringValue.FromString(message.value).value.partition("=")
    return name, text


def decode(response: Response, delta: bool = False) -> Decoded:
    """A response as a client would read it."""
    decoded = decode_bytes(response.encode(), delta)
    assert len(decoded.resources) == response.frames.count
    return decoded


def decode_bytes(raw: bytes, delta: bool = False) -> Decoded:
    """Decode with the official protobuf runtime; duplicates are an error as in "Duplicate Resource Names"."""
    if delta:
        incremental = DeltaDiscoveryResponse.FromString(raw)
        got = [_text(incremental.type_url, r.resource) for r in incremental.resources]
        assert [name for name, _ in got] == [r.name for r in incremental.resources]
        assert len(dict(got)) == len(got)
        return Decoded(
            incremental.type_url,
            incremental.system_version_info,
            incremental.nonce,
            dict(got),
            {r.name: r.version for r in incremental.resources},
            tuple(incremental.removed_resources),
        )
    message = DiscoveryResponse.FromString(raw)
    got = [_text(message.type_url, r) for r in message.resources]
    assert len(dict(got)) == len(got)
    return Decoded(message.type_url, message.version_info, message.nonce, dict(got), {}, ())


def one(responses: Sequence[Decoded]) -> Decoded:
    """The only response."""
    assert len(responses) == 1, responses
    return responses[0]


class World:
    """Sets of every type that a test changes; an unchanged type keeps its set, as a catalog must."""

    def __init__(self, **types: Mapping[str, str]) -> None:
        self.sets: dict[str, ResourceSet] = {}
        for short, resources in types.items():
            self.put(BY_SHORT[short], resources)

    def put(self, type_url: str, *chunks: Mapping[str, str]) -> None:
        self.sets[type_url] = resource_set(type_url, *chunks)

    def current(self, type_url: str) -> ResourceSet:
        return self.sets.get(type_url, EMPTY)


class SotwClient:
    """Drives a state-of-the-world session by hand: says what it is told to and reads what comes."""

    def __init__(self, world: World, shared: Shared | None = None) -> None:
        self.world = world
        self.session = SotwSession(shared or Shared())

    def ask(self, type_url: str, names: str = "", *, nonce: str = "", version: str = "", error: str | None = None):
        self.last = self.session.on_request(SotwRequest(type_url, frozenset(names.split()), version, nonce, error))
        return self.pushed()

    def pushed(self) -> list[Decoded]:
        return [decode(response) for response in self.session.push(self.world.current)]

    def status(self, type_url: str) -> TypeStatus:
        return next(s for s in self.session.status() if s.type_url == type_url)


class DeltaClient:
    """The same for an incremental session."""

    def __init__(self, world: World, shared: Shared | None = None) -> None:
        self.world = world
        self.session = DeltaSession(shared or Shared())

    def ask(
        self,
        type_url: str,
        subscribe: str = "",
        unsubscribe: str = "",
        *,
        nonce: str = "",
        error: str | None = None,
        initial: Mapping[str, str] | None = None,
        compare: bool = True,
    ):
        request = DeltaRequest(
            type_url, frozenset(subscribe.split()), frozenset(unsubscribe.split()), nonce, error, initial or {}
        )
        self.last = self.session.on_request(request, self.world.current(type_url) if compare else None)
        return self.pushed()

    def pushed(self) -> list[Decoded]:
        return [decode(response, delta=True) for response in self.session.push(self.world.current)]

    def versions(self, type_url: str) -> dict[str, str]:
        return {r.name: r.version for r in self.world.current(type_url)}

    def status(self, type_url: str) -> TypeStatus:
        return next(s for s in self.session.status() if s.type_url == type_url)
