"""Network namespaces joined by a veth pair, in which a client's traffic goes to its sidecar.

Everything lives in namespaces made here and goes with them: the machine's own addresses, routes and firewall are never
touched. Sockets are made inside a namespace by a thread that enters it and ends; the rest of the process stays outside.

Needs Linux, root, `ip` and `iptables`.
"""

import asyncio
import ctypes
import os
import shutil
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pypilot.proxy.capture.kernel import KernelError, Tools, apply
from pypilot.proxy.capture.plan import Capture

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SETUID": 7, "CAP_SYS_ADMIN": 21}
"""What a container's root may lack: links and iptables, becoming the sidecar's user, naming a namespace."""
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where the tools are on systems that leave these out of PATH."""


class NamespaceError(RuntimeError):
    """The kernel or a tool refused; the message says which command and what it said."""


def _which(tool: str) -> str | None:
    return shutil.which(tool) or shutil.which(tool, path=os.pathsep.join(_SBIN))


def _capabilities() -> int:
    """The effective capabilities of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def why_unavailable() -> str | None:
    """Why namespaces with interception cannot be made here, in one line; None if nothing is known to be missing."""
    if sys.platform != "linux":
        return f"needs Linux network namespaces, this is {sys.platform}"
    if os.geteuid() != 0:
        return "needs root"
    if lacking := [name for name, bit in _CAPABILITIES.items() if not _capabilities() >> bit & 1]:
        return f"needs the capabilities {' and '.join(lacking)}, which root lacks here"
    missing = [tool for tool in ("ip", "iptables", "iptables-restore") if _which(tool) is None]
    return f"needs {' and '.join(missing)}, not found here" if missing else None


async def run(*argv: str, stdin: str = "") -> None:
    """Run a tool.

    Raises:
        NamespaceError: it is missing or failed.
    """
    tool = _which(argv[0])
    if tool is None:
        raise NamespaceError(f"{argv[0]} not found")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(tool, *argv[1:], stdin=pipe, stdout=pipe, stderr=pipe)
    _, err = await process.communicate(stdin.encode())
    if process.returncode != 0:
        raise NamespaceError(f"{' '.join(argv)}: {err.decode(errors='replace').strip()}")


@dataclass(frozen=True, slots=True)
class NetworkNamespace:
    """A named network namespace."""

    name: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """Command that runs another one inside; it execs, so the pid is the program's own."""
        return (_which("ip") or "ip", "netns", "exec", self.name)

    def inside(self, action: Callable[[], T]) -> T:
        """The result of `action`, run by a thread inside the namespace. Sockets that it makes stay there. Blocks."""
        outcome: list[T] = []
        failure: list[BaseException] = []

        def enter() -> None:
            try:
                with Path("/run/netns", self.name).open("rb") as file:
                    _setns(file.fileno())
                outcome.append(action())
            except BaseException as error:
                failure.append(error)

        # A thread of its own, never one of a pool: it is left inside when it is done.
        thread = threading.Thread(target=enter, name=f"in-{self.name}")
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return outcome[0]

    def listen(self, host: str, port: int) -> socket.socket:
        """A listening TCP socket inside."""
        return self.inside(lambda: socket.create_server((host, port)))

    def connect(self, host: str, port: int, timeout: float = 5.0) -> socket.socket:
        """A TCP connection from inside. Blocks."""
        return self.inside(lambda: socket.create_connection((host, port), timeout))

    async def redirect_outbound(self, *, to_port: int, except_uid: int) -> None:
        """Send all outbound TCP to a local port, except what `except_uid` sends and what goes to loopback (IPT-003)."""
        capture = Capture(proxy_port=to_port, uids=(str(except_uid),), gids=(), inbound_ports=())
        try:
            await asyncio.to_thread(apply, capture, False, Tools(self.prefix))
        except KernelError as error:
            raise NamespaceError(str(error)) from None


def _setns(descriptor: int) -> None:
    # os.setns came with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


@asynccontextmanager
async def namespace(name: str) -> AsyncIterator[NetworkNamespace]:
    """A new namespace with loopback up; removed when the block ends."""
    await run("ip", "netns", "add", name)
    try:
        await run("ip", "-n", name, "link", "set", "lo", "up")
        yield NetworkNamespace(name)
    finally:
        await run("ip", "netns", "del", name)  # its veth goes with it


async def join(
    inside: NetworkNamespace, inside_address: str, outside: NetworkNamespace, outside_addresses: Sequence[str]
) -> None:
    """Join two namespaces by a veth pair; the first reaches everything through the second.

    Args:
        inside: The namespace that gets a default route.
        inside_address: Its address, with the prefix length.
        outside: The namespace that plays the world.
        outside_addresses: Its addresses with prefix lengths; the first is the other's gateway.
    """
    await run("ip", "-n", inside.name, "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", outside.name)
    await run("ip", "-n", inside.name, "addr", "add", inside_address, "dev", "eth0")
    for address in outside_addresses:
        await run("ip", "-n", outside.name, "addr", "add", address, "dev", "eth0")
    for end in (inside, outside):
        await run("ip", "-n", end.name, "link", "set", "eth0", "up")
    gateway = outside_addresses[0].partition("/")[0]
    await run("ip", "-n", inside.name, "route", "add", "default", "via", gateway)
