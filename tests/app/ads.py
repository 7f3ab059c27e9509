"""A small state-of-the-world ADS client for tests: asks, accepts or rejects, remembers."""

import asyncio
from types import TracebackType
from typing import Any

import grpc
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from google.rpc.status_pb2 import Status

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
NODE_ID = "router~10.0.0.5~gate.web~web.svc.cluster.local"


class AdsClient:
    """One stream of one proxy."""

    def __init__(
        self, port: int, node_id: str = NODE_ID, metadata: dict[str, Any] | None = None, credentials: Any = None
    ) -> None:
        address = f"127.0.0.1:{port}"
        insecure = credentials is None
        self._channel = (
            grpc.aio.insecure_channel(address) if insecure else grpc.aio.secure_channel(address, credentials)
        )
        self._node = Node(id=node_id)
        self._node.metadata.update(metadata or {"NAMESPACE": node_id.split("~")[2].split(".")[1]})
        self._call: Any = None

    async def __aenter__(self) -> "AdsClient":
        method = self._channel.stream_stream(
            METHOD,
            request_serializer=DiscoveryRequest.SerializeToString,
            response_deserializer=DiscoveryResponse.FromString,
        )
        self._call = method(timeout=60)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.cancel()
        await self._channel.close()

    async def ask(self, type_url: str, *names: str, **more: Any) -> None:
        await self._call.write(DiscoveryRequest(node=self._node, type_url=type_url, resource_names=names, **more))

    async def read(self) -> DiscoveryResponse | None:
        """The next response; None when the server ends the stream."""
        response = await asyncio.wait_for(self._call.read(), 30)
        return None if response is grpc.aio.EOF else response

    async def answer(self, response: DiscoveryResponse, *names: str, error: str = "") -> None:
        detail = {"error_detail": Status(code=3, message=error)} if error else {}
        await self.ask(
            response.type_url, *names, version_info=response.version_info, response_nonce=response.nonce, **detail
        )

    async def get(self, type_url: str, *names: str) -> DiscoveryResponse:
        """Ask for a type and accept the answer."""
        await self.ask(type_url, *names)
        response = await self.read()
        assert response is not None
        assert response.type_url == type_url
        await self.answer(response, *names)
        return response
