"""The server over loopback, with real gRPC on both sides."""

import asyncio
import itertools
from contextlib import suppress
from datetime import UTC, datetime

import grpc
import pytest
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest
from structlog.testing import capture_logs

from pypilot.wire.types import CLUSTER, ENDPOINT, LISTENER, PUSH_ORDER, ROUTE, SECRET
from pypilot.xds.connection import rejection
from pypilot.xds.server import XdsOptions, XdsServer
from tests.xds.harness import CountingMetrics, HandCatalog, channel, connected, node_id, serving, stream, until

FAR_TOO_MUCH = {str(number): "x" * 200_000 for number in range(100)}
"""20 MB: more than all buffers between two ends hold, so a write of it waits for the reader."""

BOTH = pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])


def sending(server: XdsServer) -> bool:
    """Whether some clusters were sent, or are being sent."""
    return any(t.type_url == CLUSTER and t.sent_nonce for status in server.connections() for t in status.types)


@BOTH
async def test_a_client_is_answered_pushed_to_and_its_answers_are_seen(delta):
    catalog, metrics = HandCatalog(), CountingMetrics()
    catalog.put(CLUSTER, {"a": "1", "b": "1"})
    now = datetime(2031, 2, 3, tzinfo=UTC)
    async with serving(catalog, metrics=metrics, clock=lambda: now) as server, connected(server, delta) as client:
        await client.ask(CLUSTER, node=node_id("app", "shop"), metadata={"SERVICE_ACCOUNT": "seller"})
        first = await client.next()
        assert first.resources == {"a": "1", "b": "1"}
        await client.ask(CLUSTER, answers=first)
        await until(lambda: metrics.counts["acked CDS"] == 1)

        (status,) = server.connections()
        assert status.id.startswith(node_id("app", "shop"))
        assert (status.proxy.namespace, status.proxy.service_account) == ("shop", "seller")
        assert (status.variant, status.connected_at) == ("delta" if delta else "sotw", now)
        assert status.peer.startswith("ipv4:127.0.0.1:")
        (clusters,) = status.types
        assert (clusters.type_url, clusters.synced, clusters.watched) == (CLUSTER, True, 2)
        assert clusters.acked_version == first.version

        catalog.put(CLUSTER, {"a": "1", "b": "2"})
        catalog.publish()
        second = await client.next()
        assert second.resources == ({"b": "2"} if delta else {"a": "1", "b": "2"})
        with capture_logs() as logs:
            await client.ask(CLUSTER, answers=second, error="b is bad")
            await until(lambda: metrics.counts["rejected CDS"] == 1)
        (nack,) = [entry for entry in logs if entry["event"] == "xds.rejected"]
        assert (nack["type"], nack["error"], nack["connection"]) == ("CDS", "b is bad", status.id)
        assert server.connections()[0].types[0].error == "b is bad"
        assert not server.connections()[0].types[0].synced
        assert metrics.counts["connected"] == 1
        assert metrics.counts["pushed CDS"] == 2
        assert metrics.counts["resources CDS"] == (3 if delta else 4)
    assert metrics.counts["connected"] == 0
    assert catalog.feeds == []


@BOTH
async def test_a_first_request_without_node_is_refused(delta):
    catalog = HandCatalog()
    async with serving(catalog) as server, connected(server, delta) as client:
        await client.ask(CLUSTER)
        assert await client.end() is grpc.StatusCode.INVALID_ARGUMENT
        assert "node" in await client.call.details()
        assert server.connections() == ()


@pytest.mark.parametrize("bad", ["app", "teapot~1.1.1.1~a.b~c", "sidecar~nowhere~a.b~c"])
async def test_a_bad_node_is_refused(bad):
    catalog = HandCatalog()
    async with serving(catalog) as server, connected(server) as client:
        await client.ask(CLUSTER, node=bad)
        assert await client.end() is grpc.StatusCode.INVALID_ARGUMENT
        assert catalog.feeds == []


@pytest.mark.parametrize("number", ["nan", "inf"])
async def test_a_node_with_a_number_that_json_has_not_is_refused(number):
    async with serving(HandCatalog()) as server, connected(server) as client:
        await client.ask(CLUSTER, node=node_id(), metadata={"X": float(number)})
        assert await client.end() is grpc.StatusCode.INVALID_ARGUMENT


