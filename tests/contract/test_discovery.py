"""Istio's agent on ADS: the order of its requests, its own types, reconnection, rejection, and who is refused."""

import grpc
import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import UpstreamTlsContext
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from google.protobuf.message_factory import GetMessageClass

from pypilot.wire.istio_messages import find_istio_message
from tests.contract.agent import (
    CDS,
    ECDS,
    EDS,
    HEALTH,
    LDS,
    NDS,
    PCDS,
    RDS,
    SDS,
    SOTW,
    node,
    streaming,
)
from tests.contract.conftest import PAIR, WORLD, Plane, workload

SHOP = "outbound|8080||shop.alpha.svc.cluster.local"
WEB = node("web", "10.1.0.1")


async def test_the_start_of_a_sidecar(plane: Plane) -> None:
    async with streaming(plane.port, plane.credentials("web"), WEB) as stream:
        await stream.send(CDS)
        clusters = await stream.next(CDS)
        assert {"BlackHoleCluster", "PassthroughCluster", "InboundPassthroughCluster", SHOP} <= set(clusters.resources)
        await stream.send(EDS, [SHOP])
        await stream.accept(clusters)
        endpoints = await stream.next(EDS)
        assert list(endpoints.resources) == [SHOP]
        await stream.send(LDS)
        await stream.send(NDS)
        await stream.send(HEALTH)
        await stream.accept(endpoints)
        listeners = await stream.next(LDS)
        assert {"virtualInbound", "virtualOutbound"} <= set(listeners.resources)
        names = await stream.next(NDS)
        await stream.accept(names)
        await stream.send(RDS, ["8080"])
        await stream.accept(listeners)
        assert list((await stream.next(RDS)).resources) == ["8080"]
        bundle = await stream.get(PCDS)
        assert len(bundle.resources) == 1, "the agent takes the first of one"
        assert await stream.is_silent(), "its word on health is not answered"
    (table,) = names.resources.values()
    found = find_istio_message("istio.networking.nds.v1.NameTable")
    assert found is not None
    read = GetMessageClass(found).FromString(table.value)
    assert list(read.table["shop.alpha.svc.cluster.local"].ips) == ["10.96.0.2"]


async def test_its_certificates_come_from_the_agent(plane: Plane) -> None:
    """Also beside an upstream Envoy, which lists what it has, if the agent is told to say so (ISTIO_META_…)."""
    upstream = node("web", "10.1.0.1")
    upstream.metadata.update({"WORKLOAD_SDS": "true"})
    upstream.extensions.add(name="envoy.filters.http.router")
    for who in (WEB, upstream):
        async with streaming(plane.port, plane.credentials("web"), who) as stream:
            cluster = Cluster.FromString((await stream.get(CDS)).resources[SHOP].value)
            matches = {m.name: m.transport_socket.typed_config.value for m in cluster.transport_socket_matches}
            context = UpstreamTlsContext.FromString(matches["tlsMode-istio"])
            (own,) = context.common_tls_context.tls_certificate_sds_secret_configs
            (service,) = own.sds_config.api_config_source.grpc_services
            assert (own.name, service.envoy_grpc.cluster_name) == ("default", "sds-grpc")
            listener = Listener.FromString((await stream.get(LDS)).resources["virtualInbound"].value)
            assert any(chain.transport_socket.name for chain in listener.filter_chains)


async def test_a_stream_after_another_gets_what_differs(plane: Plane) -> None:
    """Its Envoy says what it holds, the agent says nothing of its own types; endpoints come again (XDS-009)."""
    async with streaming(plane.port, plane.credentials("web"), WEB) as stream:
        await stream.get(CDS)
        await stream.get(EDS, [SHOP])
        await stream.get(LDS)
        held = stream.held
    fresh = await _changed(plane)
    async with streaming(plane.port, plane.credentials("web"), WEB) as stream:
        stream.held = {kind: dict(names) for kind, names in held.items()}
        clusters = await stream.get(CDS, initial_resource_versions=held[CDS])
        assert set(clusters.resources) == {fresh}
        assert not clusters.removed
        assert set((await stream.get(EDS, [SHOP, fresh], initial_resource_versions=held[EDS])).resources) == {
            SHOP,
            fresh,
        }
        await stream.send(LDS, initial_resource_versions=held[LDS])
        table = await stream.get(NDS)
        assert b"fresh.alpha" in next(iter(table.resources.values())).value
        held = stream.held
    async with streaming(plane.port, plane.credentials("web"), WEB) as stream:
        answer = await stream.get(CDS, initial_resource_versions=held[CDS])
        assert (answer.resources, answer.removed) == ({}, ()), "it holds every cluster already"


async def _changed(plane: Plane) -> str:
    """Add a service; the name of its cluster, once it is served."""
    fresh = "outbound|8080||fresh.alpha.svc.cluster.local"
    async with streaming(plane.port, plane.credentials("shop"), node("shop", "10.1.0.2")) as watching:
        await watching.get(CDS)
        plane.write(*WORLD, *workload("fresh", "10.1.0.9"))
        while fresh not in (answer := await watching.next(CDS)).resources:
            await watching.accept(answer)
    return fresh


async def test_what_is_gone_is_said_after_a_pause(plane: Plane) -> None:
    async with streaming(plane.port, plane.credentials("web"), WEB) as stream:
        await stream.send(CDS, initial_resource_versions={"outbound|80||was.alpha.svc.cluster.local": "7"})
        answer = await stream.next(CDS)
        assert SHOP in answer.resources
        assert answer.removed == ("outbound|80||was.alpha.svc.cluster.local",)


