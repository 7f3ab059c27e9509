"""IstioCertificateService on the TLS port: certificates for those who proved who they are (CA-001).

Carries requests; what is granted is the issuer's business.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal

import grpc
import structlog
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from pypilot.wire.pb.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from pypilot.xds.auth import DeniedError, Identity

SERVICE: Final = "istio.v1.auth.IstioCertificateService"


class RefusedError(Exception):
    """No certificate; the text is told to the caller."""

    def __init__(
        self, code: Literal["INVALID_ARGUMENT", "PERMISSION_DENIED", "UNAVAILABLE", "INTERNAL"], reason: str
    ) -> None:
        super().__init__(reason)
        self.code = code


Issue = Callable[[Identity, str, int, Mapping[str, object]], Awaitable[tuple[str, ...]]]
"""(caller, PKCS #10 in PEM, seconds, metadata) -> chain in PEM, the certificate first. Raises RefusedError."""


def _read(raw: bytes) -> IstioCertificateRequest:
    """Here rather than by gRPC, which calls what is no message a failure of ours."""
    try:
        return IstioCertificateRequest.FromString(raw)
    except DecodeError:
        raise RefusedError("INVALID_ARGUMENT", "the request is not a valid message") from None


def _metadata(request: IstioCertificateRequest) -> Mapping[str, object]:
    try:
        return MessageToDict(request.metadata)
    except ValueError:
        raise RefusedError("INVALID_ARGUMENT", "the metadata holds a number that JSON has not") from None


def certificate_handler(
    issue: Issue, who: Callable[[Any], Awaitable[Identity]], address: Callable[[Any], str]
) -> grpc.GenericRpcHandler:
    """The handler for a gRPC server; `who` proves the caller of a call, or raises DeniedError. `address` is its own."""
    log = structlog.get_logger()

    async def create(raw: bytes, context: Any) -> IstioCertificateResponse:
        try:
            caller = await who(context)
            request = _read(raw)
            chain = await issue(caller, request.csr, request.validity_duration, _metadata(request))
            return IstioCertificateResponse(cert_chain=chain)
        except (DeniedError, RefusedError) as error:
            log.warning("ca.denied", peer=address(context), reason=str(error))
            await context.abort(grpc.StatusCode[error.code], str(error))
            raise

    method = grpc.unary_unary_rpc_method_handler(create, response_serializer=IstioCertificateResponse.SerializeToString)
    return grpc.method_handlers_generic_handler(SERVICE, {"CreateCertificate": method})
