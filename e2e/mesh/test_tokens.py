"""Requests with tokens: where they are looked for, whose they are, what becomes of them, and keys that change."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from e2e.mesh.mesh import Mesh
from e2e.mesh.traffic import answered
from e2e.mesh.world import GATE_KEYS, KEYS, WEB, made, mutual, policy
from e2e.outcomes.caller import Outcome
from e2e.outcomes.objects import Json
from e2e.outcomes.servers import App

pytestmark = [pytest.mark.envoy, pytest.mark.netns, pytest.mark.asyncio(loop_scope="session")]
URI = f"http://{KEYS}:{GATE_KEYS}/keys"


@dataclass(frozen=True)
class Issuer:
    """Who gives tokens."""

    name: str
    kid: str = "1"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def jwks(self) -> str:
        """Its key, as the world sees it."""
        public: Json = jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return json.dumps({"keys": [{**public, "kid": self.kid, "alg": "ES256"}]})

    def raw(self, seconds: int = 600, **claims: Any) -> str:
        """A token."""
        said = {"iss": self.name, "sub": "me", "exp": int(time.time()) + seconds, **claims}
        return jwt.encode(said, self.key, "ES256", {"kid": self.kid})

    def bearer(self, seconds: int = 600, **claims: Any) -> dict[str, str]:
        """A token where it usually is."""
        return {"authorization": f"Bearer {self.raw(seconds, **claims)}"}


ONE, TWO = Issuer("https://one.example"), Issuer("https://two.example")


def believed(*rules: Json) -> Json:
    """RequestAuthentication of the application."""
    selector = {"matchLabels": {"app": "app"}}
    return made("RequestAuthentication", "app", {"selector": selector, "jwtRules": list(rules)}, "security")


def inline(issuer: Issuer = ONE, **more: Any) -> Json:
    """A rule with the issuer's key in it."""
    return {"issuer": issuer.name, "jwks": issuer.jwks, **more}


async def ask(mesh: Mesh, headers: dict[str, str] | None = None, path: str = "/") -> Outcome:
    return await mesh[WEB].caller.ask("app.alpha", path, headers=headers)


async def status(mesh: Mesh, headers: dict[str, str] | None = None, path: str = "/") -> int:
    return (await ask(mesh, headers, path)).status


@asynccontextmanager
async def server_of_keys(mesh: Mesh, *issuers: Issuer) -> AsyncIterator[list[Issuer]]:
    """Serves the keys of the last of these."""
    serving = list(issuers)

    async def keys(_: web.Request) -> web.Response:
        return web.Response(text=serving[-1].jwks, content_type="application/json")

    app = App("keys", respond=keys, listen=mesh.hub.listen, where=(KEYS, GATE_KEYS))
    await app.start()
    try:
        yield serving
    finally:
        await app.stop()


@pytest.mark.backing("files", "api-server")
async def test_a_token_that_is_over_or_of_nobody_is_401(mesh: Mesh) -> None:
    """RA-005, RA-006."""
    await mesh.apply(mutual("STRICT"), believed(inline()))
    assert await status(mesh) == 200
    assert await status(mesh, ONE.bearer()) == 200
    assert await status(mesh, ONE.bearer(-600)) == 401
    assert await status(mesh, TWO.bearer()) == 401
    assert await status(mesh, Issuer(ONE.name).bearer()) == 401
    assert await status(mesh, {"authorization": "Bearer a.b.c"}) == 401


async def test_a_claim_decides(mesh: Mesh) -> None:
    """RA-005, RA-020, AZ-016, AZ-020."""
    claim = {"key": "request.auth.claims[groups]", "values": ["staff"]}
    who = {"from": [{"source": {"requestPrincipals": [f"{ONE.name}/*"]}}], "when": [claim]}
    await mesh.apply(mutual("STRICT"), believed(inline(), inline(TWO)), policy("ALLOW", who))
    assert await status(mesh) == 403
    assert await status(mesh, ONE.bearer()) == 403
    assert await status(mesh, ONE.bearer(groups=["guests", "staff"])) == 200
    assert await status(mesh, TWO.bearer(groups=["staff"])) == 403


