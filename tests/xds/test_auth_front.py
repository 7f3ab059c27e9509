"""The TLS end of the secure port: whose connection it is, strangers, slow and broken peers, changes of certificates."""

import asyncio
import os
import socket
import ssl
from contextlib import asynccontextmanager

import grpc
import pytest
from structlog.testing import capture_logs

from pypilot.wire.types import SECRET
from pypilot.xds.front import FrontOptions, TlsFront
from pypilot.xds.server import XdsOptions, XdsServer
from pypilot.xds.tls import TlsContexts, TlsFiles, TlsMaterial, server_context
from tests.xds.certificates import Authority
from tests.xds.harness import HandCatalog, channel, node_id, stream, until

APP = "spiffe://cluster.local/ns/shop/sa/seller"
PATIENCE = 60.0


@pytest.fixture(scope="module")
def authority():
    return Authority()


class Source:
    """Material that a test replaces."""

    def __init__(self, authority):
        self.count = 0
        self.put(authority)

    def put(self, authority):
        pair = authority.issue(dns="localhost")
        self.material = TlsMaterial(pair.key, pair.certificate, authority.certificate)
        self.count += 1

    def stamp(self):
        return self.count

    def read(self):
        return self.material


@asynccontextmanager
async def echo(transform=lambda data: data):
    """A server behind the front."""
    sizes = []

    async def serve(reader, writer):
        while data := await reader.read(65536):
            sizes.append(len(data))
            writer.write(transform(data))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], sizes
    finally:
        server.close()


@asynccontextmanager
async def fronting(source, target, **options):
    front = TlsFront(TlsContexts(source), ("127.0.0.1", target), FrontOptions(**options))
    port = front.listen("127.0.0.1:0")
    try:
        yield front, port
    finally:
        await front.close()


def client_context(authority, pair=None, tmp_path=None):
    context = ssl.create_default_context(cadata=authority.certificate.decode())
    context.set_alpn_protocols(["h2"])
    if pair is not None:
        path = tmp_path / f"{os.urandom(4).hex()}.pem"
        path.write_bytes(pair.key + pair.certificate)
        context.load_cert_chain(path)
    return context


async def was_cut(reader):
    """With TLS 1.3 a client learns only after its handshake that its certificate was not taken."""
    try:
        return await asyncio.wait_for(reader.read(1), PATIENCE) == b""
    except (ssl.SSLError, ConnectionError):
        return True


async def opened(port, context, **more):
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost", **more)


async def test_bytes_pass_unchanged_both_ways_and_the_end_too(authority):
    sent = os.urandom(5_000_000)
    async with echo() as (target, _), fronting(Source(authority), target) as (front, port):
        reader, writer = await opened(port, client_context(authority))
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"

        async def send():
            writer.write(sent)
            await writer.drain()

        sending = asyncio.create_task(send())
        got = await asyncio.wait_for(reader.readexactly(len(sent)), PATIENCE)
        await sending
        assert got == sent
        writer.close()
        await until(lambda: front.connections == 0)


