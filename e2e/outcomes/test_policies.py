"""What callers get whose token, identity or permission is not right (OUT-012…014)."""

import asyncio
import base64
import json
import time
from typing import Any

import pytest
from aiohttp.web import Request, Response
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from e2e.outcomes.caller import SECONDS, Caller
from e2e.outcomes.conftest import Start
from e2e.outcomes.objects import SELECTOR, Json, gateway, made, mesh, server, service_entry, to, virtual_service
from e2e.outcomes.servers import Nobody, TcpServer, echo
from e2e.outcomes.stage import Stage
from e2e.outcomes.test_tls import EXTRA

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session")]

ISSUER = "https://issuer.example"
AUDIENCE = "shop"


def encoded(data: bytes | Json) -> str:
    """base64url without padding."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class Issuer:
    """Somebody who signs tokens."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)

    @property
    def jwks(self) -> str:
        numbers = self._key.public_key().public_numbers()
        modulus, exponent = numbers.n.to_bytes(256, "big"), numbers.e.to_bytes(3, "big")
        return json.dumps({"keys": [{"kty": "RSA", "kid": "1", "n": encoded(modulus), "e": encoded(exponent)}]})

    def token(self, **claims: Any) -> str:
        """A token that is good for an hour, unless the claims say otherwise."""
        body = {"iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "exp": int(time.time()) + 3600, **claims}
        signed = f"{encoded({'alg': 'RS256', 'kid': '1'})}.{encoded(body)}"
        return f"{signed}.{encoded(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


ISSUED = Issuer()
STRANGER = Issuer()


def policy(kind: str, spec: Json) -> Json:
    """A policy for the gateway."""
    return made(kind, kind.lower(), {"selector": {"matchLabels": SELECTOR}, **spec}, group="security")


def jwt() -> Json:
    rule = {"issuer": ISSUER, "audiences": [AUDIENCE], "jwks": ISSUED.jwks}
    return policy("RequestAuthentication", {"jwtRules": [rule]})


@pytest.mark.parametrize(
    ("token", "status", "body"),
    [
        ("", 200, b""),
        (ISSUED.token(), 200, b""),
        ("nonsense", 401, b"Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"),
        (ISSUED.token(exp=1000), 401, b"Jwt is expired"),
        (ISSUED.token(iss="https://other.example"), 401, b"Jwt issuer is not configured"),
        (STRANGER.token(), 401, b"Jwt verification fails"),
        (ISSUED.token(aud="other"), 403, b"Audiences in Jwt are not allowed"),
    ],
    ids=["none", "good", "nonsense", "expired", "issuer", "signature", "audience"],
)
async def test_a_token(stage: Stage, web: Caller, app: Start, token: str, status: int, body: bytes) -> None:
    host = "token.example"
    await stage.apply(service_entry(host, await app()), virtual_service(host), jwt())
    outcome = await web.ask(host, headers={"authorization": f"Bearer {token}"} if token else {})
    assert outcome.status == status
    if status != 200:
        assert outcome.body == body
        assert outcome.headers.get("www-authenticate", "Bearer realm=").startswith("Bearer realm=")
        assert outcome.details.startswith("jwt_authn_access_denied")


async def test_a_token_may_be_demanded(stage: Stage, web: Caller, app: Start, host: str) -> None:
    rules = [{"from": [{"source": {"requestPrincipals": [f"{ISSUER}/alice"]}}]}]
    demand = policy("AuthorizationPolicy", {"action": "ALLOW", "rules": [*rules, MARKED]})
    await stage.apply(service_entry(host, await app()), virtual_service(host), jwt(), demand)
    for token, status in (("", 403), (ISSUED.token(), 200), (ISSUED.token(sub="bob"), 403)):
        headers = {"authorization": f"Bearer {token}"} if token else {}
        assert (await web.ask(host, headers=headers)).status == status


MARKED: Json = {"to": [{"operation": {"hosts": ["mark.example"]}}]}
"""The stage's own requests."""


async def test_what_is_denied_is_403_and_names_its_policy(stage: Stage, web: Caller, app: Start, host: str) -> None:
    rules = [{"to": [{"operation": {"paths": ["/admin*"], "methods": ["GET"]}}]}]
    deny = policy("AuthorizationPolicy", {"action": "DENY", "rules": rules})
    await stage.apply(service_entry(host, backend := await app()), virtual_service(host), deny)
    outcome = await web.ask(host, "/admin/users")
    assert (outcome.status, outcome.body) == (403, b"RBAC: access denied")
    assert outcome.details.startswith("rbac_access_denied_matched_policy[")
    assert "authorizationpolicy" in outcome.details
    assert (await web.ask(host, "/admin", method="PUT")).status == 200
    assert (await web.ask(host, "/shop")).status == 200
    assert backend.requests == 2


async def test_what_is_not_allowed_is_403(stage: Stage, web: Caller, app: Start, host: str) -> None:
    rules = [{"to": [{"operation": {"paths": ["/open"]}}]}, MARKED]
    allow = policy("AuthorizationPolicy", {"action": "ALLOW", "rules": rules})
    await stage.apply(service_entry(host, await app()), virtual_service(host), allow)
    assert (await web.ask(host, "/open")).status == 200
    outcome = await web.ask(host, "/closed")
    assert (outcome.status, outcome.details) == (403, "rbac_access_denied_matched_policy[none]")


async def test_denied_tcp_is_closed(stage: Stage, web: Caller, host: str) -> None:
    port = stage.port("tcp")
    async with TcpServer.start(echo) as repeater, asyncio.timeout(SECONDS):
        deny = policy(
            "AuthorizationPolicy", {"action": "DENY", "rules": [{"to": [{"operation": {"ports": [str(port)]}}]}]}
        )
        await stage.apply(
            gateway(server(port, "TCP", host)),
            service_entry(host, repeater, port=3306, protocol="TCP"),
            virtual_service(host, gateways=EXTRA, tcp=[{"route": [to(host)]}]),
            deny,
        )
        since = web.access_log.mark()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        assert await reader.read() == b""
        writer.close()
        entry = await web.logged_to(port, since)
        assert entry["connection_termination_details"].startswith("rbac_access_denied_matched_policy[")


def asking(host: str, **more: Any) -> list[Json]:
    """A policy that asks an authorization server, and the MeshConfig that knows it."""
    provider = {"service": f"authz.{host}", "port": 80, "includeRequestHeadersInCheck": ["x-token"], **more}
    rules = [{"to": [{"operation": {"hosts": [host]}}]}]
    return [
        mesh(extensionProviders=[{"name": "asked", "envoyExtAuthzHttp": provider}]),
        policy("AuthorizationPolicy", {"action": "CUSTOM", "provider": {"name": "asked"}, "rules": rules}),
    ]


async def test_an_authorization_server_decides(stage: Stage, web: Caller, app: Start, host: str) -> None:
    async def decide(request: Request) -> Response:
        if request.headers.get("x-token") == "good":
            return Response(status=200)
        return Response(status=302, headers={"location": "https://login.example/"})

    authz = service_entry(f"authz.{host}", await app(respond=decide))
    await stage.apply(service_entry(host, backend := await app()), authz, virtual_service(host), *asking(host))
    assert (await web.ask(host, headers={"x-token": "good"})).brief == "200 -"
    outcome = await web.ask(host, headers={"x-token": "bad"})
    assert (outcome.brief, outcome.headers["location"]) == ("302 UAEX", "https://login.example/")
    assert (outcome.details, backend.requests) == ("ext_authz_denied", 1)


@pytest.mark.parametrize(
    ("more", "brief"),
    [({}, "403 UAEX"), ({"statusOnError": "503"}, "503 UAEX"), ({"failOpen": True}, "200 -")],
    ids=["default", "status", "open"],
)
async def test_an_authorization_server_that_is_down(
    stage: Stage, web: Caller, app: Start, nobody: Nobody, more: Json, brief: str
) -> None:
    host = "authz-down.example"
    authz = service_entry(f"authz.{host}", nobody)
    await stage.apply(service_entry(host, await app()), authz, virtual_service(host), *asking(host, **more))
    assert (await web.ask(host)).brief == brief
