"""Tokens of service accounts by keys in a file: what is taken, what is refused, and what is said of it (XAUTH-001)."""

import json
from datetime import UTC, datetime

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pypilot.kube.token_review import TokenRefusedError, TokenUnknownError
from pypilot.security.token_keys import TokenKeys

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
EC, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
CLAIMS = {"sub": "system:serviceaccount:shop:web", "aud": ["istio-ca"], "exp": SECONDS + 60}


def public(key, kid="one", algorithm=jwt.algorithms.ECAlgorithm, alg="ES256"):
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, "alg": alg}


def signed(claims=CLAIMS, key=EC, alg="ES256", kid="one"):
    return jwt.encode(claims, key, alg, {"kid": kid} if kid else None)


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [public(EC)]}))
    return TokenKeys(path, now=lambda: NOW)


async def test_the_account_and_the_pod_of_a_token(keys):
    pod = {"kubernetes.io": {"namespace": "shop", "pod": {"name": "web-1", "uid": "1"}}}
    found = await keys.review(signed({**CLAIMS, **pod}))
    assert (found.username, found.pod) == ("system:serviceaccount:shop:web", "web-1")
    assert (await keys.review(signed(kid=""))).pod == ""


async def test_a_key_of_rsa(tmp_path):
    key = rsa.generate_private_key(65537, 2048)
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [public(key, algorithm=jwt.algorithms.RSAAlgorithm, alg="RS256")]}))
    assert (await TokenKeys(path, now=lambda: NOW).review(signed(key=key, alg="RS256"))).username


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (signed({**CLAIMS, "exp": SECONDS}), "expired"),
        (signed({**CLAIMS, "nbf": SECONDS + 60}), "not valid yet"),
        (signed({**CLAIMS, "aud": "other"}), "audience"),
        (signed({k: v for k, v in CLAIMS.items() if k != "aud"}), "no aud"),
        (signed({k: v for k, v in CLAIMS.items() if k != "exp"}), "no exp"),
        (signed({k: v for k, v in CLAIMS.items() if k != "sub"}), "no sub"),
        (signed({**CLAIMS, "exp": "soon"}), "not well formed"),
        (signed(key=OTHER), "none of the keys"),
        (signed(kid="another"), "none of the keys"),
        (jwt.encode(CLAIMS, "x" * 64, "HS256", {"kid": "one"}), "none of the keys"),
        (jwt.encode(CLAIMS, None, "none"), "none of the keys"),
        ("a.b.c", "not a JWT"),
        ("x" * 20_000, "too long"),
    ],
)
async def test_what_is_refused_quotes_nothing(keys, token, reason):
    with pytest.raises(TokenRefusedError, match=reason) as raised:
        await keys.review(token)
    assert token not in str(raised.value)


async def test_a_shared_secret_is_no_key(tmp_path):
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [{"kty": "oct", "k": "eHh4eA", "alg": "HS256"}]}))
    with pytest.raises(TokenUnknownError):
        await TokenKeys(path, now=lambda: NOW).review(signed())


async def test_keys_are_followed_and_stay_when_the_file_breaks(tmp_path, keys):
    path = tmp_path / "keys.json"
    await keys.review(signed())
    path.write_text("no longer keys")
    assert (await keys.review(signed())).username
    path.write_text(json.dumps({"keys": [public(OTHER, "two")]}))
    with pytest.raises(TokenRefusedError):
        await keys.review(signed())
    assert (await keys.review(signed(key=OTHER, kid="two"))).username


async def test_without_a_file_it_is_not_known_whose_a_token_is(tmp_path):
    with pytest.raises(TokenUnknownError):
        await TokenKeys(tmp_path / "none.json", now=lambda: NOW).review(signed())
