"""IstioCertificateService over real TLS (CA-001, CA-002, CA-007): who may ask, and what becomes of refusals."""

from contextlib import asynccontextmanager

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from pypilot.wire.pb.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from pypilot.xds.certificates import SERVICE, RefusedError
from pypilot.xds.server import XdsServer
from pypilot.xds.tls import TlsMaterial
from tests.xds.certificates import Authority
from tests.xds.harness import HandCatalog

WEB = "spiffe://cluster.local/ns/shop/sa/web"
METHOD = f"/{SERVICE}/CreateCertificate"


@pytest.fixture(scope="module")
def authority():
    return Authority()


class Source:
    def __init__(self, authority):
        pair = authority.issue(dns="localhost")
        self._material = TlsMaterial(pair.key, pair.certificate, authority.certificate)

    def stamp(self):
        return 1

    def read(self):
        return self._material


@asynccontextmanager
async def serving(authority, issue):
    server = XdsServer(HandCatalog(), issue=issue)
    await server.start("127.0.0.1:0", secure="127.0.0.1:0", tls=Source(authority))
    try:
        yield server
    finally:
        await server.stop(0)


async def ask(port, request, credentials=None):
    options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
    target = f"127.0.0.1:{port}"
    opened = (
        grpc.aio.secure_channel(target, credentials, options)
        if credentials
        else grpc.aio.insecure_channel(target, options)
    )
    async with opened as channel:
        call = channel.unary_unary(
            METHOD,
            request_serializer=IstioCertificateRequest.SerializeToString,
            response_deserializer=IstioCertificateResponse.FromString,
        )
        return await call(request, timeout=60)


async def test_a_proved_caller_is_told_to_the_issuer_with_its_whole_request(authority):
    asked = []

    async def issue(caller, csr, seconds, metadata):
        asked.append((str(caller), csr, seconds, dict(metadata)))
        return ("leaf", "root")

    metadata = Struct()
    metadata.update({"ImpersonatedIdentity": "spiffe://x"})
    request = IstioCertificateRequest(csr="CSR", validity_duration=3600, metadata=metadata)
    pair = authority.issue(WEB)
    credentials = grpc.ssl_channel_credentials(authority.certificate, pair.key, pair.certificate)
    async with serving(authority, issue) as server:
        answer = await ask(server.secure_port, request, credentials)
    assert list(answer.cert_chain) == ["leaf", "root"]
    assert asked == [(WEB, "CSR", 3600, {"ImpersonatedIdentity": "spiffe://x"})]


async def test_strangers_get_nothing(authority):
    async def issue(*_):
        raise AssertionError("asked")

    async with serving(authority, issue) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(
                server.secure_port, IstioCertificateRequest(), grpc.ssl_channel_credentials(authority.certificate)
            )
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(server.plaintext_port, IstioCertificateRequest())
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED  # not on the plaintext port


async def test_refusals_keep_their_code_and_text(authority):
    async def issue(*_):
        raise RefusedError("INVALID_ARGUMENT", "this is no certificate request in PEM")

    pair = authority.issue(WEB)
    credentials = grpc.ssl_channel_credentials(authority.certificate, pair.key, pair.certificate)
    async with serving(authority, issue) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(server.secure_port, IstioCertificateRequest(csr="x"), credentials)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "this is no certificate request in PEM"


async def test_where_the_ca_is_left_out_nobody_is_asked(authority):
    """CA-008: `--ca-server false`."""
    pair = authority.issue(WEB)
    credentials = grpc.ssl_channel_credentials(authority.certificate, pair.key, pair.certificate)
    async with serving(authority, None) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(server.secure_port, IstioCertificateRequest(csr="x"), credentials)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
