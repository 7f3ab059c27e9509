"""The mesh's own mutual TLS, with a workload's certificate as an agent would give it (OUT-008, GW-037)."""

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio

from e2e.outcomes.caller import Caller
from e2e.outcomes.conftest import Start
from e2e.outcomes.objects import NAMESPACE, Json, destination_rule, made, server, service_entry, to, virtual_service
from e2e.outcomes.stage import MUTUAL, Proxy, Stage
from e2e.outcomes.workload_secrets import WorkloadSecrets
from pypilot.cli.demo.bootstrap import NodeIdentity, static_cluster
from tests.xds.certificates import Authority

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session")]

IDENTITY = f"spiffe://cluster.local/ns/{NAMESPACE}/sa/mutual"
NODE = NodeIdentity("router", "127.0.0.3", "mutual", NAMESPACE, MUTUAL)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def mutual(stage: Stage) -> AsyncIterator[Proxy]:
    """A gateway with a workload certificate: it is client and server of mutual TLS at once."""
    with TemporaryDirectory(prefix="pp-") as short:
        socket = Path(short, "sds.sock")
        async with WorkloadSecrets.start(socket, Authority(), IDENTITY):
            agent = static_cluster("sds-grpc", [socket], http2=True)
            yield (proxy := await stage.add_gateway(NODE, "mutual", clusters=[agent], metadata={"WORKLOAD_SDS": True}))
            stage.proxies.remove(proxy)


@pytest.fixture
def inside(mutual: Proxy) -> Caller:
    """Whoever calls through it."""
    return mutual.caller


def strict(stage: Stage, host: str, backend: Json) -> list[Json]:
    """A server that takes only workloads of the mesh, and a service whose endpoint it is."""
    port = stage.port("strict")
    name = f"{NAMESPACE}/strict"
    listens = server(port, "HTTPS", host, tls={"mode": "ISTIO_MUTUAL"})
    here = {"address": "127.0.0.1", "ports": {"http": port}}
    return [
        made("Gateway", "strict", {"selector": MUTUAL, "servers": [listens]}),
        backend,
        service_entry(host, here),
        virtual_service(
            host,
            {"match": [{"gateways": [name]}], "route": [to(f"backend.{host}")]},
            {"route": [to(host)], "retries": {"attempts": 0}},
            gateways=(name, f"{NAMESPACE}/mutual"),
        ),
    ]


async def test_mutual_tls_of_the_mesh(stage: Stage, inside: Caller, app: Start, host: str) -> None:
    backend = service_entry(f"backend.{host}", workload := await app())
    tls = {"mode": "ISTIO_MUTUAL", "sni": host, "subjectAltNames": [IDENTITY]}
    await stage.apply(*strict(stage, host, backend), destination_rule(host, {"tls": tls}))
    assert (await inside.ask(host, logged=False)).status == 200
    assert f"URI={IDENTITY}" in workload.seen[0]["headers"]["x-forwarded-client-cert"]


async def test_a_workload_of_another_identity_is_503_uf(stage: Stage, inside: Caller, app: Start, host: str) -> None:
    backend = service_entry(f"backend.{host}", workload := await app())
    tls = {"mode": "ISTIO_MUTUAL", "sni": host, "subjectAltNames": [f"{IDENTITY}-not"]}
    await stage.apply(*strict(stage, host, backend), destination_rule(host, {"tls": tls}))
    outcome = await inside.ask(host)
    assert outcome.brief == "503 UF"
    assert "CERTIFICATE_VERIFY_FAILED" in outcome.log["upstream_transport_failure_reason"]
    assert workload.requests == 0


async def test_plaintext_to_a_strict_workloadis_503_uc(stage: Stage, inside: Caller, app: Start, host: str) -> None:
    backend = service_entry(f"backend.{host}", workload := await app())
    await stage.apply(*strict(stage, host, backend), destination_rule(host, {"tls": {"mode": "DISABLE"}}))
    outcome = await inside.ask(host)
    assert outcome.brief == "503 UC"
    assert outcome.body.startswith(
        b"upstream connect error or disconnect/reset before headers. reset reason: connection"
    )
    assert workload.requests == 0
