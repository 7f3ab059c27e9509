"""DNS of a pod: captured by iptables, answered by the agent (BOOT-002, NDS-005, NDS-006, IPT-006)."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from e2e.mesh.mesh import Mesh
from e2e.mesh.network import GATE
from e2e.mesh.pod import Pod, prefix_of, started
from e2e.mesh.world import APP_IP, PARTNER, WEB, Resident, made
from e2e.outcomes.caller import SECONDS
from e2e.outcomes.objects import Json
from e2e.outcomes.servers import TcpServer, echo
from pypilot.cli.demo.netns import run
from tests.proxy.dns_client import Resolver, reply

pytestmark = [pytest.mark.envoy, pytest.mark.netns, pytest.mark.asyncio(loop_scope="session")]

ASKER = Resident("asker", "10.79.0.43", labels={"app": "asker"})
RESOLVER = "203.0.113.53"
WORLD = "198.51.100.77"
PORT = 9100
CLIENT = """
import json, socket, sys
name, port = sys.argv[1], int(sys.argv[2])
try:
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
except socket.gaierror as error:
    print(json.dumps({"error": error.args[0]}))
    sys.exit()
said = {"addresses": sorted({entry[4][0] for entry in found})}
if port:
    with socket.create_connection((name, port), 60) as connection:
        connection.sendall(b"me")
        connection.shutdown(socket.SHUT_WR)
        said["greeting"] = connection.makefile().read()
print(json.dumps(said))
"""


def entry(host: str) -> Json:
    """A TCP service outside, for which nobody named an address."""
    spec = {
        "hosts": [host],
        "ports": [{"number": PORT, "name": "tcp", "protocol": "TCP"}],
        "resolution": "STATIC",
        "location": "MESH_EXTERNAL",
        "endpoints": [{"address": PARTNER}],
    }
    return made("ServiceEntry", host.partition(".")[0], spec)


def world(data: bytes, _: str) -> bytes | None:
    """The pod's own resolver: it knows one name, and not those of the mesh."""
    return reply(data, WORLD) if data[12:].startswith(b"\x05world\x07example\0") else reply(data, code=3)


@dataclass
class Asker:
    """A pod whose DNS is captured."""

    pod: Pod
    conf: Path
    resolver: Any

    async def ask(self, name: str, port: int = 0) -> Any:
        """What the C library of its application finds, and what it is told at that port."""
        argv = [*prefix_of(self.pod.inside, self.conf), sys.executable, "-c", CLIENT, name, str(port)]
        process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        assert process.returncode == 0
        return json.loads(out)

    async def finds(self, name: str) -> Any:
        """What is found of a name that will soon be known."""
        async with asyncio.timeout(SECONDS):
            while "error" in (found := await self.ask(name)):  # noqa: ASYNC110 - nobody says when
                await asyncio.sleep(0.2)
        return found

    async def cut(self, *, off: bool) -> None:
        """From the control plane, which then seems to be dead."""
        change = "-I" if off else "-D"
        for rule in (("OUTPUT", "-d", GATE, "--dport"), ("INPUT", "-s", GATE, "--sport")):
            chain, *match = (*rule[:3], "-p", "tcp", *rule[3:], "15012", "-j", "REJECT", "--reject-with", "tcp-reset")
            await run(*self.pod.inside.prefix, "iptables", change, chain, *match)

    async def cut_off_is_noticed(self, since: int) -> None:
        async with asyncio.timeout(SECONDS):
            log = self.pod.envoy.child.stderr
            while "stream to the control plane" not in log.read_text()[since:]:  # noqa: ASYNC110 - nobody says when
                await asyncio.sleep(0.1)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def asker(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Asker]:
    conf = mesh.stage.work.directory("resolv") / "resolv.conf"
    conf.write_text(f"search alpha.svc.cluster.local svc.cluster.local\nnameserver {RESOLVER}\noptions ndots:5\n")
    conf.chmod(0o644)
    await run("ip", "-n", mesh.hub.name, "addr", "add", f"{RESOLVER}/32", "dev", "br0")
    async with AsyncExitStack() as stack:

        def datagrams() -> socket.socket:
            taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            taken.bind((RESOLVER, 53))
            taken.setblocking(False)
            return taken

        at = (mesh.hub.inside(datagrams), mesh.hub.listen(RESOLVER, 53))
        resolver = await Resolver(world).start_at(*at)
        stack.callback(resolver.close)
        await stack.enter_async_context(TcpServer.start(echo, mesh.hub.listen(PARTNER, PORT)))
        variables = {"XDS_ROOT_CA": str(mesh.backing.roots), "ISTIO_META_DNS_CAPTURE": "true"}
        directory = mesh.stage.work.directory(ASKER.name)
        starting = started(ASKER, mesh.hub, directory, await mesh.backing.mint(ASKER), variables, conf)
        pod = await stack.enter_async_context(starting)
        mesh.stage.proxies.append(pod.proxy)
        stack.callback(mesh.stage.proxies.remove, pod.proxy)
        yield Asker(pod, conf, resolver)


