"""TLS with real certificates: what a gateway shows and demands, and how it speaks TLS to others (GW, SDS, DR rows)."""

import ssl
from typing import Any

import aiohttp
import pytest

from e2e.outcomes.caller import Caller
from e2e.outcomes.conftest import Start
from e2e.outcomes.objects import (
    NAMESPACE,
    Json,
    destination_rule,
    gateway,
    server,
    service_entry,
    tls_secret,
    to,
    virtual_service,
)
from e2e.outcomes.stage import Stage
from pypilot.cli.demo.certificates import Authority

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session")]

EXTRA = (f"{NAMESPACE}/extra",)
AUTHORITY = Authority("outcomes: servers")
CLIENTS = Authority("outcomes: clients")
STRANGERS = Authority("outcomes: strangers")


class Https:
    """An HTTPS server of the gateway for one host."""

    def __init__(self, stage: Stage, host: str, **tls: Any) -> None:
        self.host = host
        self.port = stage.port("https")
        self.certificate = AUTHORITY.issue(host)
        self.tls = {"credentialName": host, **tls}

    def objects(self, backend: Any, clients: bytes = b"") -> list[Json]:
        return [
            tls_secret(self.host, self.certificate, clients),
            gateway(server(self.port, "HTTPS", self.host, tls=self.tls)),
            service_entry(self.host, backend),
            virtual_service(self.host, gateways=EXTRA),
        ]

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port


async def test_simple_shows_the_secrets_certificate(stage: Stage, web: Caller, app: Start, host: str) -> None:
    https = Https(stage, host, mode="SIMPLE")
    await stage.apply(*https.objects(backend := await app()))
    outcome = await web.ask(host, address=https.address, tls=AUTHORITY.client_context())
    assert outcome.brief == "200 -"
    assert outcome.log["requested_server_name"] == host
    assert backend.seen[0]["headers"]["x-forwarded-proto"] == "https"
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await web.ask(host, address=https.address, tls=STRANGERS.client_context(), logged=False)


async def test_an_unknown_server_name_is_closed_in_the_handshake_and_logged_nr(
    stage: Stage, web: Caller, app: Start, host: str
) -> None:
    """OUT-017."""
    https = Https(stage, host, mode="SIMPLE")
    await stage.apply(*https.objects(await app()))
    since = web.access_log.mark()
    with pytest.raises((aiohttp.ClientConnectionError, ssl.SSLError)):
        await web.ask("other.example", address=https.address, tls=AUTHORITY.client_context(), logged=False)
    entry = await web.logged_to(https.port, since)
    assert (entry["response_flags"], entry["requested_server_name"]) == ("NR", "other.example")


async def test_mutual_takes_only_clients_with_a_certificate_of_the_authority(
    stage: Stage, web: Caller, app: Start, host: str
) -> None:
    https = Https(stage, host, mode="MUTUAL")
    await stage.apply(*https.objects(backend := await app(), CLIENTS.pem))
    known = AUTHORITY.client_context(CLIENTS.issue("client.example"))
    assert (await web.ask(host, address=https.address, tls=known)).brief == "200 -"
    assert "client.example" in backend.seen[0]["headers"]["x-forwarded-client-cert"]
    for wrong in (AUTHORITY.client_context(), AUTHORITY.client_context(STRANGERS.issue("client.example"))):
        with pytest.raises(aiohttp.ClientError):
            await web.ask(host, address=https.address, tls=wrong, logged=False)
    assert backend.requests == 1


async def test_optional_mutual_takes_clients_without_a_certificate_but_no_wrong_one(
    stage: Stage, web: Caller, app: Start, host: str
) -> None:
    https = Https(stage, host, mode="OPTIONAL_MUTUAL")
    await stage.apply(*https.objects(await app(), CLIENTS.pem))
    for right in (AUTHORITY.client_context(), AUTHORITY.client_context(CLIENTS.issue("client.example"))):
        assert (await web.ask(host, address=https.address, tls=right)).brief == "200 -"
    wrong = AUTHORITY.client_context(STRANGERS.issue("client.example"))
    with pytest.raises(aiohttp.ClientError):
        await web.ask(host, address=https.address, tls=wrong, logged=False)


async def test_another_host_of_the_same_server_is_not_misdirected(
    stage: Stage, web: Caller, app: Start, host: str
) -> None:
    """OUT-018: no 421 where a connection for one host asks for the other."""
    other = f"other.{host}"
    port = stage.port("https")
    tls = {"mode": "SIMPLE", "credentialName": host}
    await stage.apply(
        tls_secret(host, AUTHORITY.issue(host, other)),
        gateway(server(port, "HTTPS", host, other, tls=tls)),
        service_entry(other, await app("other")),
        virtual_service(other, gateways=EXTRA),
    )
    trusted = AUTHORITY.client_context()
    outcome = await web.ask(other, address=("127.0.0.1", port), tls=trusted, server_name=host)
    assert (outcome.brief, outcome.by, outcome.log["requested_server_name"]) == ("200 -", "other", host)


