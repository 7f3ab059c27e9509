"""A hub with a bridge, and pods plugged into it. Only in namespaces made here; the machine's own network is untouched.

The hub is the world outside of the mesh too, and where the control plane lives.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from pypilot.cli.demo.netns import NetworkNamespace, namespace, run

GATE = "10.79.0.1"
"""The hub's address."""


@asynccontextmanager
async def hub(name: str, addresses: Sequence[str] = ()) -> AsyncIterator[NetworkNamespace]:
    """The bridge, with further addresses of the world behind it."""
    async with namespace(f"pp-{os.getpid()}-{name}") as made:
        await run("ip", "-n", made.name, "link", "add", "br0", "type", "bridge")
        for address in (f"{GATE}/16", *(f"{a}/32" for a in addresses)):
            await run("ip", "-n", made.name, "addr", "add", address, "dev", "br0")
        await run("ip", "-n", made.name, "link", "set", "br0", "up")
        yield made


@asynccontextmanager
async def plugged(bridge: NetworkNamespace, name: str, address: str) -> AsyncIterator[NetworkNamespace]:
    """A namespace with that address, whose way to everything is the hub."""
    async with namespace(f"{bridge.name}-{name}") as made:
        port = f"v-{address.replace('.', '-')[-9:]}"
        peer = ("peer", "name", port, "netns", bridge.name)
        await run("ip", "-n", made.name, "link", "add", "eth0", "type", "veth", *peer)
        await run("ip", "-n", made.name, "addr", "add", f"{address}/16", "dev", "eth0")
        await run("ip", "-n", made.name, "link", "set", "eth0", "up")
        await run("ip", "-n", bridge.name, "link", "set", port, "master", "br0", "up")
        await run("ip", "-n", made.name, "route", "add", "default", "via", GATE)
        yield made


@asynccontextmanager
async def passage(listening: socket.socket, connect: Callable[[], socket.socket]) -> AsyncIterator[None]:
    """Whoever connects here talks with the other end, in whichever namespaces both are."""
    tasks: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                while data := await reader.read(1 << 16):
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other_reader, other_writer = await asyncio.open_connection(sock=await asyncio.to_thread(connect))
        except OSError:
            writer.close()
            return
        for work in (copy(reader, other_writer), copy(other_reader, writer)):
            tasks.add(task := asyncio.create_task(work))
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, sock=listening)
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