async def test_an_allocated_address_is_found_by_name_and_leads_through_envoy(mesh: Mesh, asker: Asker) -> None:
    await mesh.apply(entry("tcp.partner.example"))
    found = await asker.finds("tcp.partner.example")
    (address,) = found["addresses"]
    assert address.startswith("240.240.")
    said = await asker.ask("tcp.partner.example", PORT)
    assert said == {"addresses": [address], "greeting": "me"}
    logged = await asker.pod.envoy.access_log.wait_for(lambda e: str(e["downstream_local_address"]).startswith(address))
    assert logged is not None
    assert logged["upstream_cluster"] == f"outbound|{PORT}||tcp.partner.example"
    assert not any("partner" in name for _, name in asker.resolver.seen)


async def test_services_have_their_short_names(mesh: Mesh, asker: Asker) -> None:
    await mesh.apply()
    for name in ("app", "app.alpha", "app.alpha.svc", "app.alpha.svc.cluster.local"):
        assert (await asker.finds(name))["addresses"] == [APP_IP]


async def test_other_names_are_asked_of_the_pods_own_resolver(mesh: Mesh, asker: Asker) -> None:
    await mesh.apply()
    assert (await asker.ask("world.example"))["addresses"] == [WORLD]
    assert ("udp", "world.example.") in asker.resolver.seen
    assert "error" in await asker.ask("nowhere.example")


async def test_names_stay_known_while_the_control_plane_is_away_and_change_when_it_is_back(
    mesh: Mesh, asker: Asker
) -> None:
    await mesh.apply(entry("tcp.partner.example"))
    known = await asker.finds("tcp.partner.example")
    before = len(asker.pod.envoy.child.stderr.read_text())
    mesh.stage.proxies.remove(asker.pod.proxy)
    await asker.cut(off=True)
    try:
        await mesh.apply(entry("tcp.partner.example"), entry("new.partner.example"))
        await asker.cut_off_is_noticed(before)
        assert await asker.ask("tcp.partner.example") == known
        assert "error" in await asker.ask("new.partner.example")
        assert (await asker.ask("world.example"))["addresses"] == [WORLD]
    finally:
        await asker.cut(off=False)
        mesh.stage.proxies.append(asker.pod.proxy)
    assert (await asker.finds("new.partner.example"))["addresses"] != known["addresses"]
    assert await asker.ask("tcp.partner.example", PORT) == {**known, "greeting": "me"}


async def test_the_agent_stays_small_and_without_capture_nobody_answers(mesh: Mesh, asker: Asker) -> None:
    print(f"agent with DNS: {asker.pod.resident() / (1 << 20):.1f} MB")
    assert asker.pod.resident() <= 60 << 20
    with pytest.raises(ConnectionRefusedError):
        await asyncio.to_thread(mesh[WEB].inside.connect, "127.0.0.1", 15053)