async def test_a_claim_in_a_claim_decides(mesh: Mesh) -> None:
    claim = {"key": "request.auth.claims[realm][roles]", "values": ["admin"]}
    await mesh.apply(mutual("STRICT"), believed(inline()), policy("ALLOW", {"when": [claim]}))
    assert await status(mesh, ONE.bearer(realm={"roles": ["admin"]})) == 200
    assert await status(mesh, ONE.bearer(roles=["admin"])) == 403


async def test_audiences(mesh: Mesh) -> None:
    """RA-007: a token for somebody else is as good as a wrong one."""
    await mesh.apply(mutual("STRICT"), believed(inline(audiences=["shop", "bank"])))
    found = [await status(mesh, ONE.bearer(aud=aud)) for aud in ("bank", ["shop", "x"], "x")]
    assert found == [200, 200, 403]
    assert await status(mesh, ONE.bearer()) == 403


async def test_where_tokens_are_looked_for(mesh: Mesh) -> None:
    """RA-008: where the rule says, and then nowhere else."""
    places = {
        "fromHeaders": [{"name": "x-token", "prefix": "jwt "}],
        "fromParams": ["token"],
        "fromCookies": ["session"],
    }
    principal = policy("ALLOW", {"from": [{"source": {"requestPrincipals": [f"{ONE.name}/me"]}}]})
    await mesh.apply(mutual("STRICT"), believed(inline(**places)), principal)
    assert await status(mesh, {"x-token": f"jwt {ONE.raw()}"}) == 200
    assert await status(mesh, path=f"/?token={ONE.raw()}") == 200
    assert await status(mesh, {"cookie": f"a=b; session={ONE.raw()}"}) == 200
    assert await status(mesh, {"x-token": f"jwt {ONE.raw(-600)}"}) == 401
    assert await status(mesh, ONE.bearer()) == 403


async def test_what_the_application_sees_of_it(mesh: Mesh) -> None:
    """RA-007, RA-009."""
    claims = [{"header": "x-groups", "claim": "groups"}, {"header": "x-tenant", "claim": "org.tenant"}]
    told = inline(outputPayloadToHeader="x-payload", outputClaimToHeaders=claims)
    await mesh.apply(mutual("STRICT"), believed(told))
    forged = {"x-groups": "staff", "x-tenant": "other"}
    seen = (await ask(mesh, {**ONE.bearer(groups="guests", org={"tenant": "acme"}), **forged})).seen["headers"]
    assert (seen["x-groups"], seen["x-tenant"]) == ("guests", "acme")
    assert "authorization" not in seen
    assert jwt.utils.base64url_decode(seen["x-payload"]).startswith(b'{"iss":"https://one.example"')
    assert "x-groups" not in (await ask(mesh, {**ONE.bearer(), **forged})).seen["headers"]
    await mesh.apply(mutual("STRICT"), believed(inline(forwardOriginalToken=True)))
    sent = ONE.bearer()
    assert (await ask(mesh, sent)).seen["headers"]["authorization"] == sent["authorization"]


async def test_keys_that_are_not_there_at_first(mesh: Mesh) -> None:
    """RA-013: fails closed for those who show a token of this issuer, and for nobody else."""
    await mesh.apply(mutual("STRICT"), believed({"issuer": ONE.name, "jwksUri": URI}, inline(TWO)))
    assert await status(mesh) == 200
    assert await status(mesh, ONE.bearer()) == 401
    assert await status(mesh, TWO.bearer()) == 200
    async with server_of_keys(mesh, ONE):
        await answered(lambda: ask(mesh, ONE.bearer()))
        assert await status(mesh, TWO.bearer()) == 200


async def test_keys_that_change(mesh: Mesh) -> None:
    """RA-014, RA-015: followed; while nobody serves them, the last ones count."""
    next_one = Issuer(ONE.name, "2")
    async with server_of_keys(mesh, ONE) as serving:
        await mesh.apply(mutual("STRICT"), believed({"issuer": ONE.name, "jwksUri": URI}))
        await answered(lambda: ask(mesh, ONE.bearer()))
        assert await status(mesh, next_one.bearer()) == 401
        serving.append(next_one)
        await answered(lambda: ask(mesh, next_one.bearer()))
        await answered(lambda: ask(mesh, ONE.bearer()), 401)
    await mesh.apply(mutual("STRICT"), believed({"issuer": ONE.name, "jwksUri": URI}))
    assert await status(mesh, next_one.bearer()) == 200
