"""Interception by iptables in a network namespace, with a sidecar that is configured by hand."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from e2e.hand_made import BLACK_HOLE, PASSTHROUGH, sidecar, virtual_host
from pypilot.cli.demo.backends import Backend, serve
from pypilot.cli.demo.bootstrap import NodeIdentity, static_bootstrap
from pypilot.cli.demo.clients import NoAnswerError, get_from
from pypilot.cli.demo.envoy import Envoy
from pypilot.cli.demo.netns import NamespaceError, NetworkNamespace, join, namespace

pytestmark = [pytest.mark.envoy, pytest.mark.netns]

UID = 1337
WORLD = "203.0.113.10"
NODE = NodeIdentity("sidecar", "10.77.0.2", "client", "demo")


def users(pid: int) -> set[int]:
    """Real, effective, saved and file system user."""
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("Uid:"))
    return {int(word) for word in line.split()[1:]}


def network(process: int | str) -> Path:
    """The network namespace of a process."""
    return Path(f"/proc/{process}/ns/net").readlink()


def there(name: str) -> bool:
    """True if a namespace of that name exists."""
    return Path("/run/netns", name).exists()


@pytest.fixture
async def client() -> AsyncIterator[NetworkNamespace]:
    """A namespace whose world is a second one, with HTTP servers on ports 80 and 9000."""
    async with AsyncExitStack() as stack:
        inside = await stack.enter_async_context(namespace(f"pp-test-{os.getpid()}-c"))
        world = await stack.enter_async_context(namespace(f"pp-test-{os.getpid()}-w"))
        await join(inside, "10.77.0.2/24", world, ["10.77.0.1/24", f"{WORLD}/32"])
        for port in (80, 9000):
            await stack.enter_async_context(serve(Backend("world", str(port)), world.listen(WORLD, port)))
        yield inside


async def start(stack: AsyncExitStack, client: NetworkNamespace, directory: Path, **policy: object) -> Envoy:
    hosts = [virtual_host(str(policy["name"]), "*", policy["route"])]  # type: ignore[arg-type]
    bootstrap = static_bootstrap(
        NODE, listeners=sidecar(hosts, other_tcp=str(policy["other_tcp"])), clusters=[PASSTHROUGH, BLACK_HOLE]
    )
    envoy = await stack.enter_async_context(
        Envoy.start(bootstrap, directory, name="sidecar", uid=UID, prefix=client.prefix)
    )
    await envoy.wait_live()
    await client.redirect_outbound(to_port=15001, except_uid=UID)
    return envoy


async def test_without_rules_traffic_goes_straight(client: NetworkNamespace) -> None:
    answer = await get_from(client, WORLD, 80, host="any.example")
    assert (answer.status, answer.seen["name"]) == (200, "world")
    assert "x-request-id" not in answer.seen["headers"]


async def test_allow_any_passes_through_envoy(client: NetworkNamespace, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        envoy = await start(
            stack, client, tmp_path, name="allow_any", route={"route": {"cluster": "PassthroughCluster"}},
            other_tcp="PassthroughCluster",
        )  # fmt: skip
        answer = await get_from(client, WORLD, 80, host="any.example", path="/http")
        assert (answer.status, answer.seen["version"]) == (200, "80")
        assert "x-request-id" in answer.seen["headers"]
        entry = await envoy.access_log.wait_for(lambda e: e["authority"] == "any.example")
        assert entry is not None
        assert (entry["upstream_cluster"], entry["route_name"]) == ("PassthroughCluster", "allow_any")
        tcp = await get_from(client, WORLD, 9000, host="any.example")
        assert tcp.seen["version"] == "9000"
        entry = await envoy.access_log.wait_for(lambda e: str(e["downstream_local_address"]).endswith(":9000"))
        assert entry is not None
        assert entry["upstream_cluster"] == "PassthroughCluster"


async def test_registry_only_answers_502_and_closes_tcp(client: NetworkNamespace, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        envoy = await start(
            stack, client, tmp_path, name="block_all", route={"direct_response": {"status": 502}},
            other_tcp="BlackHoleCluster",
        )  # fmt: skip
        assert (await get_from(client, WORLD, 80, host="any.example")).status == 502
        with pytest.raises(NoAnswerError):
            await get_from(client, WORLD, 9000, host="any.example")
        entry = await envoy.access_log.wait_for(lambda e: e["upstream_cluster"] == "BlackHoleCluster")
        assert entry is not None
        assert entry["response_flags"] == "UH"


async def test_the_sidecar_runs_as_its_own_user(client: NetworkNamespace, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        envoy = await start(
            stack, client, tmp_path, name="x", route={"direct_response": {"status": 502}}, other_tcp="x"
        )
        assert users(envoy.child.pid) == {UID}
        assert network(envoy.child.pid) != network("self")
        assert network(envoy.child.pid) == client.inside(lambda: network("thread-self"))


async def test_namespaces_go_away_even_after_an_error() -> None:
    name = f"pp-test-{os.getpid()}-e"
    with pytest.raises(RuntimeError, match="on purpose"):  # noqa: PT012
        async with namespace(name):
            assert there(name)
            raise RuntimeError("on purpose")
    assert not there(name)


async def test_a_refusal_names_the_command() -> None:
    name = f"pp-test-{os.getpid()}-twice"
    async with namespace(name):
        with pytest.raises(NamespaceError, match=f"ip netns add {name}"):
            async with namespace(name):
                pass
        assert there(name), "the one that is there must not be removed by the one that failed"