@BOTH
async def test_bytes_that_are_no_request_end_only_their_own_stream(delta):
    catalog = HandCatalog()
    catalog.put(CLUSTER, {"a": "1"})
    async with serving(catalog) as server, connected(server, delta) as client, connected(server, delta) as other:
        await other.ask(CLUSTER, node=node_id())
        await other.next()
        await client.ask(CLUSTER, node=node_id())
        await client.next()
        await client.call.write(b"\xff\xff\xff")
        assert await client.end() is grpc.StatusCode.INVALID_ARGUMENT
        await until(lambda: len(catalog.feeds) == 1)
        catalog.put(CLUSTER, {"a": "2"})
        catalog.publish()
        assert (await other.next()).resources == {"a": "2"}


async def test_a_request_without_type_is_refused():
    catalog = HandCatalog()
    async with serving(catalog) as server, connected(server) as client:
        await client.ask("", node=node_id())
        assert await client.end() is grpc.StatusCode.INVALID_ARGUMENT
        await until(lambda: catalog.feeds == [])


@BOTH
async def test_the_node_of_later_requests_is_ignored(delta):
    catalog = HandCatalog()
    async with serving(catalog) as server, connected(server, delta) as client:
        await client.ask(CLUSTER, node=node_id("first"))
        await client.next()
        await client.ask(LISTENER, node="nonsense")
        await client.next()
        assert [status.proxy.name for status in server.connections()] == ["first"]


@BOTH
async def test_a_push_goes_in_order_and_endpoints_follow_their_cluster(delta):
    catalog = HandCatalog()
    for type_url in PUSH_ORDER:
        catalog.put(type_url, {"a": "1"})
    async with serving(catalog) as server, connected(server, delta) as client:
        for type_url in reversed(PUSH_ORDER):
            await client.ask(type_url, ["a"], node=node_id())
            await client.next()
        assert (await client.next()).type_url == ENDPOINT  # the clusters were asked for after it
        for type_url in PUSH_ORDER:
            catalog.put(type_url, {"a": "2"})
        catalog.publish()
        assert [(await client.next()).type_url for _ in PUSH_ORDER] == list(PUSH_ORDER)
        catalog.put(CLUSTER, {"a": "3"})
        catalog.publish()
        got = [await client.next(), await client.next()]
        assert [(r.type_url, r.resources) for r in got] == [(CLUSTER, {"a": "3"}), (ENDPOINT, {"a": "2"})]


@BOTH
async def test_changes_merge_while_a_client_is_slow(delta):
    catalog, metrics = HandCatalog(), CountingMetrics()
    catalog.put(CLUSTER, {"a": "0"} | FAR_TOO_MUCH)
    options = XdsOptions(write_patience=60)
    async with serving(catalog, options, metrics=metrics) as server, connected(server, delta) as client:
        await client.ask(CLUSTER, node=node_id())
        await until(lambda: sending(server))
        for number in range(1, 51):
            catalog.put(CLUSTER, {"a": str(number)} | FAR_TOO_MUCH)
            catalog.publish()
            await asyncio.sleep(0.002)
        assert server.statistics().bytes_in_flight > 20_000_000
        seen = []
        while not seen or seen[-1] != "50":
            seen.append((await client.next()).resources["a"])
        assert len(seen) < 10
        assert seen == sorted(seen, key=int)
        await until(lambda: metrics.counts["pushed CDS"] == len(seen))
        assert server.statistics().bytes_in_flight == 0


