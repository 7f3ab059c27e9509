"""A sidecar whose traffic iptables captures: known and unknown destinations, both ways (OUT-001…003, OUT-011)."""

import asyncio

import aiohttp
import pytest

from e2e.outcomes.caller import SECONDS
from e2e.outcomes.conftest import Start
from e2e.outcomes.objects import Json, destination_rule, mesh, service_entry, to, virtual_service
from e2e.outcomes.pod import BANK, DATABASE, PARTNER, POD, VIRTUAL, Pod
from e2e.outcomes.servers import GREETING, App, TcpServer, echo, greet
from e2e.outcomes.stage import Stage
from e2e.outcomes.test_tls import AUTHORITY

pytestmark = [pytest.mark.envoy, pytest.mark.netns, pytest.mark.asyncio(loop_scope="session")]

MESH = ("mesh",)


def policy(mode: str) -> Json:
    return mesh(outboundTrafficPolicy={"mode": mode})


async def partner(app: Start, pod: Pod, port: int = 80, **more: object) -> App:
    """An HTTP server of the world."""
    return await app("partner", str(port), listen=pod.world.listen, where=(PARTNER, port), **more)


async def test_registry_only_answers_502_block_all(stage: Stage, pod: Pod, app: Start, host: str) -> None:
    server = await partner(app, pod)
    await stage.apply(policy("REGISTRY_ONLY"))
    outcome = await pod.caller.ask(host)
    assert (outcome.brief, outcome.details, outcome.log["route_name"]) == ("502 -", "direct_response", "block_all")
    assert server.requests == 0


async def test_registry_only_closes_tcp_with_uh_at_the_black_hole(stage: Stage, pod: Pod) -> None:
    await stage.apply(policy("REGISTRY_ONLY"))
    since = pod.caller.access_log.mark()
    async with asyncio.timeout(SECONDS):
        reader, writer = await pod.connect(DATABASE, 9999)
        assert await reader.read() == b""
        writer.close()
    entry = await pod.caller.logged_to(9999, since)
    assert (entry["upstream_cluster"], entry["response_flags"]) == ("BlackHoleCluster", "UH")


async def test_allow_any_passes_http(stage: Stage, pod: Pod, app: Start, host: str) -> None:
    server = await partner(app, pod)
    await stage.apply(policy("ALLOW_ANY"))
    outcome = await pod.caller.ask(host)
    assert (outcome.brief, outcome.cluster) == ("200 -", "PassthroughCluster")
    assert outcome.log["route_name"] == "allow_any"
    assert server.seen[0]["headers"]["host"] == host


async def test_allow_any_passes_tcp_also_where_the_server_speaks_first(stage: Stage, pod: Pod) -> None:
    await stage.apply(policy("ALLOW_ANY"))
    since = pod.caller.access_log.mark()
    async with TcpServer.start(greet, pod.world.listen(DATABASE, 9999)), asyncio.timeout(SECONDS):
        reader, writer = await pod.connect(DATABASE, 9999)
        assert await reader.readexactly(len(GREETING)) == GREETING
        writer.close()
        entry = await pod.caller.logged_to(9999, since)
    assert (entry["upstream_cluster"], entry["response_flags"]) == ("PassthroughCluster", "-")


@pytest.mark.parametrize(("mode", "without"), [("ALLOW_ANY", "PassthroughCluster"), ("REGISTRY_ONLY", "502")])
async def test_a_service_entry_comes_and_goes_without_a_restart(
    stage: Stage, pod: Pod, app: Start, mode: str, without: str
) -> None:
    """SE-024."""
    host = f"comes-and-goes-{mode[:5].lower()}.example"
    server = await partner(app, pod)
    for _ in range(2):
        await stage.apply(policy(mode), service_entry(host, server))
        outcome = await pod.caller.ask(host)
        assert (outcome.brief, outcome.cluster) == ("200 -", f"outbound|80||{host}")
        await stage.apply(policy(mode))
        outcome = await pod.caller.ask(host)
        assert without in (outcome.cluster, str(outcome.status))


