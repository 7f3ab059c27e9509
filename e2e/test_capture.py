"""Capture in a real kernel: who is redirected where, seen by real connections in a namespace of their own."""

import asyncio
import json
import socket
import struct
import subprocess
import sys
import threading

import pytest

from pypilot.cli.demo.netns import join, namespace, why_unavailable
from pypilot.proxy.capture.kernel import Tools, apply, remove
from pypilot.proxy.capture.plan import Capture, Dns, read_ranges

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))

POD, WORLD, FAR = "10.77.0.2", "10.77.0.1", "10.88.0.1"
PROBE = """
import os, socket, sys
uid, source, host, port, kind = sys.argv[1:]
if int(uid): os.setgid(int(uid)); os.setuid(int(uid))
family = socket.AF_INET6 if ":" in host else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
s.settimeout(20)
if source: s.bind((source, 0))
try:
    s.connect((host, int(port)))
    s.send(b"?")
    print(s.recv(100).decode())
except OSError as error:
    print(type(error).__name__)
"""


AGENT = """
import os, socket
os.setgid(1337); os.setuid(1337)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 15053))
print("listening", flush=True)
while True:
    _, peer = s.recvfrom(100)
    s.sendto(b"agent", peer)
"""


class Servers:
    """Sockets that say which they are, and where the caller meant to go."""

    def __init__(self):
        self.sockets = []

    def tcp(self, inside, host, port, name):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = inside.inside(lambda: socket.create_server((host, port), family=family))
        self.sockets.append(listening)
        threading.Thread(target=self._serve, args=(listening, name), daemon=True).start()

    def transparent(self, inside, port, name, host="0.0.0.0"):
        def make():
            level, option = (socket.IPPROTO_IPV6, 75) if ":" in host else (socket.SOL_IP, 19)
            made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(level, option, 1)  # IP_TRANSPARENT
            made.bind((host, port))
            made.listen()
            return made

        listening = inside.inside(make)
        self.sockets.append(listening)
        threading.Thread(target=self._serve, args=(listening, name, False), daemon=True).start()

    def udp(self, inside, host, port, name):
        def make():
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.bind((host, port))
            return made

        bound = inside.inside(make)
        self.sockets.append(bound)

        def serve():
            while True:
                try:
                    _, peer = bound.recvfrom(100)
                    bound.sendto(name.encode(), peer)
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()

    def _serve(self, listening, name, redirected=True):
        while True:
            try:
                taken, peer = listening.accept()
            except OSError:
                return
            with taken:
                meant = ""
                if not redirected:
                    meant = f" {taken.getsockname()[0]}:{taken.getsockname()[1]} from {peer[0]}"
                elif name in ("outbound", "inbound") and taken.family == socket.AF_INET:
                    packed = taken.getsockopt(socket.SOL_IP, 80, 16)  # SO_ORIGINAL_DST
                    port, address = struct.unpack("!2xH4s8x", packed)
                    meant = f" {socket.inet_ntoa(address)}:{port}"
                taken.recv(1)
                taken.sendall((name + meant).encode())

    def close(self):
        for one in self.sockets:
            one.shutdown(socket.SHUT_RDWR) if one.type == socket.SOCK_STREAM else None
            one.close()


class Stage:
    def __init__(self, pod, world):
        self.pod, self.world = pod, world
        self.tools = Tools(pod.prefix)

    def validate(self, uid, *flags):
        """Exit status and words of the validation by a process of this user."""
        text = (
            "import difflib, gettext, os, sys; from pypilot.cli.iptables import iptables;"
            f"os.setgid({uid}); os.setuid({uid}); iptables(sys.argv[1:])"
        )
        argv = [*self.pod.prefix, sys.executable, "-c", text, "--skip-rule-apply", "--run-validation", *flags]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    def ask(self, where, host, port, uid=0, source="", kind="tcp"):
        argv = [*where.prefix, sys.executable, "-c", PROBE, str(uid), source, host, str(port), kind]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    def saved(self):
        return [
            line
            for tool in ("iptables-save", "ip6tables-save")
            for line in self.tools.run(tool).splitlines()
            if not line.startswith(("#", ":OUTPUT", ":PREROUTING", ":INPUT", ":POSTROUTING", ":FORWARD"))
        ]


