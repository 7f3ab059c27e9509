"""Protocols other than plain HTTP/1.1: server-first TCP, TCP in TLS, websocket, gRPC, HTTP/2 (LIS, GW, DR rows)."""

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import grpc
import pytest
from aiohttp import web as aiohttp_web

from e2e.outcomes.caller import SECONDS, Caller
from e2e.outcomes.conftest import Start
from e2e.outcomes.objects import destination_rule, gateway, server, service_entry, tls_secret, to, virtual_service
from e2e.outcomes.servers import GREETING, GrpcServer, TcpServer, echo, greet
from e2e.outcomes.stage import Proxy, Stage
from e2e.outcomes.test_tls import AUTHORITY, EXTRA

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session"), pytest.mark.usefixtures("gateway")]


async def test_a_server_that_speaks_first_is_heard_through_a_gateway(stage: Stage, web: Caller, host: str) -> None:
    port = stage.port("mysql")
    async with TcpServer.start(greet) as database:
        await stage.apply(
            gateway(server(port, "MYSQL", host)),
            service_entry(host, database, port=3306, protocol="MYSQL"),
            virtual_service(host, gateways=EXTRA, tcp=[{"match": [{"port": port}], "route": [to(host)]}]),
        )
        since = web.access_log.mark()
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.readexactly(len(GREETING)) == GREETING
            writer.write(b"COM_QUERY")
            assert await reader.readexactly(9) == b"COM_QUERY"
            writer.close()
        entry = await web.logged_to(port, since)
        assert (entry["upstream_cluster"], entry["response_flags"]) == (f"outbound|3306||{host}", "-")


async def test_tls_ends_at_the_gateway_and_tcp_goes_on(stage: Stage, host: str) -> None:
    port = stage.port("tls")
    async with TcpServer.start(greet) as database:
        await stage.apply(
            tls_secret(host, AUTHORITY.issue(host)),
            gateway(server(port, "TLS", host, tls={"mode": "SIMPLE", "credentialName": host})),
            service_entry(host, database, port=3306, protocol="TCP"),
            virtual_service(host, gateways=EXTRA, tcp=[{"route": [to(host)]}]),
        )
        async with asyncio.timeout(SECONDS):
            tls = AUTHORITY.client_context()
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=host)
            assert await reader.readexactly(len(GREETING)) == GREETING
            writer.close()


async def test_weights_share_tcp_connections(stage: Stage, host: str) -> None:
    port = stage.port("tcp")
    async with TcpServer.start(greet) as one, TcpServer.start(greet) as other:
        shares = [to(f"one.{host}", weight=50), to(f"other.{host}", weight=50)]
        await stage.apply(
            gateway(server(port, "TCP", host)),
            service_entry(f"one.{host}", one, port=3306, protocol="TCP"),
            service_entry(f"other.{host}", other, port=3306, protocol="TCP"),
            virtual_service(host, gateways=EXTRA, tcp=[{"route": shares}]),
        )
        async with asyncio.timeout(SECONDS):
            for _ in range(40):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                await reader.readexactly(len(GREETING))
                writer.close()
        assert one.connections + other.connections == 40
        assert 5 <= one.connections <= 35


async def test_an_idle_tcp_connection_is_closed(stage: Stage, host: str) -> None:
    port = stage.port("tcp")
    async with TcpServer.start(echo) as quiet:
        await stage.apply(
            gateway(server(port, "TCP", host)),
            service_entry(host, quiet, port=3306, protocol="TCP"),
            destination_rule(host, {"connectionPool": {"tcp": {"idleTimeout": "0.2s"}}}),
            virtual_service(host, gateways=EXTRA, tcp=[{"route": [to(host)]}]),
        )
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b""
            writer.close()


async def test_tcp_without_an_endpoint_is_closed_with_uh(stage: Stage, web: Caller, host: str) -> None:
    port = stage.port("tcp")
    await stage.apply(
        gateway(server(port, "TCP", host)),
        service_entry(host, port=3306, protocol="TCP"),
        virtual_service(host, gateways=EXTRA, tcp=[{"route": [to(host)]}]),
    )
    since = web.access_log.mark()
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
    assert (await web.logged_to(port, since))["response_flags"] == "UH"