async def test_a_wildcard_of_resolution_none_goes_where_the_client_went(
    stage: Stage, pod: Pod, app: Start, host: str
) -> None:
    await partner(app, pod)
    await stage.apply(policy("REGISTRY_ONLY"), service_entry(f"*.{host}", resolution="NONE"))
    outcome = await pod.caller.ask(f"any.{host}")
    assert (outcome.by, outcome.cluster) == ("partner 80", f"outbound|80||*.{host}")
    assert (await pod.caller.ask(host)).status == 502


async def test_a_server_that_speaks_first_is_heard_through_a_sidecar(stage: Stage, pod: Pod, host: str) -> None:
    async with TcpServer.start(greet, pod.world.listen(DATABASE, 3306)) as database, asyncio.timeout(SECONDS):
        entry = service_entry(host, database, port=3306, protocol="MYSQL", addresses=[DATABASE])
        await stage.apply(policy("REGISTRY_ONLY"), entry)
        since = pod.caller.access_log.mark()
        reader, writer = await pod.connect(DATABASE, 3306)
        assert await reader.readexactly(len(GREETING)) == GREETING
        writer.write(b"COM_QUERY")
        assert await reader.readexactly(9) == b"COM_QUERY"
        writer.close()
        logged = await pod.caller.logged_to(3306, since)
    assert (logged["upstream_cluster"], logged["response_flags"]) == (f"outbound|3306||{host}", "-")


async def test_two_tcp_services_on_a_port_are_told_apart_by_address(stage: Stage, pod: Pod, host: str) -> None:
    async with (
        TcpServer.start(greet, pod.world.listen(DATABASE, 5432)) as one,
        TcpServer.start(greet, pod.world.listen(BANK, 5432)) as other,
        asyncio.timeout(SECONDS),
    ):
        await stage.apply(
            policy("REGISTRY_ONLY"),
            service_entry(f"one.{host}", one, port=5432, protocol="TCP", addresses=[DATABASE]),
            service_entry(f"other.{host}", other, port=5432, protocol="TCP", addresses=[BANK]),
        )
        for address, name in ((DATABASE, "one"), (BANK, "other")):
            since = pod.caller.access_log.mark()
            reader, writer = await pod.connect(address, 5432)
            assert await reader.readexactly(len(GREETING)) == GREETING
            writer.close()
            entry = await pod.caller.logged_to(5432, since)
            assert entry["upstream_cluster"] == f"outbound|5432||{name}.{host}"


async def test_a_port_without_a_protocol_is_sniffed(stage: Stage, pod: Pod, app: Start, host: str) -> None:
    server = await partner(app, pod, 9000)
    entry = service_entry(host, server, port=9000, protocol="", addresses=[PARTNER])
    await stage.apply(policy("REGISTRY_ONLY"), entry)
    outcome = await pod.caller.ask(host, "/sniffed", address=(PARTNER, 9000))
    assert (outcome.brief, outcome.log["path"], outcome.cluster) == ("200 -", "/sniffed", f"outbound|9000||{host}")
    await server.stop()
    async with TcpServer.start(echo, pod.world.listen(PARTNER, 9000)), asyncio.timeout(SECONDS):
        since = pod.caller.access_log.mark()
        reader, writer = await pod.connect(PARTNER, 9000)
        writer.write(b"\x00binary")
        assert await reader.readexactly(7) == b"\x00binary"
        writer.close()
        entry = await pod.caller.logged_to(9000, since)
    assert (entry["method"], entry["upstream_cluster"]) == (None, f"outbound|9000||{host}")


async def test_tls_to_an_http_port_is_reset(stage: Stage, pod: Pod, app: Start, host: str) -> None:
    """KSVC-011: TLS to a port that is declared as HTTP is reset."""
    server = await partner(app, pod, 9000)
    await stage.apply(policy("REGISTRY_ONLY"), service_entry(host, server, port=9000, addresses=[PARTNER]))
    since = pod.caller.access_log.mark()
    with pytest.raises(aiohttp.ClientError):
        await pod.caller.ask(host, address=(PARTNER, 9000), tls=AUTHORITY.client_context(), logged=False)
    entry = await pod.caller.logged_to(9000, since)
    assert (entry["upstream_cluster"], entry["response_flags"]) == ("BlackHoleCluster", "UH")
    assert server.requests == 0


