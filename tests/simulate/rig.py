"""A real Envoy under pypilot, with upstreams that tell what they saw.

All of it lives in an event loop of its own thread, so that plain property tests can use it.

A configuration is in force when a virtual host of its own, which goes with it in the same resource, says its number.
"""

import asyncio
import json
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pypilot.assembly import make_engine
from pypilot.cli.demo.bootstrap import NodeIdentity, ads_bootstrap
from pypilot.cli.demo.envoy import Envoy, find_envoy
from pypilot.compile.generators import GENERATORS
from pypilot.engine.loop import Engine, Feed
from pypilot.kinds.base import Object
from pypilot.settings import Settings
from pypilot.wire.node import Proxy
from pypilot.wire.references import held_by
from pypilot.world.delta import Delta
from pypilot.xds.server import XdsServer
from tests.simulate.model import Headers, Request
from tests.simulate.resources import Resources
from tests.world.objects import make

PATIENCE = 60.0
MARKER, MARKER_PATH = "marker.shop.test", "/marker"
UPSTREAM_HEADERS: Headers = (("x-a", "up"), ("x-b", "up"), ("x-upstream", "yes"))
"""What every upstream answers with."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as an upstream saw it."""

    upstream: str
    request: Request


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back to the client."""

    status: int
    headers: Headers
    body: bytes
    seen: Seen | None = None

    def value(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key == name]
        return ",".join(found) if found else None


async def read_head(reader: asyncio.StreamReader) -> tuple[str, Headers]:
    """The first line, and the headers in lower case."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in head[1:] if line)
    return head[0], tuple((name.lower(), value.strip(" \t")) for name, _, value in pairs)


async def _upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request with what it looked like."""
    name = "{}:{}".format(*writer.get_extra_info("sockname"))
    extra = "".join(f"{key}: {value}\r\n" for key, value in UPSTREAM_HEADERS)
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            first, headers = await read_head(reader)
            method, path, _ = first.split(" ")
            told = json.dumps([name, method, path, headers])
            body = b"" if method == "HEAD" else told.encode()
            writer.write(f"HTTP/1.1 200 OK\r\n{extra}content-length: {len(told)}\r\n\r\n".encode() + body)
    writer.close()


class Client:
    """One connection after another to a port; requests go over it one by one, byte for byte as given."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: Request) -> Answer:
        """Send a request; once more over a new connection if the old one was closed."""
        try:
            return await self._send(request)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.close()
            return await self._send(request)

    async def _send(self, request: Request) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers)
        writer.write(f"{request.method} {request.path} HTTP/1.1\r\nhost: {request.authority}\r\n{headers}\r\n".encode())
        first, got = await read_head(reader)
        status, values = int(first.split(" ")[1]), dict(got)
        body = b""
        if request.method != "HEAD" and status not in (204, 304):
            if values.get("transfer-encoding") == "chunked":
                while size := int(await reader.readline(), 16):
                    body += (await reader.readexactly(size + 2))[:-2]
                await reader.readline()
            else:
                body = await reader.readexactly(int(values.get("content-length", 0)))
        if values.get("connection") == "close":
            self.close()
        return Answer(status, got, body, _seen(body) if values.get("x-upstream") and body else None)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _seen(body: bytes) -> Seen:
    name, method, path, headers = json.loads(body)
    host = ",".join(value for key, value in headers if key == "host")
    rest = tuple((key, value) for key, value in headers if key != "host")
    return Seen(name, Request(authority=host, path=path, method=method, headers=rest))


