"""Stands where Istio's agent stands: gives an Envoy its workload certificate over SDS on a unix socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2

from tests.xds.certificates import Authority, Pair


class WorkloadSecrets(grpc.GenericRpcHandler):
    """The secrets `default` and `ROOTCA`, which do not change."""

    def __init__(self, pair: Pair, root: bytes) -> None:
        mine, trusted = secret_pb2.Secret(name="default"), secret_pb2.Secret(name="ROOTCA")
        mine.tls_certificate.certificate_chain.inline_bytes = pair.certificate
        mine.tls_certificate.private_key.inline_bytes = pair.key
        trusted.validation_context.trusted_ca.inline_bytes = root
        self._secrets = {secret.name: secret for secret in (mine, trusted)}

    def service(self, call: Any) -> Any:
        async def stream(requests: Any, _: Any) -> Any:
            async for data in requests:
                request = discovery_pb2.DiscoveryRequest.FromString(data)
                if request.response_nonce:
                    continue
                answer = discovery_pb2.DiscoveryResponse(version_info="1", nonce="1", type_url=request.type_url)
                for name in request.resource_names:
                    answer.resources.add().Pack(self._secrets[name])
                yield answer.SerializeToString()

        return grpc.stream_stream_rpc_method_handler(stream)

    @classmethod
    @asynccontextmanager
    async def start(cls, socket: Path, authority: Authority, identity: str) -> AsyncIterator[None]:
        """Serve a certificate for a SPIFFE identity until the block ends."""
        running = grpc.aio.server()
        running.add_generic_rpc_handlers((cls(authority.issue(identity), authority.certificate),))
        running.add_insecure_port(f"unix:{socket}")
        await running.start()
        try:
            yield
        finally:
            await running.stop(0)
