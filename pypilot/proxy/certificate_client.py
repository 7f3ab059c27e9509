"""IstioCertificateService as its client (CA-001): proves itself by the pod's token, else by the certificate it has.

The token and the roots are read from their files each time: the kubelet replaces both.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import grpc

from pypilot.proxy.certificate import CertificateError, Credentials
from pypilot.wire.pb.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse

_METHOD: Final = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
_SECONDS: Final = 15.0


class CertificateClient:
    """Call it with a request."""

    def __init__(
        self,
        address: str,
        server_name: str,
        token: Path,
        root: Path,
        credentials: Callable[[], Credentials | None],
        cluster_id: str = "Kubernetes",
    ) -> None:
        """`credentials` are those that there are already."""
        self._address = address
        self._server_name = server_name
        self._token = token
        self._root = root
        self._credentials = credentials
        self._cluster_id = cluster_id

    async def __call__(self, csr: str, seconds: int) -> list[str]:
        """The chain for a request.

        Raises:
            CertificateError: there is none.
        """
        options = [("grpc.ssl_target_name_override", self._server_name), ("grpc.use_local_subchannel_pool", 1)]
        request = IstioCertificateRequest(csr=csr, validity_duration=seconds)
        try:
            async with grpc.aio.secure_channel(self._address, self._proof(), options) as channel:
                call = channel.unary_unary(
                    _METHOD,
                    request_serializer=IstioCertificateRequest.SerializeToString,
                    response_deserializer=IstioCertificateResponse.FromString,
                )
                metadata = (("clusterid", self._cluster_id),)
                answer: Any = await call(request, timeout=_SECONDS, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise CertificateError(f"{self._address}: {error.code().name}: {error.details()}") from None
        return list(answer.cert_chain)

    def _proof(self) -> grpc.ChannelCredentials:
        try:
            roots = self._root.read_bytes()
        except OSError as error:
            raise CertificateError(f"{self._root}: {error.strerror}") from None
        token = self._token.read_text().strip() if self._token.is_file() else ""
        if token:
            bearer = grpc.access_token_call_credentials(token)
            return grpc.composite_channel_credentials(grpc.ssl_channel_credentials(roots), bearer)
        if (own := self._credentials()) is None:
            raise CertificateError(f"{self._token}: there is no token")
        return grpc.ssl_channel_credentials(roots, own.key, own.chain)
