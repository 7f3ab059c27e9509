"""The pages over HTTP, on a real engine and a real xDS server with small generators."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2

from pypilot import __version__
from pypilot.admin.debug import PAGES, debug_app
from pypilot.admin.facts import Facts
from pypilot.admin.metrics import Metrics, monitoring_app
from pypilot.engine.loop import Engine
from pypilot.kinds.base import Origin, Ref
from pypilot.sources.yaml_documents import read_document
from pypilot.wire import types
from pypilot.wire.node import Proxy
from pypilot.wire.resource import ResourceSet
from pypilot.world.delta import Delta, Problem
from pypilot.world.reader import Reader
from pypilot.xds.server import XdsServer
from tests.app.ads import NODE_ID, AdsClient
from tests.sources.texts import route, service
from tests.wire.test_references import ADS, offer, packed
from tests.world.objects import endpoint_slice, pod

PRIVATE_KEY = "-----BEGIN PRIVATE KEY----- not for anybody"
PROBLEM = Problem(
    "too big", "error", "invalid", Ref("VirtualService", "web", "shop"), "spec.http[0].timeout", Origin("a.yaml", 7)
)
WARNINGS = [
    Problem("nobody", "warning", "unknown-host", Ref("VirtualService", "web", "shop"), "spec.hosts[0]"),
    Problem("what?", "warning", "unknown-field", Ref("VirtualService", "web", "cart"), "spec.nonsense"),
]


def clusters(reader: Reader, proxy: Proxy) -> ResourceSet:
    return offer(types.CLUSTER, *(cluster_pb2.Cluster(name=k.hostname) for k in reader.public_services()))


def listeners(reader: Reader, proxy: Proxy) -> ResourceSet:
    context = tls_pb2.CommonTlsContext(
        tls_certificate_sds_secret_configs=[secret_pb2.SdsSecretConfig(name="credential", sds_config=ADS)]
    )
    listener = listener_pb2.Listener(name="l", filter_chains=[{}])
    listener.filter_chains[0].transport_socket.typed_config.CopyFrom(
        packed(tls_pb2.DownstreamTlsContext(common_tls_context=context))
    )
    return offer(types.LISTENER, listener)


def secrets(reader: Reader, proxy: Proxy) -> ResourceSet:
    message = secret_pb2.Secret(name="credential")
    message.tls_certificate.private_key.inline_string = PRIVATE_KEY
    return offer(types.SECRET, message)


GENERATORS = {types.CLUSTER: clusters, types.LISTENER: listeners, types.SECRET: secrets}


class Pages:
    """Both ports of a small control plane."""

    def __init__(self, http: aiohttp.ClientSession, monitoring: aiohttp.ClientSession, xds_port: int) -> None:
        self.http, self.monitoring, self.xds_port = http, monitoring, xds_port
        self.is_ready = False

    async def json(self, path: str, status: int = 200) -> object:
        async with self.http.get(path) as response:
            assert response.status == status
            return await response.json()

    async def text(self, path: str, status: int = 200) -> str:
        async with self.http.get(path) as response:
            assert response.status == status
            return await response.text()

    async def metrics(self) -> dict[str, float]:
        async with self.monitoring.get("/metrics") as response:
            assert response.status == 200
            lines = [line for line in (await response.text()).splitlines() if not line.startswith("#")]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


@asynccontextmanager
async def site(app: web.Application) -> AsyncIterator[aiohttp.ClientSession]:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
            yield session
    finally:
        await runner.cleanup()


@pytest.fixture
async def pages() -> AsyncIterator[Pages]:
    engine = Engine(GENERATORS)
    texts = (service("first"), service("second"), route("shop"))
    objects = [item.object for text in texts for item in read_document(text).items]
    slices = endpoint_slice("first", {"first-1": "10.1.0.1"}), pod("first-1", "10.1.0.1")
    engine.apply(Delta((*slices, *(o for o in objects if o is not None))), "files", [PROBLEM, *WARNINGS])
    engine.publish()
    metrics = Metrics()
    server = XdsServer(engine, metrics=metrics)
    await server.start("127.0.0.1:0")
    assert server.plaintext_port is not None

    async def problems() -> tuple[Problem, ...]:
        return engine.problems()

    facts = Facts(engine, server.connections, lambda: made.is_ready, problems)
    metrics.facts = facts
    async with site(debug_app(facts)) as http, site(monitoring_app(facts, metrics)) as monitoring:
        made = Pages(http, monitoring, server.plaintext_port)
        yield made
    await server.stop(0.1)


async def test_ready_follows_the_process(pages: Pages) -> None:
    assert await pages.text("/ready", 503) == "not ready\n"
    pages.is_ready = True
    assert await pages.text("/ready") == "ready\n"
    async with pages.monitoring.get("/ready") as response:
        assert response.status == 200


async def test_the_index_names_every_page_and_every_page_answers(pages: Pages) -> None:
    pages.is_ready = True
    index = await pages.text("/debug")
    async with AdsClient(pages.xds_port) as client:
        await client.get(types.CLUSTER)
        for path in PAGES:
            assert path in index
            async with pages.http.get(path.replace("NAME.NAMESPACE", "gate.web")) as response:
                assert response.status == 200, path


async def test_problems_are_listed_with_their_place(pages: Pages) -> None:
    listed = await pages.json("/debug/problems")
    assert isinstance(listed, list)
    assert len(listed) == 3
    assert listed[:1] == [
        {
            "severity": "error",
            "code": "invalid",
            "number": "PP0401",
            "file": "a.yaml",
            "line": 7,
            "kind": "VirtualService",
            "namespace": "web",
            "name": "shop",
            "field": "spec.http[0].timeout",
            "message": "too big",
        }
    ]


async def test_warnings_are_listed_with_what_their_codes_mean(pages: Pages) -> None:
    page = await pages.json("/debug/warnings")
    assert isinstance(page, dict)
    assert [(w["name"], w["field"], w["code"]) for w in page["warnings"]] == [
        ("shop", "spec.hosts[0]", "unknown-host"),
        ("cart", "spec.nonsense", "unknown-field"),
    ]
    assert page["codes"].keys() == {"unknown-host", "unknown-field"}
    assert page["codes"]["unknown-host"]["number"] == "PP0201"
    assert page["codes"]["unknown-host"]["istio"] == ["IST0101 ReferencedResourceNotFound"]


async def test_warnings_can_be_chosen(pages: Pages) -> None:
    page = await pages.json("/debug/warnings?kind=VirtualService&name=cart")
    assert isinstance(page, dict)
    assert [w["code"] for w in page["warnings"]] == ["unknown-field"]
    assert page["codes"].keys() == {"unknown-field"}
    nothing = await pages.json("/debug/warnings?code=unknown-host&name=cart")
    assert nothing == {"warnings": [], "codes": {}}


async def test_counts(pages: Pages) -> None:
    assert await pages.json("/debug/kinds") == {
        "objects": {"EndpointSlice": 1, "Pod": 1, "Service": 2, "VirtualService": 1}
    }
    async with AdsClient(pages.xds_port) as one, AdsClient(pages.xds_port, NODE_ID.replace("0.5", "0.6")) as two:
        await one.get(types.CLUSTER)
        await two.get(types.CLUSTER)
        counts = await pages.json("/debug/views")
        assert isinstance(counts, dict)
        assert (counts["proxies"], counts["views"]) == (2, 1)


async def test_sync_state_of_an_accepted_and_a_rejected_response(pages: Pages) -> None:
    async with AdsClient(pages.xds_port) as client:
        accepted = await client.get(types.CLUSTER)
        await client.ask(types.LISTENER)
        rejected = await client.read()
        assert rejected is not None
        await client.answer(rejected, error="no such extension")
        while True:
            (entry,) = await pages.json("/debug/syncz")  # type: ignore[misc]
            if entry.get("listener_status") == "STALE" and entry.get("cluster_status") == "SYNCED":
                break
        assert entry["proxy"] == "gate.web"
        assert entry["cluster_acked"] == entry["cluster_sent"] == accepted.nonce
        assert entry["listener_sent"] == rejected.nonce
        assert entry["listener_acked"] == ""
        (connection,) = await pages.json("/debug/connections")  # type: ignore[misc]
        assert connection["types"]["LDS"]["error"] == "no such extension"
        assert connection["node"] == NODE_ID
        metrics = await pages.metrics()
        assert metrics["pilot_xds_lds_reject"] == 1
        assert metrics['pilot_total_xds_rejects{type="lds"}'] == 1
        assert metrics['pilot_xds_pushes{type="cds"}'] == 1


@pytest.mark.parametrize("proxy_id", ["gate.web", NODE_ID, "router~10.0.0.5", f"{NODE_ID}-1"])
async def test_the_config_dump_of_a_connected_proxy(pages: Pages, proxy_id: str) -> None:
    async with AdsClient(pages.xds_port) as client:
        await client.get(types.CLUSTER)
        text = await pages.text(f"/debug/config_dump?proxyID={proxy_id}")
    assert "first.default.svc.cluster.local" in text
    assert "ListenersConfigDump" in text
    assert '"name": "credential"' in text
    assert "sha256:" in text
    assert "not for anybody" not in text


async def test_the_config_dump_of_an_unknown_proxy_names_the_known_ones(pages: Pages) -> None:
    async with AdsClient(pages.xds_port) as client, AdsClient(pages.xds_port, NODE_ID.replace("gate", "hall")) as other:
        await client.get(types.CLUSTER)
        await other.get(types.CLUSTER)
        for path, status in (("?proxyID=nobody.web", 404), ("", 400), ("?proxyID=router~", 400)):
            answer = await pages.json(f"/debug/config_dump{path}", status)
            assert isinstance(answer, dict)
            assert answer["known"] == sorted([NODE_ID, NODE_ID.replace("gate", "hall")])


async def test_metrics_have_istiods_names(pages: Pages) -> None:
    async with AdsClient(pages.xds_port, metadata={"ISTIO_VERSION": "1.32.0", "NAMESPACE": "web"}) as client:
        await client.get(types.CLUSTER)
        metrics = await pages.metrics()
    assert metrics["pilot_services"] == 2
    assert metrics["pilot_eds_no_instances"] == 1  # EDS-006
    assert metrics["pilot_virt_services"] == 1
    assert metrics["pilot_destrule_subsets"] == 0
    assert metrics['pilot_xds{version="1.32.0"}'] == 1
    assert metrics[f'pilot_info{{version="{__version__}"}}'] == 1
    assert metrics['pilot_xds_config_size_bytes_count{type="cds"}'] == 1
    assert metrics["pilot_sds_certificate_errors_total"] == 0
    assert metrics['pypilot_problems{kind="VirtualService",severity="error"}'] == 1
    assert metrics["pypilot_views"] == 1
    assert "process_resident_memory_bytes" in metrics


async def test_secrets_that_cannot_be_used_are_counted() -> None:
    """KSVC-041."""
    metrics = Metrics()
    metrics.reported([PROBLEM, Problem("mismatch", code="credential", ref=Ref("Secret", "web", "credential"))])
    found = {s.name: s.value for m in metrics.collect() for s in m.samples}
    assert found["pilot_sds_certificate_errors_total"] == 1


async def test_version(pages: Pages) -> None:
    async with pages.monitoring.get("/version") as response:
        assert await response.json() == {"name": "pypilot", "version": __version__}