async def test_the_versions_of_tls_are_limited(stage: Stage, web: Caller, app: Start, host: str) -> None:
    https = Https(stage, host, mode="SIMPLE", minProtocolVersion="TLSV1_3")
    await stage.apply(*https.objects(await app()))
    old = AUTHORITY.client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
        await web.ask(host, address=https.address, tls=old, logged=False)
    assert (await web.ask(host, address=https.address, tls=AUTHORITY.client_context())).status == 200


async def test_passthrough_leads_by_server_name_to_the_servers_own_certificate(
    stage: Stage, web: Caller, app: Start, host: str
) -> None:
    port = stage.port("passthrough")
    names = [f"{x}.{host}" for x in ("a", "b")]
    servers = [await app(name, certificate=AUTHORITY.issue(name)) for name in names]
    entries = [service_entry(n, s, port=443, protocol="TLS") for n, s in zip(names, servers, strict=True)]
    routes = [{"match": [{"port": port, "sniHosts": [n]}], "route": [to(n, port={"number": 443})]} for n in names]
    await stage.apply(
        gateway(server(port, "TLS", f"*.{host}", tls={"mode": "PASSTHROUGH"})),
        *entries,
        virtual_service(f"*.{host}", gateways=EXTRA, tls=routes),
    )
    for name in names:
        since = web.access_log.mark()
        there = ("127.0.0.1", port)
        outcome = await web.ask(name, address=there, tls=AUTHORITY.client_context(), logged=False)
        assert (outcome.by, outcome.seen["server_name"]) == (name, name)
        entry = await web.logged_to(port, since)
        assert (entry["upstream_cluster"], entry["requested_server_name"]) == (f"outbound|443||{name}", name)


async def test_https_redirect_is_301(stage: Stage, web: Caller, app: Start, host: str) -> None:
    port = stage.port("redirect")
    await stage.apply(
        gateway(server(port, "HTTP", host, tls={"httpsRedirect": True})),
        service_entry(host, backend := await app()),
        virtual_service(host, gateways=EXTRA),
    )
    outcome = await web.ask(host, "/path?q=1", address=("127.0.0.1", port))
    assert (outcome.status, outcome.headers["location"]) == (301, f"https://{host}/path?q=1")
    assert backend.requests == 0


def origination(host: str, **tls: Any) -> list[Json]:
    """Plain HTTP in, TLS out."""
    once = {"route": [to(host)], "retries": {"attempts": 0}}
    return [destination_rule(host, {"tls": tls}), virtual_service(host, once)]


async def test_simple_origination_checks_the_certificate_and_sends_the_server_name(
    stage: Stage, web: Caller, app: Start, host: str
) -> None:
    backend = await app(certificate=AUTHORITY.issue(host))
    trusted = tls_secret("trusted", CLIENTS.issue("unused"), AUTHORITY.pem)
    tls = {"mode": "SIMPLE", "credentialName": "trusted", "sni": host, "subjectAltNames": [host]}
    await stage.apply(trusted, service_entry(host, backend), *origination(host, **tls))
    outcome = await web.ask(host)
    assert (outcome.brief, outcome.seen["tls"], outcome.seen["server_name"]) == ("200 -", True, host)


@pytest.mark.parametrize(
    ("trusts", "name"), [(AUTHORITY, "another.example"), (STRANGERS, "origination.example")], ids=["name", "authority"]
)
async def test_a_wrong_upstream_certificate_is_503_uf(
    stage: Stage, web: Caller, app: Start, trusts: Authority, name: str
) -> None:
    host = "origination.example"
    backend = await app(certificate=AUTHORITY.issue(host))
    trusted = tls_secret("trusted", CLIENTS.issue("unused"), trusts.pem)
    tls = {"mode": "SIMPLE", "credentialName": "trusted", "sni": host, "subjectAltNames": [name]}
    await stage.apply(trusted, service_entry(host, backend), *origination(host, **tls))
    outcome = await web.ask(host)
    assert outcome.brief == "503 UF"
    assert "CERTIFICATE_VERIFY_FAILED" in outcome.log["upstream_transport_failure_reason"]
    assert backend.requests == 0


async def test_mutual_origination_shows_the_client_certificate(
    stage: Stage, web: Caller, app: Start, host: str
) -> None:
    backend = await app(certificate=AUTHORITY.issue(host), trusts=CLIENTS)
    mine = tls_secret("mine", CLIENTS.issue("gateway.example"), AUTHORITY.pem)
    tls = {"mode": "MUTUAL", "credentialName": "mine", "sni": host, "subjectAltNames": [host]}
    await stage.apply(mine, service_entry(host, backend), *origination(host, **tls))
    assert (await web.ask(host)).brief == "200 -"
    assert backend.seen[0]["certificate"]["subject"] == ((("commonName", "gateway.example"),),)
    trusted = tls_secret("trusted", CLIENTS.issue("unused"), AUTHORITY.pem)
    tls |= {"mode": "SIMPLE", "credentialName": "trusted"}
    await stage.apply(trusted, service_entry(host, backend), *origination(host, **tls))
    assert (await web.ask(host)).status == 503
