"""A pod with a sidecar: a network namespace whose traffic, both ways, iptables sends through an Envoy.

A second namespace plays the rest of the world. Root, `ip` and `iptables` are needed; nothing outside is touched.
"""

import asyncio
import os
import socket
from dataclasses import dataclass

from e2e.outcomes.caller import SECONDS, Caller
from e2e.outcomes.objects import NAMESPACE, Json
from e2e.outcomes.stage import LOCALITY, MARK_ADDRESS, Proxy, Stage
from pypilot.cli.demo.bootstrap import NodeIdentity, ads_bootstrap
from pypilot.cli.demo.envoy import Envoy
from pypilot.cli.demo.netns import NetworkNamespace, join, namespace
from pypilot.cli.demo.relay import relay
from pypilot.proxy.capture.kernel import Tools, apply
from pypilot.proxy.capture.plan import Capture

UID = 1337
POD, GATE = "10.78.0.2", "10.78.0.1"
PARTNER, BANK, DATABASE = "203.0.113.10", "203.0.113.20", "203.0.113.30"
"""Addresses of the world; of a range for documentation, only in our namespaces."""
VIRTUAL = "10.96.78.1"
"""Cluster IP of the pod's own service."""
LABELS = {"app": "client"}
SIDECAR = NodeIdentity("sidecar", POD, "client", NAMESPACE, LABELS)
PORTS = {"http": (80, 8080), "tcp-mysql": (3306, 3306)}
"""Ports of the pod's service: by name, its own and the pod's."""


def pod_objects() -> list[Json]:
    """What a cluster would say of the pod and its service."""
    meta = {"namespace": NAMESPACE}
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**meta, "name": "client", "labels": LABELS},
            "status": {"phase": "Running", "podIP": POD, "podIPs": [{"ip": POD}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {**meta, "name": "client"},
            "spec": {
                "clusterIP": VIRTUAL,
                "selector": LABELS,
                "ports": [{"name": n, "port": p, "targetPort": t} for n, (p, t) in PORTS.items()],
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**meta, "name": "client-1", "labels": {"kubernetes.io/service-name": "client"}},
            "addressType": "IPv4",
            "ports": [{"name": n, "port": t} for n, (_, t) in PORTS.items()],
            "endpoints": [{"addresses": [POD], "targetRef": {"kind": "Pod", "name": "client", "namespace": NAMESPACE}}],
        },
    ]


@dataclass(frozen=True, slots=True)
class Pod:
    """The pod, and the world around it."""

    inside: NetworkNamespace
    world: NetworkNamespace
    proxy: Proxy
    outside: Caller
    """Calls the pod from the world; finds its requests in the pod's log."""

    @property
    def caller(self) -> Caller:
        """The pod's application as a client."""
        return self.proxy.caller

    async def connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TCP connection of the pod's application."""
        made = await asyncio.to_thread(self.inside.connect, host, port, SECONDS)
        return await asyncio.open_connection(sock=made)


async def add_pod(stage: Stage) -> Pod:
    """Start the pod and its sidecar; they end with the stage."""
    enter = stage.stack.enter_async_context
    inside = await enter(namespace(f"pp-out-{os.getpid()}-pod"))
    world = await enter(namespace(f"pp-out-{os.getpid()}-world"))
    await join(inside, f"{POD}/24", world, [f"{GATE}/24", *(f"{a}/32" for a in (PARTNER, BANK, DATABASE))])
    await asyncio.to_thread(apply, Capture(uids=(str(UID),), gids=(str(UID),)), False, Tools(inside.prefix))
    directory = stage.work.directory("sidecar")
    await enter(relay(directory / "xds.sock", *stage.control_plane.grpc))
    # The gateway asks incrementally, the sidecar for the state of the world.
    bootstrap = ads_bootstrap(SIDECAR, directory / "xds.sock", protocol="GRPC")
    bootstrap["node"]["locality"] = LOCALITY
    started = Envoy.start(bootstrap, directory, name="sidecar", uid=UID, prefix=inside.prefix)
    envoy = await enter(started)
    await envoy.wait_live(SECONDS)
    callers = [
        await enter(Caller.of(envoy.access_log, address, lambda where=where: where.inside(socket.socket)))  # type: ignore[misc]
        for where, address in ((inside, (PARTNER, 80)), (world, (POD, 8080)))
    ]
    stage.proxies.append(proxy := Proxy(envoy, callers[0], MARK_ADDRESS))
    return Pod(inside, world, proxy, callers[1])
