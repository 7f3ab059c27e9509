"""The harness itself: Envoy is started, watched and stopped, and its failures are told."""

import socket
from pathlib import Path

import pytest

from e2e.hand_made import https_server, virtual_host
from pypilot.cli.demo.addresses import free_port
from pypilot.cli.demo.backends import Backend, serve
from pypilot.cli.demo.bootstrap import NodeIdentity, ads_bootstrap, static_bootstrap, static_cluster
from pypilot.cli.demo.certificates import Authority
from pypilot.cli.demo.checks import split_bounds
from pypilot.cli.demo.clients import HttpClient, SteadyClient
from pypilot.cli.demo.envoy import Envoy, EnvoyNotLiveError
from pypilot.cli.demo.process import ChildDiedError
from pypilot.cli.demo.steps_gateway import versions

pytestmark = pytest.mark.envoy

NODE = NodeIdentity("router", "127.0.0.1", "gateway", "demo", {"istio": "demo-gateway"})


async def test_an_envoy_without_configuration_is_live_and_gone_afterwards(envoy_binary: Path, tmp_path: Path) -> None:
    async with Envoy.start(static_bootstrap(NODE), tmp_path, binary=envoy_binary) as envoy:
        await envoy.wait_live()
        assert await envoy.rejected_updates() == {}
        assert (await envoy.stats("^server.live$")) == {"server.live": 1}
        dump = await envoy.config_dump()
        assert dump[0]["bootstrap"]["node"]["id"] == "router~127.0.0.1~gateway.demo~demo.svc.cluster.local"
        assert dump[0]["bootstrap"]["node"]["metadata"]["LABELS"] == {"istio": "demo-gateway"}
    assert not envoy.child.running


async def test_an_admin_socket_that_would_lie_too_deep_is_put_elsewhere(envoy_binary: Path, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    async with Envoy.start(static_bootstrap(NODE), deep, binary=envoy_binary) as envoy:
        await envoy.wait_live()
    assert not envoy.admin_socket.parent.exists()


async def test_a_wrong_bootstrap_is_told_in_envoys_own_words(envoy_binary: Path, tmp_path: Path) -> None:
    async with Envoy.start({"static_resources": {"clusters": [{"nome": "x"}]}}, tmp_path, binary=envoy_binary) as envoy:
        with pytest.raises(ChildDiedError, match="nome"):
            await envoy.wait_live()


@pytest.mark.parametrize("protocol", ["GRPC", "DELTA_GRPC"])
async def test_without_a_control_plane_it_never_gets_live(envoy_binary: Path, tmp_path: Path, protocol: str) -> None:
    bootstrap = ads_bootstrap(NODE, ("127.0.0.1", free_port()), protocol=protocol)  # type: ignore[arg-type]
    async with Envoy.start(bootstrap, tmp_path, binary=envoy_binary) as envoy:
        with pytest.raises(EnvoyNotLiveError, match="INITIALIZING"):
            await envoy.wait_live(0.5)


async def test_two_envoys_run_side_by_side(envoy_binary: Path, tmp_path: Path) -> None:
    async with (
        Envoy.start(static_bootstrap(NODE), tmp_path, binary=envoy_binary, name="one") as one,
        Envoy.start(static_bootstrap(NODE), tmp_path, binary=envoy_binary, name="two") as two,
    ):
        await one.wait_live()
        await two.wait_live()
        assert one.child.pid != two.child.pid


async def test_tls_backends_access_log_and_a_split(envoy_binary: Path, tmp_path: Path) -> None:
    authority = Authority("test")
    certificate = authority.issue("shop.example")
    where = ("127.0.0.1", free_port())
    v1, v2 = Backend("shop", "v1"), Backend("shop", "v2")
    with socket.create_server(("127.0.0.1", 0)) as s1, socket.create_server(("127.0.0.1", 0)) as s2:
        weights = [{"name": "v1", "weight": 80}, {"name": "v2", "weight": 20}]
        route = {"route": {"weighted_clusters": {"clusters": weights}}}
        listener = https_server(where, certificate, [virtual_host("split", "shop.example", route)])
        clusters = [static_cluster("v1", [s1.getsockname()]), static_cluster("v2", [s2.getsockname()])]
        bootstrap = static_bootstrap(NODE, listeners=[listener], clusters=clusters)
        async with (
            serve(v1, s1),
            serve(v2, s2),
            Envoy.start(bootstrap, tmp_path, binary=envoy_binary) as envoy,
            HttpClient.to("127.0.0.1", authority.client_context()) as client,
        ):
            await envoy.wait_live()
            url = f"https://shop.example:{where[1]}"
            counts = versions(await client.get_many(f"{url}/split", 300))
            low, high = split_bounds(300, 0.2)
            assert low <= counts["v2"] <= high
            assert counts["v1"] == v1.requests == 300 - counts["v2"]

            since = envoy.access_log.mark()
            answer = await client.get(f"{url}/unknown", host="other.example")
            entry = await envoy.access_log.wait_for(lambda e: e["path"] == "/unknown", since=since)
            assert entry is not None
            assert (answer.status, entry["response_flags"]) == (404, "NR")

            async with SteadyClient(where, "shop.example", authority.client_context()).running() as steady:
                await steady.wait_more(5)
            assert set(steady.serials) == {certificate.serial}
            assert steady.failures == []

            async with SteadyClient(where, "shop.example", Authority("x").client_context()).running() as distrustful:
                await distrustful.wait_more(2)
            assert "CERTIFICATE_VERIFY_FAILED" in distrustful.failures[0]
