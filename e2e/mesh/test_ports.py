"""Which ports are open to others: without TLS none of the control plane's, and none of a pod's that can do harm."""

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import aiohttp
import pytest

from e2e.mesh.mesh import Mesh
from e2e.mesh.network import hub
from e2e.mesh.traffic import PATIENCE
from e2e.mesh.world import EGRESS, WEB, Resident
from pypilot.cli.demo.clients import NoAnswerError, get_from
from pypilot.cli.demo.process import Child

pytestmark = [pytest.mark.envoy, pytest.mark.netns, pytest.mark.asyncio(loop_scope="session")]


def listening(pid: int) -> Iterator[tuple[bool, int]]:
    """(for others than loopback, port) of all sockets that listen where a process is."""
    for version in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{version}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state != "0A":
                continue
            text, _, port = local.partition(":")
            words = bytes.fromhex(text)
            address = ip_address(b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4)))
            mapped = getattr(address, "ipv4_mapped", None)
            yield not (mapped or address).is_loopback, int(port, 16)


async def test_the_control_plane_shows_others_tls_alone(tmp_path: Path) -> None:
    """As it is started, with nothing said of addresses; in a network of its own."""
    argv = (sys.executable, "-m", "pypilot", "serve", "--config", str(tmp_path), "--ca-dir", str(tmp_path / "ca"))
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", str(Path.cwd()))}
    async with (
        hub("ports") as place,
        Child.start(argv, tmp_path, name="serve", prefix=place.prefix, environment=environment) as serve,
        asyncio.timeout(PATIENCE),
    ):
        while not {15010, 15012, 15014, 8080} <= {port for _, port in listening(serve.pid)}:
            serve.check()
            await asyncio.sleep(0.05)
        assert {port for others, port in listening(serve.pid) if others} == {15012}


async def admin(mesh: Mesh, who: Resident) -> int:
    """What others get of Envoy's admin interface: nothing, or that there is nothing."""
    try:
        return (await get_from(mesh.hub, who.address, 15000, host="pod", path="/stats", seconds=60)).status
    except (NoAnswerError, OSError):
        return 0


async def test_a_pod_shows_others_its_health_and_metrics(mesh: Mesh) -> None:
    await mesh.apply()
    for who, wanted in ((WEB, {15001, 15006, 15020, 15021, 15090}), (EGRESS, {15020, 15021, 15090})):
        assert {port for others, port in listening(mesh[who].envoy.child.pid) if others} == wanted
        assert (
            await get_from(mesh.hub, who.address, 15021, host="pod", path="/healthz/ready", seconds=60)
        ).status == 200
        assert await admin(mesh, who) in (0, 503)


async def test_only_the_pod_itself_ends_it(mesh: Mesh) -> None:
    connector = aiohttp.TCPConnector(socket_factory=lambda _: mesh.hub.inside(socket.socket))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(f"http://{WEB.address}:15020/quitquitquit") as answer,
    ):
        assert answer.status == 403
    assert (await mesh[WEB].status("/healthz/ready"))[0] == 200