class _Catalog:
    """The engine, which remembers the proxies that came."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.proxies: list[Proxy] = []

    def open(self, proxy: Proxy, notify: Callable[[], None]) -> Feed:
        self.proxies.append(proxy)
        return self.engine.open(proxy, notify)


@dataclass
class Rig:
    """The running parts, and how to use them from another thread."""

    loop: asyncio.AbstractEventLoop
    ports: tuple[int, ...]
    upstreams: tuple[int, ...]
    engine: Engine
    catalog: _Catalog
    server: XdsServer
    clients: dict[int, Client]
    marker: Callable[[str], Object]
    _version: int = 0
    _present: tuple[Object, ...] = ()
    _held: Resources = field(default_factory=Resources)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    def load(self, objects: Sequence[Object]) -> Resources:
        """Replace what was loaded before; returns what Envoy then holds, once it is in force."""
        return self._run(self._load(objects))

    def send(self, port: int, request: Request) -> Answer:
        """Through Envoy."""
        return self._run(self.clients[port].send(request))

    async def _load(self, objects: Sequence[Object]) -> Resources:
        self._version += 1
        told = f"version {self._version}"
        wanted = {o.ref for o in objects}
        gone = tuple(o.ref for o in self._present if o.ref not in wanted)
        self._present = tuple(objects)
        self.engine.load(Delta(upserts=(*objects, self.marker(told)), removals=gone))
        begun = asyncio.get_running_loop().time()
        async with asyncio.timeout(PATIENCE):
            for port in self.ports:
                while not await self._says(port, told):
                    await asyncio.sleep(0.002)
                    self._check_rejections(asyncio.get_running_loop().time() - begun)
        return Resources.held(held_by(self.engine.compile_for(self.catalog.proxies[-1])))

    def _check_rejections(self, waited: float) -> None:
        """Fail with Envoy's own words if it refused something; what it refused before is told for a moment longer."""
        errors = [t.error for c in self.server.connections() for t in c.types if t.error] if waited > 1 else []
        assert not errors, f"Envoy rejects what was compiled: {errors}"

    async def _says(self, port: int, told: str) -> bool:
        try:
            answer = await self.clients[port].send(Request(authority=MARKER, path=MARKER_PATH))
        except (OSError, asyncio.IncompleteReadError):
            return False
        return answer.body == told.encode()


def marker_of(gateways: Iterable[str]) -> Callable[[str], Object]:
    """A VirtualService that says a word."""

    def made(told: str) -> Object:
        match = {"uri": {"exact": MARKER_PATH}}  # what takes everything goes behind the rules of others (VS-010)
        answer = {"match": [match], "directResponse": {"status": 200, "body": {"string": told}}}
        spec = {"hosts": [MARKER], "gateways": list(gateways), "http": [answer]}
        return make(
            "VirtualService", "marker", spec=spec, creationTimestamp="2020-01-01T00:00:00Z"
        )  # before all others

    return made


def free_ports(count: int) -> tuple[int, ...]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = tuple(int(s.getsockname()[1]) for s in sockets)
    for s in sockets:
        s.close()
    return ports


@dataclass(frozen=True, slots=True)
class Setup:
    """What kind of proxy, and what does not change."""

    kind: str
    gateways: tuple[str, ...]
    ports: int
    upstreams: int
    world: Callable[[tuple[int, ...], tuple[int, ...]], list[Object]]
    """Objects for these ports of the proxy and these upstreams."""


async def _start(setup: Setup, directory: Path, stack: AsyncExitStack) -> Rig:
    upstreams = []
    for _ in range(setup.upstreams):
        server = await asyncio.start_server(_upstream, "127.0.0.1", 0)
        stack.callback(server.close)
        upstreams.append(int(server.sockets[0].getsockname()[1]))
    ports = free_ports(setup.ports)
    engine = make_engine(Settings(), GENERATORS)
    marker = marker_of(setup.gateways)
    engine.load(Delta(upserts=(*setup.world(ports, tuple(upstreams)), marker("start"))))
    catalog = _Catalog(engine)
    xds = XdsServer(catalog)
    await xds.start("127.0.0.1:0")
    stack.push_async_callback(xds.stop, 0)
    assert xds.plaintext_port
    # Not the address of the upstreams: a proxy at an entry's address is that entry's workload, with its labels.
    identity = NodeIdentity(setup.kind, "10.1.0.1", "edge", "default", {"app": "edge"})
    bootstrap = ads_bootstrap(identity, ("127.0.0.1", xds.plaintext_port))
    bootstrap["node"]["metadata"]["INTERCEPTION_MODE"] = "NONE"
    envoy = await stack.enter_async_context(
        Envoy.start(bootstrap, directory, binary=find_envoy(os.environ), log_level="warning")
    )
    await envoy.wait_live(PATIENCE)
    clients = {port: Client(port) for port in ports}
    for client in clients.values():
        stack.callback(client.close)
    return Rig(asyncio.get_running_loop(), ports, tuple(upstreams), engine, catalog, xds, clients, marker)


@contextmanager
def running(setup: Setup, directory: Path) -> Iterator[Rig]:
    """Start everything; end it with the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="rig")
    thread.start()
    stack = AsyncExitStack()

    def run(work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), loop).result(PATIENCE)

    try:
        yield run(_start(setup, directory, stack))
    finally:
        run(stack.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
