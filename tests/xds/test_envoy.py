"""A real Envoy on a catalog kept by hand: it must take everything, never wait for a resource, and carry traffic.

Both variants of the protocol. The resources are minimal; what a mesh needs is tested where it is compiled.
"""

import pytest

from pypilot.wire.types import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET
from pypilot.xds.server import XdsServer
from tests.xds.certificates import Authority
from tests.xds.harness import CountingMetrics, HandCatalog
from tests.xds.real_envoy import (
    backend,
    cluster,
    connect_timeout,
    endpoints,
    envoy,
    eventually,
    listener,
    put,
    route,
    secret,
    serial,
    warming,
)

pytestmark = pytest.mark.envoy
BOTH = pytest.mark.parametrize("api_type", ["GRPC", "DELTA_GRPC"])


@BOTH
async def test_traffic_follows_every_kind_of_change(tmp_path, api_type):
    catalog, metrics, authority = HandCatalog(), CountingMetrics(), Authority()
    server = XdsServer(catalog, metrics=metrics)
    async with backend("one") as one, backend("two") as two:
        first, second = secret("first", authority), secret("second", authority)
        put(catalog, CLUSTER, cluster("a"), cluster("b"))
        put(catalog, ENDPOINT, endpoints("a", one), endpoints("b", two))
        put(catalog, LISTENER, listener("plain"), listener("tls-1", "first"), listener("tls-2", "second"))
        put(catalog, ROUTE, route("plain", "a"), route("tls-1", "a"), route("tls-2", "b"))
        put(catalog, SECRET, first, second)
        await server.start("127.0.0.1:0")
        assert server.plaintext_port
        try:
            async with envoy(tmp_path, server.plaintext_port, api_type) as proxy:
                await eventually("one", proxy.answer, "plain")
                await eventually("one", proxy.answer, "tls-1", "https")
                await eventually("two", proxy.answer, "tls-2", "https")
                await eventually(serial(first), proxy.serial, "tls-1")
                await proxy.assert_calm()

                put(catalog, ROUTE, route("plain", "b"), route("tls-1", "a"), route("tls-2", "b"))
                catalog.publish()
                await eventually("two", proxy.answer, "plain")

                # A cluster changes and its endpoints do not: it must not stay warming.
                for timeout in (2, 3, 4):
                    put(catalog, CLUSTER, cluster("a"), cluster("b", timeout))
                    catalog.publish()
                    await eventually(timeout, connect_timeout, proxy, "b")
                assert await proxy.answer("plain") == "two"

                # Only endpoints change.
                put(catalog, ENDPOINT, endpoints("a", one), endpoints("b", one))
                catalog.publish()
                await eventually("one", proxy.answer, "plain")

                # A new cluster, its endpoints and a route to it in one push; another cluster goes.
                put(catalog, CLUSTER, cluster("b", 4), cluster("c"))
                put(catalog, ENDPOINT, endpoints("b", one), endpoints("c", two))
                put(catalog, ROUTE, route("plain", "c"), route("tls-1", "b"), route("tls-2", "b"))
                catalog.publish()
                await eventually("two", proxy.answer, "plain")
                await eventually(0, connect_timeout, proxy, "a")

                # ... and comes back.
                put(catalog, CLUSTER, cluster("a"), cluster("b", 4), cluster("c"))
                put(catalog, ENDPOINT, endpoints("a", one), endpoints("b", one), endpoints("c", two))
                put(catalog, ROUTE, route("plain", "a"), route("tls-1", "b"), route("tls-2", "b"))
                catalog.publish()
                await eventually("one", proxy.answer, "plain")

                # One secret of two is rotated.
                renewed = secret("second", authority)
                put(catalog, SECRET, first, renewed)
                catalog.publish()
                await eventually(serial(renewed), proxy.serial, "tls-2")
                assert await proxy.serial("tls-1") == serial(first)

                # A listener goes, another waits for a secret that comes later, and hurts nobody meanwhile (GW-050).
                put(catalog, LISTENER, listener("plain"), listener("tls-3", "third"))
                put(catalog, ROUTE, route("plain", "a"), route("tls-3", "c"))
                catalog.publish()
                await eventually(0, proxy.port, "tls-1")
                assert await proxy.serial("tls-3") == 0
                assert await proxy.answer("plain") == "one"
                third = secret("third", authority)
                put(catalog, SECRET, first, renewed, third)
                catalog.publish()
                await eventually(serial(third), proxy.serial, "tls-3")
                await eventually("two", proxy.answer, "tls-3", "https")
                await proxy.assert_calm()
                assert not [key for key in metrics.counts if key.startswith("rejected")]
                await eventually(True, synced, server)
        finally:
            await server.stop(0)


