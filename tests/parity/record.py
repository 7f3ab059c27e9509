"""Record what a control plane serves: `python -m tests.parity.record --xds HOST:PORT SCENARIO [SCENARIO …]`.

SCENARIO is a directory with `nodes/NODE.json`; what each of these nodes gets is written to `istiod/NODE/TYPE.json`
beside it, so that afterwards `bench.parity --recordings` and `bench.archive` can read it. `--node FILE --out DIR`
records a single node. The server (any istiod, plaintext port 15010) must hold the scenario's `world.yaml` and the
MeshConfig of its `mesh.yaml` already: apply the world with the CRDs to an API server on which no controllers run, and
start istiod with the mesh in the ConfigMap `istio`.

Asks as Envoy does over one state-of-the-world stream: clusters, listeners and the DNS table without names, and of the
other types what those refer to. Private keys are written as their SHA-256.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import grpc
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from google.protobuf import json_format

from bench.recordings import TYPES, ByName, decode
from pypilot.wire.references import EXTENSION_CONFIG, references
from pypilot.wire.resource import Resource
from pypilot.wire.types import BY_SHORT, PREFIX

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
WITHOUT_NAMES = ("CDS", "LDS", "NDS")
URLS = {"ECDS": EXTENSION_CONFIG, "NDS": PREFIX + "istio.networking.nds.v1.NameTable"} | dict(BY_SHORT)
SHORT = {url: short for short, url in URLS.items()}


class Recorder:
    """One proxy on one stream."""

    def __init__(self, node: Node, kinds: Collection[str]) -> None:
        self._node = node
        self._kinds = kinds
        self._requests: asyncio.Queue[DiscoveryRequest] = asyncio.Queue()
        self._names: dict[str, set[str]] = {}
        self._last: dict[str, DiscoveryResponse] = {}
        self.held: dict[str, ByName] = {kind: {} for kind in TYPES}

    @property
    def is_answered(self) -> bool:
        """Whether a response came for each type that was asked for."""
        return self._names.keys() <= self._last.keys()

    async def requests(self) -> AsyncIterator[DiscoveryRequest]:
        """What is sent, for ever."""
        for kind in WITHOUT_NAMES:
            if kind in self._kinds:
                self._ask(kind, set())
        while True:
            yield await self._requests.get()

    def _ask(self, kind: str, names: set[str]) -> None:
        """Ask for more names, or accept the last response."""
        self._names[kind] = self._names.get(kind, set()) | names
        last = self._last.get(kind)
        self._requests.put_nowait(
            DiscoveryRequest(
                node=self._node,
                type_url=URLS[kind],
                resource_names=sorted(self._names[kind]),
                version_info=last.version_info if last else "",
                response_nonce=last.nonce if last else "",
            )
        )

    def take(self, response: DiscoveryResponse) -> None:
        """Keep a response, and ask for what it refers to."""
        kind = SHORT[response.type_url]
        self._last[kind] = response
        self._ask(kind, set())
        if kind in WITHOUT_NAMES:
            self.held[kind].clear()
        wanted: dict[str, set[str]] = {}
        for packed in response.resources:
            decoded = decode(Resource("", "", packed.SerializeToString()))
            name = str(decoded.get("cluster_name" if kind == "EDS" else "name", ""))
            self.held[kind][name] = decoded
            for type_url, referred in references(response.type_url, decoded):
                wanted.setdefault(SHORT[type_url], set()).add(referred)
        for other, names in wanted.items():
            if other in self._kinds and not names <= self._names.get(other, set()):
                self._ask(other, names)


async def record(
    address: str, node: Node, quiet: float, longest: float, kinds: Collection[str] = TYPES
) -> dict[str, ByName]:
    """What the node gets of some types, by type and name.

    Ends when every type was answered and nothing came for `quiet` seconds, or after `longest`.
    """
    recorder = Recorder(node, kinds)
    loop = asyncio.get_running_loop()
    end = loop.time() + longest
    async with grpc.aio.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        method = channel.stream_stream(
            METHOD,
            request_serializer=DiscoveryRequest.SerializeToString,
            response_deserializer=DiscoveryResponse.FromString,
        )
        stream = method(recorder.requests())
        try:
            while (left := end - loop.time()) > 0:
                async with asyncio.timeout(min(left, quiet) if recorder.is_answered else left):
                    response = await stream.read()
                if response is grpc.aio.EOF:
                    raise ConnectionError("the server ended the stream")
                recorder.take(response)
        except TimeoutError:
            pass
        finally:
            stream.cancel()
    return recorder.held


def write(held: dict[str, ByName], folder: Path) -> None:
    """One file a type, sorted."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, resources in held.items():
        items = [{"name": name, "resource": resources[name]} for name in sorted(resources)]
        (folder / f"{kind}.json").write_text(json.dumps(items, indent=1, sort_keys=True) + "\n")


def read_node(path: Path) -> Node:
    """A node file, in protobuf JSON."""
    node: Any = json_format.ParseDict(json.loads(path.read_text()), Node(), ignore_unknown_fields=True)
    return node


async def _run(given: argparse.Namespace) -> None:
    todo = [(given.node, given.out)] if given.node else []
    for scenario in given.scenarios:
        todo += [(path, scenario / "istiod" / path.stem) for path in sorted((scenario / "nodes").glob("*.json"))]
    for path, folder in todo:
        held = await record(given.xds, read_node(path), given.quiet, given.longest, given.types.split(","))
        write(held, folder)
        print(folder, {kind: len(resources) for kind, resources in held.items()}, flush=True)


def main() -> int:
    """Record what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", type=Path, metavar="SCENARIO")
    parser.add_argument("--xds", required=True, metavar="HOST:PORT", help="a plaintext ADS port")
    parser.add_argument("--node", type=Path, metavar="FILE", help="record this node alone, to --out")
    parser.add_argument("--out", type=Path, metavar="DIR")
    parser.add_argument("--types", default=",".join(TYPES), help="default: %(default)s")
    parser.add_argument("--quiet", type=float, default=0.7, help="seconds without a response that mean: that is all")
    parser.add_argument("--longest", type=float, default=20.0, help="seconds, for a type that is never answered")
    given = parser.parse_args()
    if bool(given.node) != bool(given.out) or not (given.node or given.scenarios):
        parser.error("give scenarios, or --node with --out")
    asyncio.run(_run(given))
    return 0


if __name__ == "__main__":
    sys.exit(main())