@pytest.fixture
async def stage(worker_id):
    async with namespace(f"cap-{worker_id}-p") as pod, namespace(f"cap-{worker_id}-w") as world:
        await join(pod, f"{POD}/24", world, [f"{WORLD}/24", f"{FAR}/24"])
        for name, address in ((pod.name, "fd77::2/64"), (world.name, "fd77::1/64")):
            await asyncio.to_thread(Tools().run, "ip", "-n", name, "addr", "add", address, "dev", "eth0", "nodad")
        servers = Servers()
        for host in ("0.0.0.0", "::"):
            servers.tcp(pod, "127.0.0.1" if host == "0.0.0.0" else "::1", 15001, "outbound")
            servers.tcp(pod, POD if host == "0.0.0.0" else "fd77::2", 15006, "inbound")
        servers.tcp(pod, "127.0.0.1", 15006, "inbound")
        servers.tcp(pod, POD, 15001, "outbound")
        servers.tcp(pod, POD, 8080, "application")
        servers.tcp(pod, POD, 15090, "metrics")
        servers.tcp(world, "0.0.0.0", 80, "world")
        servers.tcp(world, "0.0.0.0", 9999, "world")
        servers.tcp(world, "fd77::1", 80, "world")
        servers.udp(world, "0.0.0.0", 53, "resolver")
        argv = [*pod.prefix, sys.executable, "-c", AGENT]
        agent = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
        try:
            assert agent.stdout is not None
            assert agent.stdout.readline() == "listening\n"
            yield Stage(pod, world)
        finally:
            agent.kill()
            agent.wait()
            servers.close()


async def test_who_is_redirected_where(stage):
    before = stage.saved()
    capture = Capture(
        exclude_inbound_ports=(15090,), exclude_outbound_ranges=read_ranges("10.88.0.0/16", "-x"), dns=Dns()
    )
    apply(capture, True, stage.tools)
    ask, pod, world = stage.ask, stage.pod, stage.world
    assert ask(pod, WORLD, 80) == f"outbound {WORLD}:80"
    assert ask(pod, "fd77::1", 80) == "outbound"
    assert ask(pod, FAR, 80) == "world"  # an excluded range (IPT-004)
    assert ask(pod, WORLD, 80, uid=1337) == "world"  # Envoy's own
    assert ask(world, POD, 8080) == f"inbound {POD}:8080"
    assert ask(world, "fd77::2", 8080) == "inbound"
    assert ask(world, POD, 15090) == "metrics"
    assert ask(pod, POD, 8080) == "application"  # by its own address, without Envoy
    assert ask(pod, POD, 8080, uid=1337) == f"inbound {POD}:8080"  # Envoy calls its own application by a service
    assert ask(pod, POD, 8080, uid=1337, source="127.0.0.6") == "application"  # Envoy hands on
    assert ask(pod, WORLD, 53, kind="udp") == "agent"
    assert ask(pod, WORLD, 53, uid=1337, kind="udp") == "resolver"
    once = stage.saved()
    apply(capture, True, stage.tools)
    assert stage.saved() == once  # again changes nothing
    apply(Capture(outbound_ranges=read_ranges("10.88.0.0/16", "-i"), outbound_ports=(9999,)), True, stage.tools)
    assert ask(pod, WORLD, 80) == "world"
    assert ask(pod, FAR, 80) == f"outbound {FAR}:80"
    assert ask(pod, WORLD, 9999) == f"outbound {WORLD}:9999"
    assert ask(pod, WORLD, 53, kind="udp") == "resolver"
    remove(True, stage.tools)
    assert [line for line in stage.saved() if "ISTIO" in line] == []
    assert [line for line in before if "ISTIO" in line] == []
    assert ask(pod, WORLD, 80) == "world"
    assert ask(world, POD, 8080) == "application"
    remove(True, stage.tools)


