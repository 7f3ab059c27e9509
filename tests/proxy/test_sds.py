"""Secrets over a unix socket, as Envoy asks for them (BOOT-002, SDS-001, SDS-002)."""

import asyncio
import stat
from datetime import UTC, datetime

import grpc
import pytest

from pypilot.proxy.certificate import Credentials
from pypilot.proxy.sds import SERVICE, SdsServer
from pypilot.wire.pb.sds_pb2 import DiscoveryRequest, DiscoveryResponse, Secret

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Holder:
    """What an SdsServer needs of a WorkloadCertificate."""

    def __init__(self):
        self.credentials = None
        self.changed = []

    def listen(self, changed):
        self.changed.append(changed)

    def put(self, text):
        self.credentials = Credentials(f"chain {text}".encode(), b"key", b"roots", NOW, NOW)
        for changed in self.changed:
            changed()


@pytest.fixture
async def served(tmp_path):
    holder = Holder()
    server = SdsServer(holder)
    (tmp_path / "s").write_text("left behind")
    tmp_path.chmod(0o777)
    await server.start(tmp_path / "s")
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600  # whoever opens it gets the key
    async with grpc.aio.insecure_channel(f"unix:{tmp_path / 's'}") as channel:
        method = channel.stream_stream(
            f"/{SERVICE}/StreamSecrets", DiscoveryRequest.SerializeToString, DiscoveryResponse.FromString
        )
        yield holder, method
    await server.stop()


async def read(stream):
    answer = await asyncio.wait_for(stream.read(), 60)
    return answer, [Secret.FromString(r.value) for r in answer.resources]


async def test_it_waits_for_a_certificate_and_tells_of_the_next(served):
    holder, method = served
    stream = method()
    await stream.write(DiscoveryRequest(resource_names=["default"]))
    holder.put("one")
    first, (secret,) = await read(stream)
    assert secret.name == "default"
    assert secret.tls_certificate.certificate_chain.inline_bytes == b"chain one"
    assert secret.tls_certificate.private_key.inline_bytes == b"key"
    await stream.write(
        DiscoveryRequest(resource_names=["default"], response_nonce=first.nonce, version_info=first.version_info)
    )
    holder.put("two")
    second, (secret,) = await read(stream)
    assert secret.tls_certificate.certificate_chain.inline_bytes == b"chain two"
    assert second.version_info != first.version_info
    assert second.nonce != first.nonce
    stream.cancel()


async def test_roots_and_nothing_of_other_names(served):
    holder, method = served
    holder.put("one")
    stream = method()
    await stream.write(DiscoveryRequest(resource_names=["ROOTCA", "other"]))
    _, (secret,) = await read(stream)
    assert secret.name == "ROOTCA"
    assert secret.validation_context.trusted_ca.inline_bytes == b"roots"
    assert not secret.HasField("tls_certificate")
    stream.cancel()
