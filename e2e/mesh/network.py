"""A hub with a bridge, and pods plugged into it. Only in namespaces made here; the machine's own network is untouched.

The hub is the world outside of the mesh too, and where the control plane lives.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

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
