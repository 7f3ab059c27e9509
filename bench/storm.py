"""Connect storms: many streams at once against a real `pypilot serve`, in state-of-the-world and delta.

The server is a child process; its CPU seconds and peak memory are read from the operating system. The clients share
this process: they subscribe as Envoy does (CDS, then EDS for every cluster; LDS, then RDS for every listener) and
acknowledge, but decode each distinct response only once, so as to leave the processors to the server.
"""

import asyncio
import contextlib
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

from bench.world import JsonObject, sidecar_nodes, world_objects
from pypilot.wire import types

Row = tuple[str, str]
_SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
_HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Server:
    """A `pypilot serve` child process."""

    process: subprocess.Popen[bytes]
    grpc_address: str
    http_address: str
    seconds_to_ready: float = 0.0

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def memory_mb(self, what: str = "VmRSS") -> float:
        """`VmRSS` now, `VmHWM` at the most."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(what + ":"):
                return int(line.split()[1]) / 1024
        return 0.0


@contextlib.contextmanager
def serve(config: Sequence[str], more: Sequence[str] = ()) -> Iterator[Server]:
    """Start the server and wait until it is ready."""
    grpc_port, http_port = free_port(), free_port()
    command = [sys.executable, "-m", "pypilot", "serve"]
    command += [word for path in config for word in ("--config", path)]
    command += ["--grpc-addr", f"127.0.0.1:{grpc_port}", "--http-addr", f"127.0.0.1:{http_port}"]
    command += ["--monitoring-addr", "", "--log-level", "error", *more]
    start = time.perf_counter()
    process = subprocess.Popen(command)
    server = Server(process, f"127.0.0.1:{grpc_port}", f"127.0.0.1:{http_port}")
    try:
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{server.http_address}/ready", timeout=5):
                break
            if process.poll() is not None:
                raise RuntimeError(f"pypilot serve ended with {process.returncode}")
            time.sleep(0.02)
        server.seconds_to_ready = time.perf_counter() - start
        yield server
    finally:
        process.terminate()
        process.wait(30)


@dataclass(slots=True)
class Decoded:
    """Names found in responses, remembered by the bytes that hold them."""

    names: dict[tuple[str, int], list[str]] = field(default_factory=dict)

    def referred(self, type_url: str, bodies: list[bytes]) -> list[str]:
        """EDS names of clusters, RDS names of listeners."""
        key = (type_url, hash(tuple(map(hash, bodies))))
        if key not in self.names:
            self.names[key] = list(_clusters(bodies) if type_url == types.CLUSTER else _routes(bodies))
        return self.names[key]


def _clusters(bodies: list[bytes]) -> Iterator[str]:
    for body in bodies:
        cluster = cluster_pb2.Cluster.FromString(body)
        if cluster.type == cluster_pb2.Cluster.EDS:
            yield cluster.eds_cluster_config.service_name or cluster.name


def _routes(bodies: list[bytes]) -> Iterator[str]:
    found: dict[str, None] = {}
    for body in bodies:
        for chain in listener_pb2.Listener.FromString(body).filter_chains:
            for network_filter in chain.filters:
                if network_filter.typed_config.type_url == _HCM:
                    manager = http_connection_manager_pb2.HttpConnectionManager.FromString(
                        network_filter.typed_config.value
                    )
                    if manager.rds.route_config_name:
                        found[manager.rds.route_config_name] = None
    yield from found


class Client:
    """One stream that subscribes as Envoy does."""

    def __init__(self, address: str, node: JsonObject, delta: bool, decoded: Decoded) -> None:
        self._address = address
        self._node = json_format.ParseDict(node, discovery_pb2.DiscoveryRequest().node)
        self._delta = delta
        self._decoded = decoded
        self._queue: asyncio.Queue[object] = asyncio.Queue()
        self.received = 0
        self.got: set[str] = set()

    async def _requests(self) -> AsyncIterator[object]:
        while True:
            yield await self._queue.get()

    def _ask(self, type_url: str, names: list[str], first: bool = False) -> None:
        request = discovery_pb2.DeltaDiscoveryRequest if self._delta else discovery_pb2.DiscoveryRequest
        field_name = "resource_names_subscribe" if self._delta else "resource_names"
        message = request(type_url=type_url, **{field_name: names})
        if first:
            message.node.CopyFrom(self._node)
        self._queue.put_nowait(message.SerializeToString())

    async def run(self, all_done: asyncio.Barrier) -> None:
        """Until clusters, endpoints, listeners and routes have come, to everybody."""
        method = "DeltaAggregatedResources" if self._delta else "StreamAggregatedResources"
        response_type = discovery_pb2.DeltaDiscoveryResponse if self._delta else discovery_pb2.DiscoveryResponse
        ack_type = discovery_pb2.DeltaDiscoveryRequest if self._delta else discovery_pb2.DiscoveryRequest
        async with grpc.aio.insecure_channel(self._address, options=_OPTIONS) as channel:
            stream = channel.stream_stream(_SERVICE + method)(self._requests())
            self._ask(types.CLUSTER, [], first=True)
            self._ask(types.LISTENER, [])
            wanted = {types.CLUSTER, types.LISTENER}
            while wanted - self.got:
                data = await stream.read()
                if data is grpc.aio.EOF:
                    raise RuntimeError("the server closed the stream")
                self.received += len(data)
                response = response_type.FromString(data)
                self.got.add(response.type_url)
                ack = ack_type(type_url=response.type_url, response_nonce=response.nonce)
                if response.type_url in (types.CLUSTER, types.LISTENER):
                    anys = (r.resource for r in response.resources) if self._delta else response.resources
                    names = self._decoded.referred(response.type_url, [a.value for a in anys])
                    child = types.ENDPOINT if response.type_url == types.CLUSTER else types.ROUTE
                    wanted.add(child)
                    self._ask(child, names)
                    if not self._delta:
                        ack.version_info = response.version_info
                    self._queue.put_nowait(ack.SerializeToString())
            await all_done.wait()
            stream.cancel()


async def _storm(address: str, nodes: list[JsonObject], delta: bool) -> tuple[float, int]:
    decoded = Decoded()
    clients = [Client(address, node, delta, decoded) for node in nodes]
    start = time.perf_counter()
    barrier = asyncio.Barrier(len(clients))
    await asyncio.gather(*(c.run(barrier) for c in clients))
    return time.perf_counter() - start, sum(c.received for c in clients)


def storm_rows(streams: int, services: int = 1000, endpoints: int = 5, namespaces: int = 10) -> Iterator[Row]:
    """The figures of a storm in each variant, each against a fresh server."""
    objects = world_objects(services, endpoints, namespaces)
    nodes = sidecar_nodes(objects, streams)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "world.json"
        config.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        for delta in (False, True):
            with serve([str(config)]) as server:
                before, rest = server.cpu_seconds(), server.memory_mb()
                wall, received = asyncio.run(_storm(server.grpc_address, nodes, delta))
                cpu, peak = server.cpu_seconds() - before, server.memory_mb("VmHWM")
            variant = "delta" if delta else "state of the world"
            yield (
                f"{streams} streams at once, {variant}",
                f"{wall:.1f} s wall, {cpu:.1f} CPU-s, peak {peak:.0f} MB (idle {rest:.0f} MB), {received / 1e6:.0f} MB",
            )


def serve_rows(config: Path) -> Iterator[Row]:
    """Start-up time and resting memory on a small directory."""
    with serve([str(config)]) as server:
        yield f"serve {config}: ready", f"{server.seconds_to_ready:.2f} s, {server.memory_mb():.0f} MB resident"