async def test_what_the_server_wrote_last_arrives_before_its_end(authority):
    body = os.urandom(3_000_000)

    async def serve(reader, writer):
        writer.write(body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with fronting(Source(authority), server.sockets[0].getsockname()[1]) as (_, port):
        reader, _ = await opened(port, client_context(authority))
        assert await asyncio.wait_for(reader.read(-1), PATIENCE) == body
    server.close()


async def test_a_client_that_does_not_read_stops_the_server_not_the_memory(authority):
    written = 0

    async def serve(reader, writer):
        nonlocal written
        for _ in range(500):
            writer.write(bytes(1 << 20))
            await writer.drain()
            written += 1

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with fronting(Source(authority), server.sockets[0].getsockname()[1]) as (front, port):
        _, writer = await opened(port, client_context(authority), limit=1024)
        await until(lambda: written > 0)
        before = -1
        while before != written:  # until nothing moves any more
            before = written
            await asyncio.sleep(1.0)
        assert written < 100
        (client,) = front._clients
        assert client.transport.get_write_buffer_size() < 4 << 20
        writer.transport.abort()
        await until(lambda: front.connections == 0)
    server.close()


async def test_each_connection_has_its_own_client(authority, tmp_path):
    names = []

    async def serve(reader, writer):
        host, port = writer.get_extra_info("peername")[:2]
        names.append(f"ipv4:{host}:{port}")
        await reader.read(1)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[1]
    async with fronting(Source(authority), target) as (front, port):
        pair = authority.issue(APP)
        one = await opened(port, client_context(authority, pair, tmp_path))
        await until(lambda: len(names) == 1)
        two = await opened(port, client_context(authority))
        await until(lambda: len(names) == 2)
        first, second = (front.who(name) for name in names)
        assert first.certificate == pair.certificate
        assert second.certificate == b""
        ours = one[1].get_extra_info("sockname")
        assert first.address == f"ipv4:127.0.0.1:{ours[1]}"
        stranger = socket.create_connection(("127.0.0.1", target))
        await until(lambda: len(names) == 3)
        assert front.who(names[2]) is None
        stranger.close()
        one[1].close()
        two[1].close()
        await until(lambda: front.who(names[0]) is None and front.who(names[1]) is None)
    server.close()


async def test_bad_handshakes_cost_nothing(authority, tmp_path):
    other = Authority("other")
    async with (
        echo() as (target, _),
        fronting(Source(authority), target, handshake_seconds=2, handshakes=2) as (
            front,
            port,
        ),
    ):
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
        garbage = socket.create_connection(("127.0.0.1", port))
        garbage.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with capture_logs() as logs:
            wrong = client_context(authority, other.issue(APP), tmp_path)
            reader, writer = await asyncio.wait_for(opened(port, wrong), PATIENCE)
            assert await was_cut(reader)
            writer.close()
            await until(lambda: front.refused >= 6)
        assert [entry["event"] for entry in logs if entry["log_level"] == "info"] == ["xds.tls_refused"]
        reader, writer = await asyncio.wait_for(opened(port, client_context(authority)), PATIENCE)
        writer.write(b"x")
        assert await asyncio.wait_for(reader.readexactly(1), PATIENCE) == b"x"
        writer.close()
        for one in (*silent, garbage):
            one.close()


def test_contexts_take_tls_1_2_at_least_and_resume_nothing(authority):
    context = server_context(Source(authority).read())
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET


async def test_new_material_counts_from_the_next_handshake_and_bad_material_never(authority, tmp_path):
    source, fresh = Source(authority), Authority("fresh")
    async with echo() as (target, _), fronting(source, target) as (_, port):
        reader, writer = await opened(port, client_context(authority))
        source.put(fresh)
        await opened(port, client_context(fresh))
        with pytest.raises(ssl.SSLError):
            await opened(port, client_context(authority))
        writer.write(b"x")  # what is open stays
        assert await asyncio.wait_for(reader.readexactly(1), PATIENCE) == b"x"
        good = source.material
        source.material, source.count = TlsMaterial(b"nonsense", good.chain, good.client_ca), source.count + 1
        with capture_logs() as logs:
            await opened(port, client_context(fresh))
            await opened(port, client_context(fresh))
        assert [entry["event"] for entry in logs].count("xds.tls_not_reloaded") == 1
        # Certificates of the old CA are no longer taken, not by way of a resumed session either.
        reader, writer = await opened(port, client_context(fresh, authority.issue(APP), tmp_path))
        assert await was_cut(reader)


async def test_a_server_that_is_not_there(authority):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        target = nobody.getsockname()[1]
    async with fronting(Source(authority), target) as (front, port):
        reader, _ = await opened(port, client_context(authority))
        assert await was_cut(reader)
        assert front.connections == 0


async def test_a_taken_address_is_an_error(authority):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        front = TlsFront(TlsContexts(Source(authority)), ("127.0.0.1", 1))
        with pytest.raises(OSError, match=str(taken.getsockname()[1])):
            front.listen(f"127.0.0.1:{taken.getsockname()[1]}")


def test_material_shows_no_key(authority):
    assert "PRIVATE" not in repr(Source(authority).material)


@asynccontextmanager
async def serving(authority):
    catalog = HandCatalog()
    catalog.put(SECRET, {"cert": "private"})
    server = XdsServer(catalog, XdsOptions(plaintext_secrets="any"))
    await server.start("127.0.0.1:0", secure="127.0.0.1:0", tls=Source(authority))
    try:
        yield server
    finally:
        await server.stop(0)


async def test_a_stranger_at_the_private_listener_is_refused(authority):
    async with serving(authority) as server:
        _, private = server._front._target
        async with channel(private) as direct:
            one = stream(direct)
            assert await one.end() is grpc.StatusCode.UNAUTHENTICATED  # before it said a word
            assert "not the port" in await one.call.details()  # with a good token, too
        assert server.connections() == ()
        # The address of a client of the front means nothing in a client's own words.
        credentials = grpc.ssl_channel_credentials(
            authority.certificate, *reversed(tuple(vars(authority.issue(APP)).values()))
        )
        async with channel(server.secure_port, credentials) as proper:
            one = stream(proper)
            await one.ask(SECRET, ["cert"], node=node_id("app", "shop"))
            assert (await one.next()).resources == {"cert": "private"}
            (status,) = server.connections()
            assert status.peer.startswith("ipv4:127.0.0.1:")
            assert server._front.who(status.peer) is None  # it is the client's address, not the front's


async def test_a_server_that_stops_lets_its_clients_read_to_the_end(authority):
    async with serving(authority) as server:
        pair = authority.issue(APP)
        credentials = grpc.ssl_channel_credentials(authority.certificate, pair.key, pair.certificate)
        async with channel(server.secure_port, credentials) as proper:
            one = stream(proper)
            await one.ask(SECRET, ["cert"], node=node_id("app", "shop"))
            await one.next()
            stopping = asyncio.create_task(server.stop(5))
            assert await one.end() is grpc.StatusCode.OK
            await stopping
        assert server._front.connections == 0


async def test_files_that_are_gone_change_nothing(authority, tmp_path):
    pair = authority.issue(dns="localhost")
    for name, content in (("c", pair.certificate), ("k", pair.key)):
        (tmp_path / name).write_bytes(content)
    contexts = TlsContexts(TlsFiles(tmp_path / "c", tmp_path / "k"))
    before = contexts.current()
    (tmp_path / "k").unlink()
    assert contexts.current() is before
    (tmp_path / "k").write_bytes(pair.key)
    assert contexts.current() is not before
