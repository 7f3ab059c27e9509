"""A catalog kept by hand, a server on a free loopback port, and gRPC clients that speak to it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest

from pypilot.wire.node import Proxy
from pypilot.wire.resource import EMPTY, ResourceSet
from pypilot.xds.server import SERVICE, XdsOptions, XdsServer
from tests.xds.builders import Decoded, decode_bytes, resource_set

PATIENCE = 20.0
"""No test waits for a time to pass; this only keeps a broken one from hanging."""


class HandFeed:
    def __init__(self, catalog: "HandCatalog", proxy: Proxy, notify: Callable[[], None]) -> None:
        self.catalog, self.proxy, self.notify = catalog, proxy, notify

    def current(self, type_url: str) -> ResourceSet:
        if self.proxy.name in self.catalog.broken or type_url in self.catalog.broken_types:
            raise RuntimeError("cannot compile")
        return self.catalog.sets.get(type_url, EMPTY)

    def close(self) -> None:
        self.catalog.feeds.remove(self)


class HandCatalog:
    """The same resources for every proxy, changed by the test."""

    def __init__(self, sets: Mapping[str, ResourceSet] | None = None) -> None:
        self.sets: dict[str, ResourceSet] = dict(sets or {})
        self.feeds: list[HandFeed] = []
        self.broken: set[str] = set()
        """Names of proxies for which nothing can be compiled."""
        self.broken_types: set[str] = set()

    def open(self, proxy: Proxy, notify: Callable[[], None]) -> HandFeed:
        self.feeds.append(HandFeed(self, proxy, notify))
        return self.feeds[-1]

    def put(self, type_url: str, *chunks: Mapping[str, str]) -> None:
        """Change without telling anybody."""
        self.sets[type_url] = resource_set(type_url, *chunks)

    def publish(self) -> None:
        for feed in self.feeds:
            feed.notify()


class CountingMetrics:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def pushed(self, kind: str, size: int, resources: int) -> None:
        assert size > 0
        self.counts[f"pushed {kind}"] += 1
        self.counts[f"resources {kind}"] += resources

    def acked(self, kind: str) -> None:
        self.counts[f"acked {kind}"] += 1

    def rejected(self, kind: str) -> None:
        self.counts[f"rejected {kind}"] += 1

    def stale_nonce(self, kind: str) -> None:
        self.counts[f"stale {kind}"] += 1

    def connected(self, change: int) -> None:
        self.counts["connected"] += change


def node_id(name: str = "app", namespace: str = "default") -> str:
    return f"sidecar~10.0.0.1~{name}.{namespace}~{namespace}.svc.cluster.local"


class Stream:
    """One ADS stream of a client."""

    def __init__(self, call: Any, delta: bool) -> None:
        self.call, self.delta = call, delta

    async def ask(
        self,
        type_url: str,
        names: Iterable[str] = (),
        *,
        node: str = "",
        metadata: Mapping[str, str] | None = None,
        answers: Decoded | None = None,
        error: str | None = None,
    ) -> None:
        """Send a request. `answers` makes it the ACK of a response, with `error` the NACK."""
        request: Any
        if self.delta:
            request = DeltaDiscoveryRequest(type_url=type_url, resource_names_subscribe=names)
        else:
            request = DiscoveryRequest(type_url=type_url, resource_names=names)
        if node:
            request.node.id = node
            request.node.metadata.update(metadata or {})
        if answers is not None:
            request.response_nonce = answers.nonce
            if not self.delta and error is None:
                request.version_info = answers.version
        if error is not None:
            request.error_detail.message = error
        await self.call.write(request.SerializeToString())

    async def next(self) -> Decoded:
        raw = await asyncio.wait_for(self.call.read(), PATIENCE)
        assert raw is not grpc.aio.EOF, await self.call.code()
        return decode_bytes(raw, self.delta)

    async def end(self) -> grpc.StatusCode:
        """Read to the end of the stream; how it ended."""

        async def rest() -> grpc.StatusCode:
            with suppress(grpc.aio.AioRpcError):
                while await self.call.read() is not grpc.aio.EOF:
                    pass
            return await self.call.code()

        return await asyncio.wait_for(rest(), PATIENCE)


@asynccontextmanager
async def channel(port: int, credentials: Any = None) -> AsyncIterator[Any]:
    """A connection of its own to the server."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    target = f"127.0.0.1:{port}"
    if credentials is None:
        opened = grpc.aio.insecure_channel(target, options)
    else:
        opened = grpc.aio.secure_channel(target, credentials, options)
    async with opened:
        yield opened


def stream(channel: Any, delta: bool = False) -> Stream:
    method = "DeltaAggregatedResources" if delta else "StreamAggregatedResources"
    return Stream(channel.stream_stream(f"/{SERVICE}/{method}")(), delta)


@asynccontextmanager
async def serving(catalog: HandCatalog, options: XdsOptions | None = None, **more: Any) -> AsyncIterator[XdsServer]:
    server = XdsServer(catalog, options, **more)
    await server.start("127.0.0.1:0")
    try:
        yield server
    finally:
        await server.stop(0)


@asynccontextmanager
async def connected(server: XdsServer, delta: bool = False) -> AsyncIterator[Stream]:
    assert server.plaintext_port
    async with channel(server.plaintext_port) as opened:
        yield stream(opened, delta)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds that another task brings about."""

    async def poll() -> None:
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    await asyncio.wait_for(poll(), PATIENCE)