async def test_what_is_no_http_is_400_at_an_http_port(stage: Stage, pod: Pod, app: Start) -> None:
    """KSVC-011: the server's own sidecar answers."""
    server = await app("client", listen=pod.inside.listen, where=("0.0.0.0", 8080))
    await stage.apply()
    async with asyncio.timeout(SECONDS):
        made = await asyncio.to_thread(pod.world.connect, POD, 8080, SECONDS)
        reader, writer = await asyncio.open_connection(sock=made)
        writer.write(b"\x00\x01binary\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
    assert server.requests == 0


async def test_http_passes_a_tcp_port_without_routes(stage: Stage, pod: Pod, app: Start, host: str) -> None:
    """KSVC-011: HTTP on a port that is declared as TCP works, but rules for HTTP do not hold."""
    server = await partner(app, pod, 9000)
    entry = service_entry(host, server, port=9000, protocol="TCP", addresses=[PARTNER])
    refuse = virtual_service(host, {"directResponse": {"status": 403}}, gateways=MESH)
    await stage.apply(policy("REGISTRY_ONLY"), entry, refuse)
    since = pod.caller.access_log.mark()
    outcome = await pod.caller.ask(host, address=(PARTNER, 9000), logged=False)
    assert (outcome.status, server.requests) == (200, 1)
    logged = await pod.caller.logged_to(9000, since)
    assert (logged["method"], logged["upstream_cluster"]) == (None, f"outbound|9000||{host}")


async def test_https_is_recognised_by_server_name(stage: Stage, pod: Pod, app: Start, host: str) -> None:
    bank = await app("bank", listen=pod.world.listen, where=(BANK, 443), certificate=AUTHORITY.issue(host))
    await stage.apply(policy("REGISTRY_ONLY"), service_entry(host, bank, port=443, protocol="TLS"))
    since, there, tls = pod.caller.access_log.mark(), (BANK, 443), AUTHORITY.client_context()
    assert (await pod.caller.ask(host, address=there, tls=tls, logged=False)).by == "bank"
    entry = await pod.caller.logged_to(443, since)
    assert (entry["upstream_cluster"], entry["requested_server_name"]) == (f"outbound|443||{host}", host)
    since = pod.caller.access_log.mark()
    with pytest.raises(aiohttp.ClientError):
        await pod.caller.ask("unknown.example", address=there, tls=tls, logged=False)
    entry = await pod.caller.logged_to(443, since)
    assert (entry["upstream_cluster"], entry["response_flags"]) == ("BlackHoleCluster", "UH")


async def test_the_sidecar_speaks_tls_for_the_application(stage: Stage, pod: Pod, app: Start, host: str) -> None:
    bank = await app("bank", listen=pod.world.listen, where=(BANK, 443), certificate=AUTHORITY.issue(host))
    ports = [
        {"number": 80, "name": "http", "protocol": "HTTP"},
        {"number": 443, "name": "https", "protocol": "HTTPS"},
    ]
    trusted = stage.work.directory("sidecar") / "authority.pem"
    AUTHORITY.write(trusted)
    tls = {"mode": "SIMPLE", "caCertificates": str(trusted), "sni": host, "subjectAltNames": [host]}
    await stage.apply(
        policy("REGISTRY_ONLY"),
        service_entry(host, ports=ports, endpoints=[{"address": BANK}]),
        destination_rule(host, {"portLevelSettings": [{"port": {"number": 443}, "tls": tls}]}),
        virtual_service(host, {"route": [to(host, port={"number": 443})]}, gateways=MESH),
    )
    outcome = await pod.caller.ask(host)
    assert (outcome.brief, outcome.by, outcome.seen["tls"]) == ("200 -", "bank", True)
    assert (outcome.seen["server_name"], bank.requests) == (host, 1)
    assert (outcome.cluster, outcome.headers["server"]) == (f"outbound|443||{host}", "envoy")


async def test_rules_of_the_mesh_know_their_callers_labels(stage: Stage, pod: Pod, app: Start, host: str) -> None:
    server = await partner(app, pod)
    mine = {"match": [{"sourceLabels": {"app": "client"}}], "headers": {"request": {"set": {"x-rule": "mine"}}}}
    others = {"match": [{"sourceLabels": {"app": "other"}}], "directResponse": {"status": 403}}
    rules = [others, mine | {"route": [to(host)]}]
    await stage.apply(service_entry(host, server), virtual_service(host, *rules, gateways=MESH))
    outcome = await pod.caller.ask(host)
    assert (outcome.status, outcome.seen["headers"]["x-rule"]) == (200, "mine")


async def test_rules_of_a_gateway_do_not_hold_in_the_mesh(stage: Stage, pod: Pod, app: Start, host: str) -> None:
    refuse = virtual_service(host, {"directResponse": {"status": 403}})
    await stage.apply(service_entry(host, await partner(app, pod)), refuse)
    assert (await pod.caller.ask(host)).status == 200


async def test_a_rule_without_a_match_for_the_path_is_404_nr(stage: Stage, pod: Pod, app: Start, host: str) -> None:
    only = {"match": [{"uri": {"prefix": "/there"}}], "route": [to(host)]}
    entry = service_entry(host, await partner(app, pod))
    await stage.apply(entry, virtual_service(host, only, gateways=MESH))
    assert (await pod.caller.ask(host, "/there")).brief == "200 -"
    outcome = await pod.caller.ask(host, "/elsewhere")
    assert (outcome.brief, outcome.details) == ("404 NR", "route_not_found")


async def test_inbound_http_comes_through_the_sidecar(stage: Stage, pod: Pod, app: Start) -> None:
    server = await app("client", listen=pod.inside.listen, where=("0.0.0.0", 8080))
    await stage.apply()
    outcome = await pod.outside.ask("client.outcomes")
    assert (outcome.brief, outcome.by, outcome.cluster) == ("200 -", "client", "inbound|8080||")
    assert (outcome.log["route_name"], server.requests) == ("default", 1)


async def test_inbound_tcp_where_the_server_speaks_first(stage: Stage, pod: Pod) -> None:
    async with TcpServer.start(greet, pod.inside.listen("0.0.0.0", 3306)), asyncio.timeout(SECONDS):
        await stage.apply()
        since = pod.outside.access_log.mark()
        made = await asyncio.to_thread(pod.world.connect, POD, 3306, SECONDS)
        reader, writer = await asyncio.open_connection(sock=made)
        assert await reader.readexactly(len(GREETING)) == GREETING
        writer.close()
        entry = await pod.outside.logged_to(3306, since)
    assert (entry["upstream_cluster"], entry["response_flags"]) == ("inbound|3306||", "-")


async def test_an_inbound_port_that_no_service_names_passes(stage: Stage, pod: Pod, app: Start) -> None:
    await app("client", "unnamed", listen=pod.inside.listen, where=("0.0.0.0", 7777))
    await stage.apply()
    outcome = await pod.outside.ask("client", address=(POD, 7777))
    assert (outcome.by, outcome.cluster) == ("client unnamed", "InboundPassthroughCluster")


async def test_an_application_that_does_not_listen_is_503_uf_at_its_sidecar_after_retries(
    stage: Stage, pod: Pod
) -> None:
    await stage.apply()
    outcome = await pod.outside.ask("client.outcomes")
    assert (outcome.brief, outcome.cluster) == ("503 URX,UF", "inbound|8080||")
    assert "Connection_refused" in outcome.log["upstream_transport_failure_reason"]


async def test_a_pod_reaches_itself_by_its_service(stage: Stage, pod: Pod, app: Start) -> None:
    server = await app("client", listen=pod.inside.listen, where=("0.0.0.0", 8080))
    await stage.apply()
    since = pod.caller.access_log.mark()
    outcome = await pod.caller.ask("client", address=(VIRTUAL, 80), logged=False)
    assert (outcome.status, server.requests) == (200, 1)
    name = "outbound|80||client.outcomes.svc.cluster.local"
    assert await pod.caller.logged(lambda e: e["upstream_cluster"] == name, since)