async def test_transparent_capture_keeps_the_callers_address(stage):
    servers = Servers()
    servers.transparent(stage.pod, 15106, "transparent")
    try:
        apply(Capture(mode="TPROXY", inbound_port=15106, exclude_inbound_ports=(15090,)), False, stage.tools)
        assert stage.ask(stage.world, POD, 8080) == f"transparent {POD}:8080 from {WORLD}"
        assert stage.ask(stage.world, POD, 15090) == "metrics"
        assert stage.ask(stage.pod, WORLD, 80) == f"outbound {WORLD}:80"
        rules = json.dumps(stage.tools.run("ip", "-4", "rule", "show").splitlines())
        apply(Capture(mode="TPROXY", inbound_port=15106), False, stage.tools)
        assert json.dumps(stage.tools.run("ip", "-4", "rule", "show").splitlines()) == rules
        apply(Capture(), False, stage.tools)  # back to redirection
        assert "133" not in stage.tools.run("ip", "-4", "rule", "show")
        assert stage.ask(stage.world, POD, 8080) == f"inbound {POD}:8080"
    finally:
        servers.close()


async def test_interfaces_ports_and_groups(stage):
    """IPT-003, IPT-005, IPT-008."""
    ask, pod, world = stage.ask, stage.pod, stage.world
    apply(Capture(exclude_interfaces=("eth0",)), True, stage.tools)
    assert ask(pod, WORLD, 80) == "world"
    assert ask(world, POD, 8080) == "application"
    assert ask(world, "fd77::2", 8080) in ("ConnectionRefusedError", "application")
    apply(Capture(virtual_interfaces=("eth0",)), False, stage.tools)
    assert ask(world, POD, 8080) == f"outbound {POD}:8080"  # what comes from a virtual machine goes out
    apply(Capture(outbound_ranges=(), inbound_ports=(9000,)), False, stage.tools)
    assert ask(pod, WORLD, 80) == "world"
    assert ask(world, POD, 8080) == "application"
    assert ask(world, POD, 9000) == f"inbound {POD}:9000"
    apply(Capture(exclude_groups=("2000",), exclude_outbound_ports=(9999,)), False, stage.tools)
    assert ask(pod, WORLD, 80, uid=2000) == "world"
    assert ask(pod, WORLD, 80, uid=2001) == f"outbound {WORLD}:80"
    assert ask(pod, WORLD, 9999) == "world"
    apply(Capture(include_groups=("2000",), uids=("1337", "1400"), gids=("1337", "1400")), False, stage.tools)
    assert ask(pod, WORLD, 80, uid=2000) == f"outbound {WORLD}:80"
    assert ask(pod, WORLD, 80, uid=2001) == "world"
    assert ask(pod, WORLD, 80, uid=1400) == "world"


async def test_questions_to_some_name_servers_only(stage):
    """IPT-006."""
    apply(Capture(outbound_ranges=(), dns=Dns((FAR, "fd77::1"))), True, stage.tools)
    assert stage.ask(stage.pod, FAR, 53, kind="udp") == "agent"
    assert stage.ask(stage.pod, WORLD, 53, kind="udp") == "resolver"


async def test_transparent_capture_of_ipv6(stage):
    """IPT-007, IPT-009."""
    servers = Servers()
    servers.transparent(stage.pod, 15106, "transparent", "::")
    try:
        apply(Capture(mode="TPROXY", inbound_port=15106), True, stage.tools)
        assert stage.ask(stage.world, "fd77::2", 8080) == "transparent fd77::2:8080 from fd77::1"
        assert "::6" in stage.tools.run("ip", "-6", "addr", "show", "dev", "lo")
        remove(True, stage.tools)
        assert "lookup 133" not in stage.tools.run("ip", "-6", "rule", "show")
        assert "::6" not in stage.tools.run("ip", "-6", "addr", "show", "dev", "lo")
    finally:
        servers.close()


@pytest.mark.parametrize("ipv6", ["--no-ipv6", "--ipv6"])
async def test_validation(stage, ipv6):
    """IPT-009: 126 tells whoever repairs pods that they are not captured."""
    flags = ("-p", "15101", "-z", "15106", ipv6)
    status, said = await asyncio.to_thread(stage.validate, 1337, *flags, "--probe-timeout", "1s")
    assert (status, "came to none of Envoy's ports" in said) == (126, True), said
    apply(Capture(proxy_port=15101, inbound_port=15106), True, stage.tools)
    assert await asyncio.to_thread(stage.validate, 1337, *flags, "--probe-timeout", "60s") == (0, "")
    status, said = await asyncio.to_thread(stage.validate, 1337, "-p", "15001", "-z", "15106", ipv6)
    assert (status, "cannot listen on" in said) == (126, True), said