async def test_websocket(stage: Stage, web: Caller, app: Start, host: str) -> None:
    async def repeat(request: aiohttp_web.Request) -> aiohttp_web.StreamResponse:
        socket = aiohttp_web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"heard {message.data}")
        return socket

    await stage.apply(service_entry(host, await app(respond=repeat)), virtual_service(host))
    ip, port = web.address
    async with web.session.ws_connect(f"ws://{ip}:{port}/", headers={"host": host}) as socket:
        for word in ("one", "two"):
            await socket.send_str(word)
            assert (await socket.receive_str(timeout=SECONDS)) == f"heard {word}"


async def call(channel: grpc.aio.Channel) -> bytes:
    """One unary call."""
    answer: bytes = await channel.unary_unary("/shop.Cart/Add")(b"apple", timeout=SECONDS)
    return answer


@pytest.mark.parametrize("protocol", ["GRPC", "HTTP2"])
async def test_grpc_reaches_a_port_that_says_so(stage: Stage, web: Caller, protocol: str) -> None:
    host = "grpc.example"
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(GrpcServer.start())
        await stage.apply(service_entry(host, backend, protocol=protocol), virtual_service(host))
        options = [("grpc.default_authority", host)]
        target = "{}:{}".format(*web.address)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(target, options=options))
        since = web.access_log.mark()
        assert await call(channel) == b"/shop.Cart/Add apple"
        entry = await web.logged(lambda e: e["authority"] == host, since)
        assert (entry["protocol"], entry["path"]) == ("HTTP/2", "/shop.Cart/Add")


async def test_grpc_over_tls(stage: Stage, host: str) -> None:
    port = stage.port("https")
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(GrpcServer.start())
        await stage.apply(
            tls_secret(host, AUTHORITY.issue(host)),
            gateway(server(port, "HTTPS", host, tls={"mode": "SIMPLE", "credentialName": host})),
            service_entry(host, backend, protocol="GRPC"),
            virtual_service(host, gateways=EXTRA),
        )
        trusted = grpc.ssl_channel_credentials(AUTHORITY.pem)
        options = [("grpc.default_authority", host), ("grpc.ssl_target_name_override", host)]
        channel = grpc.aio.secure_channel(f"127.0.0.1:{port}", trusted, options=options)
        assert await call(await stack.enter_async_context(channel)) == b"/shop.Cart/Add apple"


async def test_http_is_upgraded_to_http2_upstream_on_demand(stage: Stage, web: Caller, host: str) -> None:
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(GrpcServer.start())
        entry = service_entry(host, backend, protocol="HTTP")
        options = [("grpc.default_authority", host)]
        channel = grpc.aio.insecure_channel("{}:{}".format(*web.address), options=options)
        await stack.enter_async_context(channel)
        await stage.apply(entry, virtual_service(host))
        with pytest.raises(grpc.aio.AioRpcError):
            await call(channel)
        policy = {"connectionPool": {"http": {"h2UpgradePolicy": "UPGRADE"}}}
        await stage.apply(entry, destination_rule(host, policy), virtual_service(host))
        assert await call(channel) == b"/shop.Cart/Add apple"


async def test_grpc_errors_are_retried_by_status(stage: Stage, web: Caller, host: str) -> None:
    """No endpoint: a gRPC caller gets UNAVAILABLE, not an HTTP status."""
    await stage.apply(service_entry(host, protocol="GRPC"), virtual_service(host))
    options = [("grpc.default_authority", host)]
    async with grpc.aio.insecure_channel("{}:{}".format(*web.address), options=options) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "no healthy upstream" in str(caught.value.details())


async def test_one_connection_of_a_client_carries_many_requests(
    stage: Stage, gateway: Proxy, app: Start, host: str
) -> None:
    await stage.apply(service_entry(host, server := await app()), virtual_service(host))
    ip, port = gateway.caller.address
    async with aiohttp.ClientSession() as session:
        for _ in range(5):
            async with session.get(f"http://{ip}:{port}/", headers={"host": host}) as response:
                assert response.status == 200
    assert server.requests == 5
