"""A cluster as the source: `python -m bench.kube [--world FILE] [--crds FILE]`.

Starts etcd and a kube-apiserver of its own (see `e2e.kube.binaries`), fills it with a large world, and measures a real
`pypilot serve` on it: seconds from the start of the process to `/ready`, resident memory, milliseconds from a change of
one EndpointSlice to the response at a connected client, and bytes that are kept of a Pod.

`--world`: an object a line, in JSON, in place of the bench's own. `--crds`: definitions to install in place of ours.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import msgspec
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

from bench.storm import Decoded, Row, Server, serve
from bench.world import sidecar_nodes, world_objects
from e2e.kube.binaries import UnavailableError, find_binaries
from e2e.kube.client import Client, path_of
from e2e.kube.cluster import Cluster
from e2e.kube.crds import read_definitions
from pypilot.cli.manifests.definitions import definitions
from pypilot.kinds import KINDS
from pypilot.kinds.base import Origin
from pypilot.sources.kubernetes.decoding import ObjectDecoder
from pypilot.sources.kubernetes.store import KindStore
from pypilot.wire import types

_STREAM = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_WAVES = {"CustomResourceDefinition": 0, "Namespace": 1, "Node": 1}


async def fill(cluster: Cluster, objects: list[dict[str, Any]], crds: Path | None) -> None:
    """Make everything in the cluster."""
    async with Client(cluster, parallel=32) as client:
        await client.apply_all(read_definitions(crds) if crds else definitions(KINDS))
        for wave in (1, 2):
            await asyncio.gather(*(_create(client, o) for o in objects if _WAVES.get(o["kind"], 2) == wave))


async def _create(client: Client, data: dict[str, Any]) -> None:
    body = {k: v for k, v in data.items() if k != "status"}
    await client.request("POST", path_of(data).rpartition("/")[0], body)
    if "status" in data:
        await client.request(
            "PATCH", path_of(data) + "/status", {"status": data["status"]}, "application/merge-patch+json"
        )


class Wire:
    """A connected sidecar that counts what comes."""

    def __init__(self, address: str, node: dict[str, Any]) -> None:
        self._address = address
        self._node = json_format.ParseDict(node, discovery_pb2.DeltaDiscoveryRequest().node)
        self._requests: asyncio.Queue[bytes] = asyncio.Queue()
        self.came: dict[str, float] = {}
        """When each endpoint assignment last came."""
        self.types: set[str] = set()

    def _ask(self, type_url: str, names: list[str], node: Any = None) -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, resource_names_subscribe=names, node=node)
        self._requests.put_nowait(request.SerializeToString())

    async def _all_requests(self) -> AsyncIterator[bytes]:
        while True:
            yield await self._requests.get()

    async def run(self) -> None:
        """Subscribe as Envoy does, and acknowledge; for ever."""
        decoded = Decoded()
        options = [("grpc.max_receive_message_length", -1)]
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            stream = channel.stream_stream(_STREAM)(self._all_requests())
            self._ask(types.CLUSTER, [], self._node)
            self._ask(types.LISTENER, [])
            while (data := await stream.read()) is not grpc.aio.EOF:
                at = time.perf_counter()
                response = discovery_pb2.DeltaDiscoveryResponse.FromString(data)
                for resource in response.resources if response.type_url == types.ENDPOINT else ():
                    self.came[resource.name] = at
                ack = discovery_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
                self._requests.put_nowait(ack.SerializeToString())
                child = {types.CLUSTER: types.ENDPOINT, types.LISTENER: types.ROUTE}.get(response.type_url)
                if child is not None and child not in self.types:
                    bodies = [r.resource.value for r in response.resources]
                    self._ask(child, decoded.referred(response.type_url, bodies))
                self.types.add(response.type_url)


async def wire_rows(cluster: Cluster, server: Server, objects: list[dict[str, Any]], count: int = 40) -> list[Row]:
    """One endpoint more or less, again and again, and when that is at the client."""
    wire = Wire(server.grpc_address, sidecar_nodes(objects, 1)[0])
    running = asyncio.create_task(wire.run())
    slices = [o for o in objects if o["kind"] == "EndpointSlice"]
    from_send, from_answer = [], []
    async with Client(cluster) as client:
        while not {types.ENDPOINT, types.ROUTE} <= wire.types:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.sleep(1.0)
        for i in range(count):
            data = slices[(i * 37 + 1) % len(slices)]
            is_there = len((await client.request("GET", path_of(data)))["endpoints"]) > len(data["endpoints"])
            more = [] if is_there else [{"addresses": ["10.200.0.1"], "conditions": {"ready": True}}]
            endpoints = [*data["endpoints"], *more]
            host = f"{data['metadata']['labels']['kubernetes.io/service-name']}.{data['metadata']['namespace']}."
            before = dict(wire.came)
            start = time.perf_counter()
            await client.request("PATCH", path_of(data), {"endpoints": endpoints}, "application/merge-patch+json")
            answered = time.perf_counter()
            async with asyncio.timeout(60):
                names = [n for n in wire.came if f"||{host}" in n]
                while not (found := [wire.came[n] for n in names if wire.came[n] != before[n]]):  # noqa: ASYNC110
                    await asyncio.sleep(0.0005)
            from_send.append(max(found) - start)
            from_answer.append(max(found) - answered)
            await asyncio.sleep(0.15)  # the next is a change of its own
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return [
        ("endpoint change to the wire, from the request", _quantiles(from_send)),
        ("endpoint change to the wire, from the API server's answer", _quantiles(from_answer)),
    ]


def _quantiles(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    worst = ordered[int(len(ordered) * 0.95)]
    return (
        f"median {statistics.median(ordered) * 1e3:.1f} ms, 95 % {worst * 1e3:.1f} ms, most {ordered[-1] * 1e3:.1f} ms"
    )


async def pod_rows(cluster: Cluster) -> list[Row]:
    """What the source keeps of a Pod, and how long decoding takes, on the pages that the server gives."""
    kind = next(k for k in KINDS if k.name == "Pod")
    async with Client(cluster) as client:
        answer = await client.request("GET", "/api/v1/pods?limit=5000")
    raws = [msgspec.json.encode(item) for item in answer["items"]]
    del answer
    pages = [b'{"metadata":{"resourceVersion":"1"},"items":[' + b",".join(raws[i : i + 500]) + b"]}" for i in
             range(0, len(raws), 500)]  # fmt: skip
    begun = time.perf_counter()
    for page in pages:
        ObjectDecoder(kind, "v1").page(page)
    seconds = time.perf_counter() - begun
    decoder, store = ObjectDecoder(kind, "v1"), KindStore(kind, Origin("cluster"))
    gc.collect()
    tracemalloc.start()
    for page in pages:
        store.update(decoder.page(page).items)
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = sum(map(len, raws)) / len(raws)
    return [
        ("bytes kept of a Pod", f"{kept / len(store):.0f} (of {size:.0f} bytes of JSON; {len(store)} Pods)"),
        ("decoding a Pod", f"{seconds / len(raws) * 1e6:.1f} µs"),
    ]


def start_rows(kubeconfig: Path, times: int) -> Iterator[Row]:
    """Process start to `/ready`, and memory."""
    seconds, resident, peak, cpu = [], [], [], []
    for _ in range(times):
        with serve([], ["--kubeconfig", str(kubeconfig)]) as server:
            seconds.append(server.seconds_to_ready)
            cpu.append(server.cpu_seconds())
            time.sleep(2)
            resident.append(server.memory_mb())
            peak.append(server.memory_mb("VmHWM"))
    yield "start of the process to ready", " ".join(f"{s:.2f}" for s in seconds) + " s"
    yield "CPU until ready", " ".join(f"{s:.2f}" for s in cpu) + " s"
    yield "resident memory after that", f"{max(resident):.0f} MB (peak {max(peak):.0f} MB)"


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=5, help="per service")
    parser.add_argument("--namespaces", type=int, default=10)
    parser.add_argument("--world", type=Path)
    parser.add_argument("--crds", type=Path)
    parser.add_argument("--times", type=int, default=3, help="starts of pypilot")
    parser.add_argument("--keep", type=Path, help="write the kubeconfig there and wait, once all is measured")
    given = parser.parse_args()
    if given.world:
        objects = [json.loads(line) for line in given.world.read_text().splitlines()]
    else:
        objects = world_objects(given.services, given.endpoints, given.namespaces)
    try:
        binaries = find_binaries(os.environ)
    except UnavailableError as error:
        print(f"no cluster to measure with: {error}")
        return 0
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        cluster = Cluster(binaries, Path(folder))
        stack.callback(cluster.stop)
        cluster.start()
        begun = time.perf_counter()
        asyncio.run(fill(cluster, objects, given.crds))
        print(f"{len(objects)} objects made in {time.perf_counter() - begun:.0f} s", flush=True)
        for what, value in (*start_rows(cluster.kubeconfig(), given.times), *asyncio.run(pod_rows(cluster))):
            print(f"{what:<62} {value}", flush=True)
        with serve([], ["--kubeconfig", str(cluster.kubeconfig())]) as server:
            for what, value in asyncio.run(wire_rows(cluster, server, objects)):
                print(f"{what:<62} {value}", flush=True)
            print(f"{'resident memory with a connected sidecar':<62} {server.memory_mb():.0f} MB", flush=True)
        if given.keep:
            given.keep.write_text(cluster.kubeconfig().read_text())
            print(f"waiting; {given.keep} leads to the cluster", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(3600)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
