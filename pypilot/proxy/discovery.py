"""The agent's own stream to the control plane (incremental ADS): it gets names, and says how the workload is.

Envoy has a stream of its own, with which this one has nothing to do (Istio's agent passes both over one). What was
received holds until something else comes, whatever becomes of the stream.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from pypilot.proxy import log
from pypilot.proxy.certificate import Credentials
from pypilot.proxy.node import NodeIdentity
from pypilot.wire.pb.ads_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, NameTable, Node

NAME_TABLE: Final = "type.googleapis.com/istio.networking.nds.v1.NameTable"
HEALTH: Final = "type.googleapis.com/istio.v1.HealthInformation"
_METHOD: Final = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_FIRST_RETRY: Final = 0.5
_LONGEST_RETRY: Final = 15.0
_STABLE_SECONDS: Final = 30.0
_INVALID: Final = 3
_UNHEALTHY: Final = 500
_OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 256 << 20),
)


def node_message(node: NodeIdentity) -> Node:
    """The same Node as Envoy's."""
    made = Node(id=node.id, cluster=node.cluster, user_agent_name="pypilot-agent")
    made.locality.region, made.locality.zone, made.locality.sub_zone = node.region, node.zone, node.sub_zone
    made.metadata.update(dict(node.metadata))
    return made


class Discovery:
    """`run` it for ever."""

    def __init__(
        self,
        address: str,
        server_name: str,
        root: Path,
        node: NodeIdentity,
        credentials: Callable[[], Credentials | None],
        names: Callable[[NameTable], None] | None = None,
    ) -> None:
        """`names` is told of every table of names; without it none is asked for."""
        self._address = address
        self._server_name = server_name
        self._root = root
        self._node = node
        self._credentials = credentials
        self._names = names
        self._health: DeltaDiscoveryRequest | None = None
        self._outbox: asyncio.Queue[DeltaDiscoveryRequest] | None = None
        self._something = asyncio.Event()
        if names is not None:
            self._something.set()

    def report(self, reason: str) -> None:
        """The workload is well, or why not. Said again on every new stream."""
        self._health = DeltaDiscoveryRequest(type_url=HEALTH)
        if reason:
            self._health.error_detail.code = _UNHEALTHY
            self._health.error_detail.message = reason
        if self._outbox is not None:
            self._outbox.put_nowait(self._health)
        self._something.set()

    async def run(self) -> None:
        """Connect, and connect again, once there is something to say."""
        await self._something.wait()
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            begun = loop.time()
            try:
                await self._stream()
                reason = "the control plane has ended the stream"
            except grpc.aio.AioRpcError as error:
                reason = f"{error.code().name}: {error.details()}"
            except OSError as error:
                reason = str(error)
            finally:
                self._outbox = None
            failures = 0 if loop.time() - begun > _STABLE_SECONDS else failures + 1
            pause = min(_FIRST_RETRY * 2.0 ** min(failures, 16), _LONGEST_RETRY) * (0.5 + random.random() / 2)  # noqa: S311
            log.warning("stream to the control plane", reason=reason, again_in=round(pause, 1))
            await asyncio.sleep(pause)

    async def _stream(self) -> None:
        own = self._credentials()
        assert own is not None, "there is a certificate before there is a stream"
        proof = grpc.ssl_channel_credentials(await asyncio.to_thread(self._root.read_bytes), own.key, own.chain)
        options = [*_OPTIONS, ("grpc.ssl_target_name_override", self._server_name)]
        outbox: asyncio.Queue[DeltaDiscoveryRequest] = asyncio.Queue()
        for request in self._opening():
            outbox.put_nowait(request)
        async with grpc.aio.secure_channel(self._address, proof, options) as channel:
            call: Any = channel.stream_stream(
                _METHOD,
                request_serializer=DeltaDiscoveryRequest.SerializeToString,
                response_deserializer=DeltaDiscoveryResponse.FromString,
            )(_drained(outbox))
            self._outbox = outbox
            async for response in call:
                outbox.put_nowait(self._taken(response))

    def _opening(self) -> list[DeltaDiscoveryRequest]:
        """What a stream begins with; the Node goes with the first."""
        opening = [DeltaDiscoveryRequest(type_url=NAME_TABLE)] if self._names is not None else []
        if self._health is not None:
            opening.append(DeltaDiscoveryRequest.FromString(self._health.SerializeToString()))
        opening[0].node.CopyFrom(node_message(self._node))
        return opening

    def _taken(self, response: DeltaDiscoveryResponse) -> DeltaDiscoveryRequest:
        """Its acknowledgement, or refusal."""
        reply = DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        if response.type_url != NAME_TABLE or self._names is None:
            return reply
        try:
            for resource in response.resources:
                self._names(NameTable.FromString(resource.resource.value))
        except DecodeError as error:
            log.error("names cannot be read", reason=str(error))
            reply.error_detail.code, reply.error_detail.message = _INVALID, "not a NameTable"
        return reply


async def _drained(outbox: "asyncio.Queue[DeltaDiscoveryRequest]") -> AsyncIterator[DeltaDiscoveryRequest]:
    while True:
        yield await outbox.get()
