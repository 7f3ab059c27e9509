"""Envoys without an agent that ask for `default` and `ROOTCA` over ADS: whose they get, and who gets none (SDS-002)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import Node
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from structlog.testing import capture_logs

from pypilot.settings import SettingsError, read_settings
from tests.contract.agent import CDS, SDS, DeltaStream, streaming
from tests.contract.conftest import Plane, serving
from tests.xds.harness import channel, stream

SHOP = "outbound|8080||shop.alpha.svc.cluster.local"
OWN = ("default", "ROOTCA")


def bare(name: str = "web", address: str = "10.1.0.1", namespace: str = "alpha") -> Node:
    """An upstream Envoy, with nothing beside it."""
    made = Node(id=f"sidecar~{address}~{name}.{namespace}~{namespace}.svc.cluster.local")
    made.metadata.update({"NAMESPACE": namespace, "WORKLOAD_SDS": "ads"})
    made.extensions.add(name="envoy.filters.http.router")
    return made


@pytest.fixture
async def allowing(tmp_path: Path) -> AsyncIterator[Plane]:
    """A control plane that makes keys."""
    async with serving(tmp_path, workload_sds="true") as made:
        yield made


async def own(call: DeltaStream) -> tuple[Secret, Secret]:
    """Certificate and roots, as Envoy asks for them."""
    answer = await call.get(SDS, OWN)
    assert set(answer.resources) == set(OWN), answer.removed
    first, second = (Secret.FromString(answer.resources[name].value) for name in OWN)
    return first, second


async def test_the_proved_identity_gets_a_certificate(allowing: Plane) -> None:
    async with streaming(allowing.port, allowing.credentials("web"), bare()) as call:
        clusters = await call.get(CDS)
        assert Cluster.FromString(clusters.resources[SHOP].value).transport_socket_matches[0].name == "tlsMode-istio"
        certificate, roots = await own(call)
        assert roots.validation_context.trusted_ca.inline_bytes == allowing.roots
        pem = certificate.tls_certificate
        leaf, *_ = x509.load_pem_x509_certificates(pem.certificate_chain.inline_bytes)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        assert uris == ["spiffe://cluster.local/ns/alpha/sa/web"]
        assert b"PRIVATE KEY" in pem.private_key.inline_bytes
        assert await call.is_silent()


async def test_each_stream_has_its_own(allowing: Plane) -> None:
    """Nothing of them is in what streams share."""
    keys = set()
    with capture_logs() as logs:
        for _ in range(2):
            async with streaming(allowing.port, allowing.credentials("web"), bare()) as call:
                certificate, _roots = await own(call)
                keys.add(certificate.tls_certificate.private_key.inline_bytes)
    assert len(keys) == 2
    server = allowing.application.server
    assert server.statistics().diffs_made == 0
    assert "PRIVATE" not in repr((logs, server.connections(), allowing.application.engine.statistics()))


async def test_other_roots_are_pushed_over_the_stream(allowing: Plane) -> None:
    async with streaming(allowing.port, allowing.credentials("web"), bare()) as call:
        before, _ = await own(call)
        path = allowing.root / "ca" / "root-cert.pem"
        fresh = path.with_suffix(".new")
        fresh.write_bytes(allowing.roots * 2 + b"\n")
        fresh.rename(path)
        pushed = await call.next(SDS)
        assert set(pushed.resources) == set(OWN)
        after = Secret.FromString(pushed.resources["default"].value)
        assert after.tls_certificate.private_key != before.tls_certificate.private_key
        await call.accept(pushed)


async def test_nobody_gets_any_unless_it_is_allowed(plane: Plane) -> None:
    """It is then configured as what it is: a proxy without certificates."""
    async with streaming(plane.port, plane.credentials("web"), bare()) as call:
        clusters = await call.get(CDS)
        assert not Cluster.FromString(clusters.resources[SHOP].value).transport_socket_matches
        assert set((await call.get(SDS, OWN)).removed) == set(OWN)


async def test_not_over_the_plaintext_port(allowing: Plane) -> None:
    port = allowing.application.server.plaintext_port
    assert port is not None
    async with channel(port) as opened:
        call = stream(opened, delta=True)
        node = bare()
        metadata = {"NAMESPACE": "alpha", "WORKLOAD_SDS": "ads"}
        await call.ask(SDS, OWN, node=node.id, metadata=metadata)
        assert set((await call.next()).removed) == set(OWN)


async def test_not_for_whom_does_not_say_so(allowing: Plane) -> None:
    """One with an agent is not given a key over its stream."""
    node = bare()
    node.metadata.update({"WORKLOAD_SDS": "true"})
    async with streaming(allowing.port, allowing.credentials("web"), node) as call:
        assert set((await call.get(SDS, OWN)).removed) == set(OWN)


async def test_another_workload_s_is_not_to_be_had(allowing: Plane) -> None:
    """Whatever the node says, the certificate is the token's."""
    node = bare("shop", "10.1.0.2")
    async with streaming(allowing.port, allowing.credentials("web"), node) as call:
        certificate, _ = await own(call)
        leaf, *_ = x509.load_pem_x509_certificates(certificate.tls_certificate.certificate_chain.inline_bytes)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [str(name.value) for name in names] == ["spiffe://cluster.local/ns/alpha/sa/web"]


async def test_it_ends_with_the_stream(allowing: Plane) -> None:
    async with streaming(allowing.port, allowing.credentials("web"), bare()) as call:
        await own(call)
    for _ in range(100):
        if not any("OwnCertificates" in repr(task.get_coro()) for task in asyncio.all_tasks()):
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("it goes on being renewed")


def test_it_needs_a_ca() -> None:
    for flags in ({}, {"ca_dir": "ca", "ca_server": "false"}):
        with pytest.raises(SettingsError, match="--workload-sds"):
            read_settings({"workload_sds": True, **flags}, {})
