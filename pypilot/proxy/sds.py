"""Secret discovery on a unix socket: Envoy's own certificate and the mesh's roots (SDS-001, SDS-002, BOOT-002).

Whoever can open the socket gets the key, so it is for its owner alone.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage

from pypilot.proxy import log
from pypilot.proxy.certificate import Credentials, WorkloadCertificate
from pypilot.wire.pb.sds_pb2 import DataSource, DiscoveryRequest, DiscoveryResponse, Secret

SERVICE: Final = "envoy.service.secret.v3.SecretDiscoveryService"
TYPE: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
CERTIFICATE: Final = "default"
ROOTS: Final = "ROOTCA"


def secret(name: str, credentials: Credentials) -> Secret | None:
    """The Secret of that name, None if there is no such."""
    made = Secret(name=name)
    if name == CERTIFICATE:
        made.tls_certificate.certificate_chain.inline_bytes = credentials.chain
        made.tls_certificate.private_key.inline_bytes = credentials.key
    elif name == ROOTS:
        made.validation_context.trusted_ca.CopyFrom(DataSource(inline_bytes=credentials.roots))
    else:
        return None
    return made


def response(names: Iterable[str], credentials: Credentials, nonce: int) -> DiscoveryResponse:
    """The Secrets that there are of these names."""
    packed = []
    digest = hashlib.sha256()
    for name in names:
        made = secret(name, credentials)
        if made is not None:
            value = made.SerializeToString(deterministic=True)
            digest.update(value)
            packed.append(AnyMessage(type_url=TYPE, value=value))
    return DiscoveryResponse(version_info=digest.hexdigest()[:16], resources=packed, type_url=TYPE, nonce=str(nonce))


class SdsServer:
    """`start`, then `stop`."""

    def __init__(self, certificate: WorkloadCertificate) -> None:
        self._certificate = certificate
        self._server: grpc.aio.Server | None = None
        self._waiting: set[asyncio.Event] = set()
        certificate.listen(self._wake)

    async def start(self, socket: Path) -> None:
        """Listen; a socket that was left behind is replaced."""
        socket.unlink(missing_ok=True)  # noqa: ASYNC240 - before anything runs
        self._server = grpc.aio.server(options=[("grpc.max_receive_message_length", 4 << 20)])
        method = grpc.stream_stream_rpc_method_handler(
            self._stream, DiscoveryRequest.FromString, DiscoveryResponse.SerializeToString
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {"StreamSecrets": method}),)
        )
        mask = os.umask(0o177)  # whatever the directory allows: in a pod it is a volume of the kubelet's, open to all
        try:
            self._server.add_insecure_port(f"unix:{socket}")
        finally:
            os.umask(mask)
        await self._server.start()

    async def stop(self) -> None:
        """Cut all streams."""
        if self._server is not None:
            await self._server.stop(0)

    def _wake(self) -> None:
        for event in self._waiting:
            event.set()

    async def _stream(self, requests: AsyncIterator[DiscoveryRequest], _: Any) -> AsyncIterator[DiscoveryResponse]:
        """Each Envoy cluster or listener that wants a secret has a stream of its own."""
        names: tuple[str, ...] = ()
        sent: tuple[str, str] = ("", "")
        nonce = 0
        wake = asyncio.Event()
        self._waiting.add(wake)
        reading = asyncio.ensure_future(anext(requests, None))
        waking = asyncio.ensure_future(wake.wait())
        try:
            while True:
                await asyncio.wait({reading, waking}, return_when=asyncio.FIRST_COMPLETED)
                if waking.done():
                    wake.clear()
                    waking = asyncio.ensure_future(wake.wait())
                if reading.done():
                    request = reading.result()
                    if request is None:
                        return
                    self._check(request)
                    names = tuple(request.resource_names)
                    reading = asyncio.ensure_future(anext(requests, None))
                credentials = self._certificate.credentials
                if not names or credentials is None:
                    continue
                made = response(names, credentials, nonce + 1)
                if (now := (",".join(names), made.version_info)) != sent:
                    sent, nonce = now, nonce + 1
                    yield made
        finally:
            self._waiting.discard(wake)
            reading.cancel()
            waking.cancel()

    def _check(self, request: DiscoveryRequest) -> None:
        if request.HasField("error_detail"):
            names = ",".join(request.resource_names)
            log.error("Envoy refused a secret", names=names, reason=request.error_detail.message[:500])
