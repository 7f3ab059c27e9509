"""NDS-005, WE-007: the agent's own stream, against a server of the real protocol's messages."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import grpc
import pytest
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import MessageToDict

from pypilot.proxy.certificate import Credentials
from pypilot.proxy.discovery import HEALTH, NAME_TABLE, Discovery
from pypilot.proxy.node import NodeIdentity
from pypilot.wire.pb.ads_pb2 import NameTable
from tests.xds.certificates import Authority

NODE = NodeIdentity("sidecar~10.0.0.1~web.shop~x", "web.shop", "r", "z", "s", {"CLUSTER_ID": "west", "PORTS": [1]})
METHOD = "DeltaAggregatedResources"
SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"


class ControlPlane:
    """Keeps what it is sent; sends what it is told to."""

    def __init__(self, authority):
        self.requests = asyncio.Queue()
        self.outbox = asyncio.Queue()
        self._pair = authority.issue(dns="istiod.example")
        self._root = authority.certificate
        self.port = 0

    async def start(self):
        self.server = grpc.aio.server()
        handler = grpc.stream_stream_rpc_method_handler(
            self._stream, DeltaDiscoveryRequest.FromString, DeltaDiscoveryResponse.SerializeToString
        )
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
        proof = grpc.ssl_server_credentials([(self._pair.key, self._pair.certificate)], self._root, True)
        self.port = self.server.add_secure_port(f"127.0.0.1:{self.port}", proof)
        await self.server.start()

    async def stop(self):
        await self.server.stop(0)

    async def _stream(self, requests, _):
        async def keep():
            async for request in requests:
                self.requests.put_nowait(request)

        keeping = asyncio.ensure_future(keep())
        try:
            while True:
                yield await self.outbox.get()
        finally:
            keeping.cancel()

    async def next(self):
        async with asyncio.timeout(60):
            return await self.requests.get()

    def send(self, value, nonce):
        packed = AnyMessage(type_url=NAME_TABLE, value=value)
        made = DeltaDiscoveryResponse(type_url=NAME_TABLE, nonce=nonce, resources=[Resource(resource=packed)])
        self.outbox.put_nowait(made)


def table(*hosts):
    return NameTable(table={h: NameTable.NameInfo(ips=["10.0.0.1"]) for h in hosts}).SerializeToString()


@asynccontextmanager
async def talking(tmp_path, names):
    authority = Authority()
    plane = ControlPlane(authority)
    await plane.start()
    own = authority.issue("spiffe://x/web")
    now = datetime.now(UTC)
    roots = tmp_path / "roots.pem"
    roots.write_bytes(authority.certificate)
    credentials = Credentials(own.certificate, own.key, authority.certificate, now, now)
    made = Discovery(f"127.0.0.1:{plane.port}", "istiod.example", roots, NODE, lambda: credentials, names)
    running = asyncio.ensure_future(made.run())
    try:
        yield plane, made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await plane.stop()


async def test_names_are_asked_for_taken_and_acknowledged(tmp_path):
    taken = asyncio.Queue()
    async with talking(tmp_path, taken.put_nowait) as (plane, _):
        first = await plane.next()
        assert first.type_url == NAME_TABLE
        node = MessageToDict(first.node)
        assert (node["id"], node["cluster"], node["metadata"]) == (NODE.id, NODE.cluster, NODE.metadata)
        assert node["locality"] == {"region": "r", "zone": "z", "subZone": "s"}
        plane.send(table("a"), "1")
        assert list((await taken.get()).table) == ["a"]
        reply = await plane.next()
        assert (reply.response_nonce, reply.HasField("error_detail"), reply.HasField("node")) == ("1", False, False)


async def test_what_cannot_be_read_is_refused_and_the_stream_goes_on(tmp_path):
    taken = asyncio.Queue()
    async with talking(tmp_path, taken.put_nowait) as (plane, _):
        await plane.next()
        plane.send(b"\xff", "1")
        assert (await plane.next()).HasField("error_detail")
        plane.send(table("a"), "2")
        assert list((await taken.get()).table) == ["a"]


async def test_a_new_stream_follows_a_broken_one(tmp_path):
    taken = asyncio.Queue()
    async with talking(tmp_path, taken.put_nowait) as (plane, made):
        await plane.next()
        made.report("ill")
        assert (await plane.next()).error_detail.message == "ill"
        await plane.stop()
        await plane.start()
        assert (await plane.next()).type_url == NAME_TABLE
        again = await plane.next()  # what was said is said again
        assert (again.type_url, again.error_detail.message) == (HEALTH, "ill")
        plane.send(table("b"), "1")
        assert list((await taken.get()).table) == ["b"]


async def test_health_alone_opens_a_stream(tmp_path):
    async with talking(tmp_path, None) as (plane, made):
        made.report("")
        first = await plane.next()
        assert (first.type_url, first.node.id, first.HasField("error_detail")) == (HEALTH, NODE.id, False)
        made.report("ill")
        second = await plane.next()
        assert (second.error_detail.code, second.error_detail.message) == (500, "ill")
        assert plane.requests.empty()


async def test_without_anything_to_say_nobody_is_called(tmp_path):
    async with talking(tmp_path, None) as (plane, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await plane.requests.get()
