"""Backends, clients, the relay and the access log, without an Envoy."""

import asyncio
import json
import socket
from pathlib import Path

from pypilot.cli.demo.access_log import AccessLog
from pypilot.cli.demo.backends import Backend, serve
from pypilot.cli.demo.certificates import Authority
from pypilot.cli.demo.clients import HttpClient, SteadyClient
from pypilot.cli.demo.relay import relay


async def test_a_backend_says_what_it_saw() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        async with serve(Backend("shop", "v1"), listening) as backend, HttpClient.to("127.0.0.1") as client:
            answer = await client.get(f"http://any.example:{port}/a?b=c", host="other.example")
            assert answer.status == 200
            assert answer.headers["x-backend"] == "shop-v1"
            assert (answer.seen["version"], answer.seen["path"], answer.seen["tls"]) == ("v1", "/a?b=c", False)
            assert answer.seen["headers"]["host"] == "other.example"
            assert len(await client.get_many(f"http://any.example:{port}/", 20)) == 20
            assert backend.requests == 21


async def test_a_redirecting_one_keeps_the_path() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        async with (
            serve(Backend("b", redirect_to="https://b.example"), listening),
            HttpClient.to("127.0.0.1") as client,
        ):
            answer = await client.get(f"http://b.example:{port}/x?y=z")
            assert (answer.status, answer.headers["location"]) == (301, "https://b.example/x?y=z")
            assert answer.seen == {}


async def test_a_steady_client_counts_serials_and_every_failure() -> None:
    authority = Authority("test")
    one, two = authority.issue("a.example"), authority.issue("a.example")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        steady = SteadyClient(address, "a.example", authority.client_context())
        async with steady.running():
            async with serve(Backend("a", certificate=one), listening.dup()) as backend:
                await steady.wait_more(5)
                assert set(steady.serials) == {one.serial}
                assert backend.server_names[0] == "a.example"
            assert not await steady.wait_serial(two.serial, 0.05)
            async with serve(Backend("a", certificate=two), listening.dup()):
                assert await steady.wait_serial(two.serial, 20)
        good = sum(steady.serials.values())
        assert steady.done == good + len([f for f in steady.failures if not f.startswith("status")])


async def test_a_steady_client_tells_when_nobody_listens() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        steady = SteadyClient(nobody.getsockname(), "a.example", Authority("x").client_context())
        async with steady.running():
            await steady.wait_more(2)
    assert "ConnectionRefusedError" in steady.failures[0]


async def test_the_relay_copies_both_ways_and_closes_with_either_end(tmp_path: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data.upper())
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        path = tmp_path / "x.sock"
        async with relay(path, *server.sockets[0].getsockname()):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"HELLO"
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            server.close()
            reader, writer = await asyncio.open_unix_connection(path)
            assert await reader.read() == b"", "nobody behind it: closed, not left hanging"
            writer.close()


async def test_the_access_log_passes_over_what_is_no_entry_and_waits_for_whole_lines(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "log")
    assert log.mark() == 0
    assert log.entries() == []
    log.path.write_text('plain text\n[1]\n{"path": "/a"}\n{"path": "/b"')
    assert log.entries() == [{"path": "/a"}]
    since = log.mark()
    waiting = asyncio.create_task(log.wait_for(lambda e: e["path"] == "/c"))
    with log.path.open("a") as file:
        file.write("}\n" + json.dumps({"path": "/c"}) + "\n")
    assert await waiting == {"path": "/c"}
    assert await log.wait_for(lambda e: e.get("path") == "/a", since=since, timeout=0.05) is None