async def test_one_proxy_whose_compilation_fails_keeps_what_it_has_and_hinders_nobody():
    catalog = HandCatalog()
    catalog.put(CLUSTER, {"a": "1"})
    async with serving(catalog) as server, connected(server) as sick, connected(server) as well:
        for client, name in ((sick, "sick"), (well, "well")):
            await client.ask(CLUSTER, node=node_id(name))
            assert (await client.next()).resources == {"a": "1"}
        catalog.broken.add("sick")
        catalog.put(CLUSTER, {"a": "2"})
        with capture_logs() as logs:
            catalog.publish()
            assert (await well.next()).resources == {"a": "2"}
            await until(lambda: any(entry["event"] == "xds.compile_failed" for entry in logs))
            catalog.publish()
            catalog.put(CLUSTER, {"a": "3"})
            catalog.publish()
            assert (await well.next()).resources == {"a": "3"}
        (failure,) = [entry for entry in logs if entry["event"] == "xds.compile_failed"]
        assert failure["type"] == "CDS"
        assert "cannot compile" in failure["trace"]
        assert len(server.connections()) == 2
        catalog.broken.clear()
        catalog.publish()
        assert (await sick.next()).resources == {"a": "3"}


async def test_a_proxy_that_connects_while_its_compilation_fails_is_answered_later():
    catalog = HandCatalog()
    catalog.put(CLUSTER, {"a": "1"})
    catalog.broken.add("sick")
    async with serving(catalog) as server, connected(server) as client:
        await client.ask(CLUSTER, node=node_id("sick"))
        await until(lambda: len(server.connections()) == 1)
        catalog.broken.clear()
        catalog.publish()
        assert (await client.next()).resources == {"a": "1"}


@BOTH
async def test_a_graceful_stop_ends_streams_in_order_and_refuses_new_ones(delta):
    catalog = HandCatalog()
    catalog.put(CLUSTER, FAR_TOO_MUCH)
    async with serving(catalog) as server:
        assert server.plaintext_port
        async with channel(server.plaintext_port) as one, channel(server.plaintext_port) as two:
            idle, busy = stream(one, delta), stream(two, delta)
            await idle.ask(LISTENER, node=node_id("idle"))
            await idle.next()
            await busy.ask(CLUSTER, node=node_id("busy"))
            await until(lambda: sending(server))
            stopping = asyncio.create_task(server.stop(20))
            assert len((await busy.next()).resources) == 100  # what was being written arrives whole
            assert await busy.end() is grpc.StatusCode.OK
            assert await idle.end() is grpc.StatusCode.OK
            await stopping
            assert server.connections() == ()
            assert catalog.feeds == []
        async with connected(server, delta) as late:
            with suppress(grpc.aio.AioRpcError):  # somebody else may have taken the port by now
                await late.ask(LISTENER, node=node_id("late"))
            assert server.connections() == ()


async def test_a_client_that_does_not_read_is_cut_off_after_the_grace():
    catalog = HandCatalog()
    catalog.put(CLUSTER, FAR_TOO_MUCH)
    async with serving(catalog) as server, connected(server) as client:
        await client.ask(CLUSTER, node=node_id())
        await until(lambda: sending(server))
        await server.stop(0.1)
        await until(lambda: server.connections() == ())
        assert catalog.feeds == []


@BOTH
@pytest.mark.parametrize("way", ["half-close", "cancel"])
async def test_a_client_that_goes_is_forgotten(delta, way):
    catalog, metrics = HandCatalog(), CountingMetrics()
    async with serving(catalog, metrics=metrics) as server, connected(server, delta) as client:
        await client.ask(CLUSTER, node=node_id())
        await client.next()
        if way == "cancel":
            client.call.cancel()
        else:
            await client.call.done_writing()
            assert await client.end() is grpc.StatusCode.OK
        await until(lambda: server.connections() == () and catalog.feeds == [])
        assert metrics.counts["connected"] == 0
        assert server.statistics().writing == 0


async def test_a_client_that_does_not_read_holds_nobody_up_for_long():
    catalog = HandCatalog()
    catalog.put(CLUSTER, FAR_TOO_MUCH)
    catalog.put(LISTENER, {"a": "1"})
    options = XdsOptions(max_streams_writing=1, write_patience=0.2)
    async with serving(catalog, options) as server, connected(server) as lazy, connected(server) as client:
        await lazy.ask(CLUSTER, node=node_id("lazy"))
        await until(lambda: sending(server))
        await client.ask(LISTENER, node=node_id("client"))
        assert (await client.next()).resources == {"a": "1"}
        assert len((await lazy.next()).resources) == 100