async def synced(server: XdsServer) -> bool:
    return all(status.synced for connection in server.connections() for status in connection.types if status.watched)


@BOTH
async def test_a_restarted_control_plane_is_taken_up_again(tmp_path, api_type):
    """XDS-009: a cluster that was left warming when the stream broke gets its endpoints from the next server."""
    catalog, metrics = HandCatalog(), CountingMetrics()
    async with backend("one") as one, backend("two") as two:
        put(catalog, CLUSTER, cluster("a"), cluster("b"))
        put(catalog, ENDPOINT, endpoints("a", one), endpoints("b", two))
        put(catalog, LISTENER, listener("plain"))
        put(catalog, ROUTE, route("plain", "a"))
        server = XdsServer(catalog, metrics=metrics)
        await server.start("127.0.0.1:0")
        port = server.plaintext_port
        assert port
        try:
            async with envoy(tmp_path, port, api_type) as proxy:
                await eventually("one", proxy.answer, "plain")
                # The server withholds the endpoints of a cluster that it changes, and goes away.
                catalog.broken_types.add(ENDPOINT)
                put(catalog, CLUSTER, cluster("a", 7), cluster("b"))
                catalog.publish()
                await eventually(1, warming, proxy)
                await server.stop(0)
                assert await proxy.answer("plain") == "one"  # the old cluster goes on

                catalog.broken_types.clear()
                server = XdsServer(catalog, metrics=metrics)
                await server.start(f"127.0.0.1:{port}")
                await eventually(7, connect_timeout, proxy, "a")
                await eventually(0, warming, proxy)
                put(catalog, ROUTE, route("plain", "b"))
                catalog.publish()
                await eventually("two", proxy.answer, "plain")
                await proxy.assert_calm()
                assert not [key for key in metrics.counts if key.startswith("rejected")]
        finally:
            await server.stop(0)


@BOTH
async def test_a_resource_that_envoy_rejects_does_not_stop_the_next_change(tmp_path, api_type):
    catalog, metrics = HandCatalog(), CountingMetrics()
    server = XdsServer(catalog, metrics=metrics)
    async with backend("one") as one, backend("two") as two:
        put(catalog, CLUSTER, cluster("a"), cluster("b"))
        put(catalog, ENDPOINT, endpoints("a", one), endpoints("b", two))
        put(catalog, LISTENER, listener("plain"), listener("other"))
        put(catalog, ROUTE, route("plain", "a"), route("other", "a"))
        await server.start("127.0.0.1:0")
        assert server.plaintext_port
        try:
            async with envoy(tmp_path, server.plaintext_port, api_type) as proxy:
                await eventually("one", proxy.answer, "plain")
                await eventually("one", proxy.answer, "other")
                bad = route("plain", "a")
                bad.virtual_hosts[0].domains.append("*")  # only one virtual host may have it
                put(catalog, ROUTE, bad, route("other", "b"))
                catalog.publish()
                await eventually(True, rejected, metrics, "RDS")
                assert await proxy.answer("plain") == "one"  # the last good one
                (status,) = [t for c in server.connections() for t in c.types if t.type_url == ROUTE]
                assert "domain" in status.error
                assert not status.synced
                put(catalog, ROUTE, route("plain", "b"), route("other", "b"))
                catalog.publish()
                await eventually("two", proxy.answer, "plain")
                await eventually("two", proxy.answer, "other")
                await eventually(True, synced, server)
        finally:
            await server.stop(0)


async def rejected(metrics: CountingMetrics, kind: str) -> bool:
    return metrics.counts[f"rejected {kind}"] > 0
