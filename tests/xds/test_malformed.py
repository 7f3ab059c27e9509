"""What no client sends by accident: refused with the right word, and nobody else notices.

After each, the same server serves a good client, and nothing of the bad one is left.
"""

import asyncio
from contextlib import asynccontextmanager, suppress

import grpc
import pytest
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest
from google.protobuf.struct_pb2 import Struct

from pypilot.wire.pb.ca_pb2 import IstioCertificateRequest
from pypilot.wire.types import CLUSTER
from pypilot.xds.certificates import SERVICE as CA
from pypilot.xds.server import SERVICE as ADS
from pypilot.xds.server import XdsOptions, XdsServer
from pypilot.xds.session import MAX_TYPES
from pypilot.xds.tls import TlsMaterial
from tests.xds.certificates import Authority
from tests.xds.harness import HandCatalog, channel, node_id, stream, until

APP = "spiffe://cluster.local/ns/default/sa/app"
SIGN, STREAM, DELTA = (
    f"/{CA}/CreateCertificate",
    f"/{ADS}/StreamAggregatedResources",
    f"/{ADS}/DeltaAggregatedResources",
)
INVALID, UNIMPLEMENTED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
LIMIT = 1 << 20


class Source:
    """TLS from memory."""

    def __init__(self, authority: Authority) -> None:
        pair = authority.issue(dns="localhost")
        self._material = TlsMaterial(pair.key, pair.certificate, authority.certificate)

    def stamp(self) -> int:
        return 1

    def read(self) -> TlsMaterial:
        return self._material


class Served:
    """A server with a TLS port, and a client with a certificate."""

    def __init__(self, server: XdsServer, authority: Authority) -> None:
        pair = authority.issue(APP)
        self.server = server
        self.credentials = grpc.ssl_channel_credentials(authority.certificate, pair.key, pair.certificate)

    @asynccontextmanager
    async def channel(self):
        async with channel(self.server.secure_port, self.credentials) as opened:
            yield opened

    async def serves(self) -> None:
        """A good client, and no trace of others."""
        async with self.channel() as opened:
            ads = stream(opened)
            await ads.ask(CLUSTER, node=node_id())
            assert (await ads.next()).resources == {"a": "1"}
            await until(lambda: len(self.server.connections()) == 1)
        await until(lambda: not self.server.connections())

    async def answer(self, method: str, *messages: bytes) -> grpc.StatusCode:
        """How a call ends that carries these bytes."""
        async with self.channel() as opened:
            if method == SIGN:
                call = opened.unary_unary(method)(messages[0], timeout=60)
                with suppress(grpc.aio.AioRpcError):
                    await call
            else:
                call = opened.stream_stream(method)(timeout=60)
                with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    for message in messages:
                        await call.write(message)
                with suppress(grpc.aio.AioRpcError):
                    while await call.read() is not grpc.aio.EOF:
                        pass
            return await call.code()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def served(authority: Authority):
    async def issue(*_):
        return "leaf", "root"

    catalog = HandCatalog()
    catalog.put(CLUSTER, {"a": "1"})
    server = XdsServer(catalog, XdsOptions(max_receive_bytes=LIMIT), issue=issue)
    await server.start("127.0.0.1:0", secure="127.0.0.1:0", tls=Source(authority))
    made = Served(server, authority)
    try:
        yield made
        await made.serves()
    finally:
        await server.stop(0)


def request(metadata: Struct | None = None, node: str = node_id(), **fields) -> bytes:
    made = DiscoveryRequest(type_url=CLUSTER, **fields)
    made.node.id = node
    if metadata is not None:
        made.node.metadata.CopyFrom(metadata)
    return made.SerializeToString()


def deep(levels: int) -> Struct:
    """A structure in a structure in a structure…"""
    inner = Struct()
    for _ in range(levels):
        outer = Struct()
        outer.fields["x"].struct_value.CopyFrom(inner)
        inner = outer
    return inner