async def test_a_rejection_is_not_answered_with_the_same_again(plane: Plane) -> None:
    """NACK: type, nonce and reason, no names. Other types go on, and the next change is offered."""
    async with streaming(plane.port, plane.credentials("web"), WEB) as stream:
        await stream.send(CDS)
        await stream.reject(await stream.next(CDS), "no such extension")
        assert await stream.is_silent()
        assert (await stream.get(LDS)).resources
        (status,) = plane.application.server.connections()
        assert {t.type_url: t.error for t in status.types}[CDS] == "no such extension"
        fresh = await _changed(plane)
        answer = await stream.next(CDS)
        assert fresh in answer.resources
        await stream.accept(answer)


async def test_a_rejected_name_table(plane: Plane) -> None:
    """What the agent handles itself it answers in the same forms."""
    async with streaming(plane.port, plane.credentials("web"), WEB) as stream:
        await stream.send(NDS)
        await stream.reject(await stream.next(NDS), "unmarshal")
        assert await stream.is_silent()


async def test_extensions_by_name(plane: Plane) -> None:
    """ECDS: what it asks for is forwarded to Envoy; what there is not is said."""
    async with streaming(plane.port, plane.credentials("web"), WEB) as stream:
        answer = await stream.get(ECDS, ["own-lua"])
        assert list(answer.resources) == ["own-lua"]
        assert (await stream.get(ECDS, ["other"])).removed == ("other",)


async def test_credentials_of_a_gateway_over_its_stream(plane: Plane) -> None:
    """SDS-001: only what its own configuration refers to."""
    gate = node("gate", "10.1.0.3", "router")
    async with streaming(plane.port, plane.credentials("gate"), gate) as stream:
        answer = await stream.get(SDS, ["kubernetes://gate-cert"])
        secret = Secret.FromString(answer.resources["kubernetes://gate-cert"].value)
        assert secret.tls_certificate.private_key.inline_bytes == PAIR.key


@pytest.mark.parametrize("name", ["kubernetes://gate-cert", "default", "ROOTCA", "kubernetes://none"])
async def test_names_that_are_not_for_a_sidecar(plane: Plane, name: str) -> None:
    """Neither another's credential nor, unless the operator allows it, a certificate of its own over ADS."""
    async with streaming(plane.port, plane.credentials("web"), WEB) as stream:
        answer = await stream.get(SDS, [name])
        assert (answer.resources, answer.removed) == ({}, (name,))


@pytest.mark.parametrize("kind", ["istio.io/debug/syncz", "istio.io/connections", "no.such.type"])
async def test_types_that_are_not_served(plane: Plane, kind: str) -> None:
    """Asked for everything, nothing is said; asked by name, that there is none. The stream lives on."""
    async with streaming(plane.port, plane.credentials("web"), WEB) as stream:
        await stream.send(kind)
        assert await stream.is_silent()
        answer = await stream.get(kind, ["something"])
        assert (answer.resources, answer.removed) == ({}, ("something",))
        assert (await stream.get(CDS)).resources


async def test_a_word_on_health_is_no_subscription(plane: Plane) -> None:
    """WE-007: ill and well; nothing is answered, and no type is watched."""
    async with streaming(plane.port, plane.credentials("web"), WEB) as stream:
        await stream.get(CDS)
        await stream.send(HEALTH, error_detail={"code": 13, "message": "connection refused"})
        await stream.send(HEALTH)
        assert await stream.is_silent()
        (status,) = plane.application.server.connections()
        assert HEALTH not in {t.type_url for t in status.types}


@pytest.mark.parametrize(
    ("account", "claims", "code"),
    [
        ("shop", {}, grpc.StatusCode.PERMISSION_DENIED),
        ("web", {"namespace": "beta"}, grpc.StatusCode.PERMISSION_DENIED),
        ("web", {"audience": "other"}, grpc.StatusCode.UNAUTHENTICATED),
        ("web", {"seconds": -60}, grpc.StatusCode.UNAUTHENTICATED),
    ],
)
async def test_who_may_not_be_this_proxy(
    plane: Plane, account: str, claims: dict[str, object], code: grpc.StatusCode
) -> None:
    """XAUTH-003."""
    async with streaming(plane.port, plane.credentials(account, **claims), WEB) as stream:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stream.get(CDS)
        assert refused.value.code() == code


async def test_the_other_variant(plane: Plane) -> None:
    """`ISTIO_DELTA_XDS=false`: the agent accepts its own types with version and nonce, and names nothing."""
    credentials = plane.credentials("web")
    async with credentials.channel(plane.port) as channel:
        call = channel.stream_stream(
            SOTW,
            request_serializer=DiscoveryRequest.SerializeToString,
            response_deserializer=DiscoveryResponse.FromString,
        )(metadata=credentials.metadata)
        await call.write(DiscoveryRequest(node=WEB, type_url=CDS))
        assert len((await call.read()).resources) >= 4
        await call.write(DiscoveryRequest(type_url=NDS))
        names = await call.read()
        await call.write(DiscoveryRequest(type_url=HEALTH))
        await call.write(DiscoveryRequest(type_url=NDS, version_info=names.version_info, response_nonce=names.nonce))
        await call.write(DiscoveryRequest(type_url=EDS, resource_names=[SHOP]))
        answer = await call.read()
        assert (names.type_url, answer.type_url) == (NDS, EDS), "an accepted table is not sent again"