@BOTH
@pytest.mark.parametrize(("rule", "told"), [("loopback", True), ("any", True), ("never", False)])
async def test_secrets_on_the_plaintext_port(delta, rule, told):
    """SDS-003: who is not authenticated gets no secrets, by default unless it is on this machine."""
    catalog = HandCatalog()
    catalog.put(SECRET, {"cert": "private"})
    async with serving(catalog, XdsOptions(plaintext_secrets=rule)) as server, connected(server, delta) as client:
        await client.ask(SECRET, ["cert"], node=node_id())
        got = await client.next()
        assert got.resources == ({"cert": "private"} if told else {})
        assert got.removed == (("cert",) if delta and not told else ())


async def test_stale_and_unknown_types_are_counted():
    catalog, metrics = HandCatalog(), CountingMetrics()
    catalog.put(ROUTE, {"a": "1"})
    async with serving(catalog, metrics=metrics) as server, connected(server) as client:
        await client.ask(ROUTE, ["a"], node=node_id())
        first = await client.next()
        catalog.put(ROUTE, {"a": "2"})
        catalog.publish()
        await client.next()
        await client.ask(ROUTE, ["a"], answers=first)
        await until(lambda: metrics.counts["stale RDS"] == 1)
        await client.ask("type.googleapis.com/made.Up", ["a"])
        assert (await client.next()).resources == {}
        await until(lambda: metrics.counts["pushed other"] == 1)


async def test_many_clients_get_every_change():
    catalog = HandCatalog()
    catalog.put(CLUSTER, {"a": "0"})
    async with serving(catalog, XdsOptions(max_streams_writing=3)) as server:
        assert server.plaintext_port
        async with channel(server.plaintext_port) as opened:
            clients = [stream(opened, delta) for delta, _ in itertools.product((False, True), range(20))]
            for number, client in enumerate(clients):
                await client.ask(CLUSTER, node=node_id(f"app-{number}"))
            await asyncio.gather(*(client.next() for client in clients))
            catalog.put(CLUSTER, {"a": "1"})
            catalog.publish()
            got = await asyncio.gather(*(client.next() for client in clients))
            assert [r.resources for r in got] == [{"a": "1"}] * len(clients)
            assert server.statistics().diffs_made == 1
            assert len({status.id for status in server.connections()}) == len(clients)


async def test_connections_grow_only_so_old():
    catalog = HandCatalog()
    options = XdsOptions(max_connection_age=0.1, connection_age_grace=0.1)
    async with serving(catalog, options) as server, connected(server) as client:
        await client.ask(CLUSTER, node=node_id())
        await client.next()
        assert await client.end() is not grpc.StatusCode.OK
        await until(lambda: server.connections() == ())


async def test_a_taken_port_is_an_error():
    async with serving(HandCatalog()) as server:
        with pytest.raises(RuntimeError):
            await XdsServer(HandCatalog()).start(f"127.0.0.1:{server.plaintext_port}")


@pytest.mark.parametrize(
    "quoted",
    [
        'inline_bytes: "-----BEGIN PRIVATE KEY-----\\nMIIsecret\\n-----END PRIVATE KEY-----\\n"',
        'inline_bytes: "\\060\\202\\"MIIsecret"',
        'inline_bytes: "MIIsecret',
        "inline_string: 'MIIsecret'",
        "-----BEGIN PRIVATE KEY-----\nMIIsecret\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIsecret",
    ],
)
def test_what_envoy_quotes_of_a_rejected_secret_is_not_kept(quoted):
    message = DiscoveryRequest()
    message.error_detail.message = f'name: "cert" private_key {{ {quoted} }} is bad' * 2
    text = rejection(message)
    assert text is not None
    assert "secret" not in text
    assert 'name: "cert"' in text
    assert "[redacted]" in text


def test_a_rejection_without_quotes_is_kept_up_to_a_length():
    message = DiscoveryRequest()
    assert rejection(message) is None
    message.error_detail.message = 'Only unique values for domains are permitted. Duplicate entry of domain "*"'
    assert rejection(message) == message.error_detail.message
    message.error_detail.message = "x" * 1_000_000
    assert len(rejection(message)) == 4096
