"""Requests with tokens: keys that come late, tokens that are over, claims that decide."""

import asyncio
import json
import time
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from e2e.mesh.mesh import Mesh
from e2e.mesh.world import GATE_KEYS, KEYS, WEB, made, mutual, policy
from e2e.outcomes.caller import SECONDS
from e2e.outcomes.servers import App

pytestmark = [pytest.mark.envoy, pytest.mark.netns, pytest.mark.asyncio(loop_scope="session")]
ISSUER = "https://issuer.example"
KEY = ec.generate_private_key(ec.SECP256R1())
JWKS = json.dumps(
    {"keys": [{**jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "1", "alg": "ES256"}]}
)


def token(seconds: int = 600, **claims: Any) -> dict[str, str]:
    said = {"iss": ISSUER, "sub": "me", "exp": int(time.time()) + seconds, **claims}
    return {"authorization": f"Bearer {jwt.encode(said, KEY, 'ES256', {'kid': '1'})}"}


def believed(**keys: str) -> dict[str, Any]:
    rules = [{"issuer": ISSUER, **keys}]
    selector = {"matchLabels": {"app": "app"}}
    return made("RequestAuthentication", "app", {"selector": selector, "jwtRules": rules}, "security")


async def status(mesh: Mesh, headers: dict[str, str] | None = None) -> int:
    return (await mesh[WEB].caller.ask("app.alpha", headers=headers)).status


async def test_a_token_that_is_over_or_of_nobody_is_401(mesh: Mesh) -> None:
    await mesh.apply(mutual("STRICT"), believed(jwks=JWKS))
    assert await status(mesh) == 200  # RA-005
    assert await status(mesh, token()) == 200
    assert await status(mesh, token(-600)) == 401  # RA-006
    assert await status(mesh, {"authorization": "Bearer a.b.c"}) == 401


async def test_a_claim_decides(mesh: Mesh) -> None:  # RA-005, RA-020
    claim = {"key": "request.auth.claims[groups]", "values": ["staff"]}
    who = {"from": [{"source": {"requestPrincipals": [f"{ISSUER}/*"]}}], "when": [claim]}
    await mesh.apply(mutual("STRICT"), believed(jwks=JWKS), policy("ALLOW", who))
    assert await status(mesh) == 403
    assert await status(mesh, token()) == 403
    assert await status(mesh, token(groups=["guests", "staff"])) == 200


async def test_keys_that_are_not_there_at_first(mesh: Mesh) -> None:
    """Fails closed for those who show a token, and for nobody else."""
    uri = f"http://{KEYS}:{GATE_KEYS}/keys"
    await mesh.apply(mutual("STRICT"), believed(jwksUri=uri))
    assert await status(mesh) == 200
    assert await status(mesh, token()) == 401

    async def keys(_: web.Request) -> web.Response:
        return web.Response(text=JWKS, content_type="application/json")

    app = App("keys", respond=keys, listen=mesh.hub.listen, where=(KEYS, GATE_KEYS))
    await app.start()
    try:
        async with asyncio.timeout(SECONDS):
            while await status(mesh, token()) != 200:  # noqa: ASYNC110 - nobody says when
                await asyncio.sleep(0.1)
        assert await status(mesh) == 200
    finally:
        await app.stop()