def nested(levels: int, tag: bytes) -> bytes:
    """Bytes of messages in messages, deeper than any library makes them."""
    made = b""
    for _ in range(levels):
        size, length = len(made), b""
        while size >= 128:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        made = tag + length + bytes([size]) + made
    return made


def odd_number(value: float) -> Struct:
    made = Struct()
    made.fields["x"].number_value = value
    return made


@pytest.mark.parametrize("method", [STREAM, DELTA])
@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\xff" * 100, INVALID),
        (b"\x0a\xff\xff\xff\xff\x0f", INVALID),
        (b"", INVALID),
        (request()[:-3], INVALID),
        (request(node="sidecar~nowhere"), INVALID),
        (request(node="x" * 100_000), INVALID),
        (request(odd_number(float("nan"))), INVALID),
        (request(odd_number(float("inf"))), INVALID),
        (nested(10_000, b"\x12"), INVALID),
        (b"\x00" * (LIMIT + 1), EXHAUSTED),
    ],
    ids=["noise", "length", "nothing", "half", "node", "long-node", "nan", "inf", "depth", "size"],
)
async def test_a_first_request_that_is_none(served: Served, method: str, message: bytes, code: grpc.StatusCode) -> None:
    assert await served.answer(method, message) is code


@pytest.mark.parametrize(
    ("message", "code"),
    [(b"\xff" * 100, INVALID), (b"\x00" * (LIMIT + 1), EXHAUSTED), (nested(10_000, b"\x12"), INVALID)],
    ids=["noise", "size", "depth"],
)
async def test_a_later_request_that_is_none(served: Served, message: bytes, code: grpc.StatusCode) -> None:
    assert await served.answer(STREAM, request(), message) is code


async def test_types_without_end(served: Served) -> None:
    """XDS-002: a stream may watch so many and no more."""
    types = [DiscoveryRequest(type_url=f"type.googleapis.com/t{n}").SerializeToString() for n in range(MAX_TYPES)]
    assert await served.answer(STREAM, request(), *types) is INVALID


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\xff" * 100, INVALID),
        (b"\x00" * (LIMIT + 1), EXHAUSTED),
        (IstioCertificateRequest(metadata=odd_number(float("nan"))).SerializeToString(), INVALID),
        (b"\x22" + nested(10_000, b"\x0a"), INVALID),
    ],
    ids=["noise", "size", "nan", "depth"],
)
async def test_a_request_for_a_certificate_that_is_none(served: Served, message: bytes, code: grpc.StatusCode) -> None:
    assert await served.answer(SIGN, message) is code


async def test_another_service_is_not_there(served: Served) -> None:
    assert await served.answer(f"/{ADS}/Nothing", b"") is UNIMPLEMENTED
    assert await served.answer("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", b"") is UNIMPLEMENTED


async def test_deep_metadata_costs_nobody_anything(served: Served) -> None:
    """As deep as protobuf lets it be."""
    assert await served.answer(STREAM, request(deep(200))) is INVALID
    async with served.channel() as opened:
        call = opened.stream_stream(STREAM)()
        await call.write(request(deep(20)))
        assert await asyncio.wait_for(call.read(), 60) is not grpc.aio.EOF
        call.cancel()


@pytest.mark.parametrize("secure", [True, False], ids=["tls", "plaintext"])
@pytest.mark.parametrize(
    "noise",
    [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"\x16\x03\x01\x40\x00\x01" + b"\x00" * 20_000, b"\x00" * 1000, b""],
    ids=["http", "hello", "zeros", "silence"],
)
async def test_bytes_that_are_no_grpc(served: Served, secure: bool, noise: bytes) -> None:
    port = served.server.secure_port if secure else served.server.plaintext_port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(noise)
        with suppress(ConnectionError):
            await writer.drain()
        await served.serves()  # while it is still open
    finally:
        writer.close()
    del reader
