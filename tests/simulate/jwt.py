"""The JWT filter: which tokens a request shows, and whether they are good (envoy.extensions.filters.http.jwt_authn.v3).

Signatures are checked for ES256, all other algorithms fail.
"""

import base64
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from tests.simulate.fields import Message, UnsupportedError, at, flag, items, only, text
from tests.simulate.headers import without
from tests.simulate.local_reply import local_reply
from tests.simulate.matchers import query_parameters
from tests.simulate.model import Request
from tests.simulate.passing import Level, Passing, Result
from tests.simulate.route_match import path_matches

JWT = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
OK, MISSING = "OK", "Jwt is missing"
UNKNOWN_ISSUER, AUDIENCE = "Jwt issuer is not configured", "Audiences in Jwt are not allowed"
_SKEW = 60
_WEAK = (MISSING, UNKNOWN_ISSUER)
"""What another requirement found is told rather than these."""


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a requirement, the payloads that it leaves, and the providers whose tokens were good."""

    status: str
    payloads: tuple[tuple[str, Any], ...] = ()
    used: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    issuers: frozenset[str]
    """Those that may put their tokens where this one stood; empty for any."""


def _unpacked(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _locations(provider: Message) -> list[tuple[str, str, str]]:
    """Kind, name and what stands before the token."""
    headers = [("header", text(h, "name").lower(), text(h, "value_prefix")) for h in items(provider, "from_headers")]
    params = [("param", str(name), "") for name in items(provider, "from_params")]
    cookies = [("cookie", str(name), "") for name in items(provider, "from_cookies")]
    return [*headers, *params, *cookies] or [("header", "authorization", "Bearer "), ("param", "access_token", "")]


def _cookies(request: Request) -> dict[str, str]:
    found: dict[str, str] = {}
    for header in request.values("cookie"):
        for pair in header.split(";"):
            name, _, value = pair.strip().partition("=")
            found.setdefault(name, value.strip('"'))
    return found


def _at_location(location: tuple[str, str, str], request: Request) -> Iterator[str]:
    kind, name, prefix = location
    if kind == "header":
        for value in request.values(name)[:1] if name == "authorization" else request.values(name):
            if not prefix:
                yield value
            elif prefix in value:
                rest = value[value.index(prefix) + len(prefix) :]
                yield rest.lstrip(" ") if prefix.endswith(" ") else rest
        return
    found = query_parameters(request.path) if kind == "param" else _cookies(request)
    if name in found:
        yield found[name]


def tokens(providers: Sequence[Message], request: Request) -> list[_Token]:
    """What stands where the providers look for tokens, each place once."""
    places: dict[tuple[str, str, str], set[str]] = {}
    for provider in providers:
        for location in _locations(provider):
            places.setdefault(location, set()).add(text(provider, "issuer"))
    order = {"header": 0, "param": 1, "cookie": 2}
    found = []
    for location, issuers in sorted(places.items(), key=lambda item: (order[item[0][0]], item[0])):
        found += [_Token(value, frozenset(issuers - {""})) for value in _at_location(location, request)]
    return found


def _signed(key: Mapping[str, str], signed: bytes, signature: bytes) -> bool:
    if key.get("kty") != "EC" or len(signature) != 64:
        return False
    x, y = (int.from_bytes(_unpacked(key[axis]), "big") for axis in ("x", "y"))
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    try:
        public.verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _parsed(token: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    try:
        header, payload, _ = token.split(".")
        return json.loads(_unpacked(header)), json.loads(_unpacked(payload))
    except ValueError:
        return None


def _normalized(payload: Mapping[str, Any], provider: Message) -> dict[str, Any]:
    names = items(at(provider, "normalize_payload_in_metadata"), "space_delimited_claims")
    return {
        name: value.split(" ") if name in names and isinstance(value, str) else value for name, value in payload.items()
    }


def _check(token: _Token, providers: Mapping[str, Message], named: str) -> tuple[str, str, dict[str, Any]]:
    """Status, the provider that was asked, and the payload for the metadata."""
    parsed = _parsed(token.text)
    if parsed is None:
        return "Jwt is not in the form of Header.Payload.Signature", "", {}
    header, payload = parsed
    issuer = str(payload.get("iss", ""))
    if token.issuers and issuer not in token.issuers:
        return UNKNOWN_ISSUER, "", {}
    name = named or next((n for n, p in sorted(providers.items()) if text(p, "issuer") == issuer), "")
    if not name:
        return UNKNOWN_ISSUER, "", {}
    provider = providers[name]
    now = time.time()
    if payload.get("nbf", 0) > now + _SKEW:
        return "Jwt not yet valid", name, {}
    if payload.get("exp") and payload["exp"] + _SKEW < now:
        return "Jwt is expired", name, {}
    audiences = payload.get("aud", [])
    shown = {audiences} if isinstance(audiences, str) else set(audiences)
    wanted = set(items(provider, "audiences"))
    if wanted and not wanted & shown:
        return AUDIENCE, name, {}
    keys = json.loads(text(at(provider, "local_jwks"), "inline_string"))["keys"]
    signed, _, signature = token.text.rpartition(".")
    own = [k for k in keys if not header.get("kid") or not k.get("kid") or k["kid"] == header["kid"]]
    if header.get("alg") != "ES256" or not any(_signed(k, signed.encode(), _unpacked(signature)) for k in own):
        return "Jwt verification fails", name, {}
    return OK, name, _normalized(payload, provider)


def _all_good(providers: Mapping[str, Message], named: str, request: Request, missing_is_good: bool) -> Found:
    """Every token must be good, not just one."""
    asked = {named: providers[named]} if named else providers
    shown = tokens(list(asked.values()), request)
    if not shown:
        return Found(OK if missing_is_good else MISSING)
    payloads: list[tuple[str, Any]] = []
    used: list[str] = []
    for token in shown:
        status, name, payload = _check(token, asked, named)
        if status != OK:
            return Found(status)
        used.append(name)
        if key := text(asked[name], "payload_in_metadata"):
            payloads.append((key, payload))
    return Found(OK, tuple(payloads), tuple(used))


def _any_of(requirements: Sequence[Message], providers: Mapping[str, Message], request: Request) -> Found:
    """The first that holds; leave to show none is looked at last, and means these providers' tokens."""
    named = [text(one, "provider_name") for one in requirements if "provider_name" in one]
    result = Found(MISSING)
    for one in requirements:
        if "allow_missing" in one:
            continue
        found = evaluate(one, providers, request)
        if found.status == OK:
            return found
        result = found if found.status not in _WEAK or result.status in _WEAK else result
    if any("allow_missing" in one for one in requirements):
        among = {name: providers[name] for name in named} or providers
        found = _all_good(among, "", request, missing_is_good=True)
        if found.status == OK:
            return found
        result = found if found.status not in _WEAK or result.status in _WEAK else result
    return result


def evaluate(requirement: Message, providers: Mapping[str, Message], request: Request) -> Found:
    """`JwtRequirement`."""
    kind = only(requirement, ("provider_name", "requires_any", "requires_all", "allow_missing",
                              "provider_and_audiences", "allow_missing_or_failed"))  # fmt: skip
    match kind:
        case "":
            return Found(OK)
        case "provider_name":
            return _all_good(providers, text(requirement, kind), request, missing_is_good=False)
        case "allow_missing":
            return _all_good(providers, "", request, missing_is_good=True)
        case "requires_any":
            return _any_of(items(at(requirement, kind), "requirements"), providers, request)
        case "requires_all":
            payloads: tuple[tuple[str, Any], ...] = ()
            used: tuple[str, ...] = ()
            for one in items(at(requirement, kind), "requirements"):
                found = evaluate(one, providers, request)
                if found.status != OK:
                    return found
                payloads, used = (*payloads, *found.payloads), (*used, *found.used)
            return Found(OK, payloads, used)
    raise UnsupportedError(f"JwtRequirement.{kind}")


def _without_tokens(request: Request, providers: Mapping[str, Message], used: Sequence[str]) -> Request:
    """Good tokens in headers do not go on unless they are to be forwarded."""
    for name in used:
        if not flag(providers[name], "forward"):
            for kind, header, _ in _locations(providers[name]):
                if kind == "header":
                    request = replace(request, headers=without(request.headers, header))
    return request


def authenticate(config: Message, name: str, level: Level, passing: Passing) -> Iterator[Result]:
    """The filter."""
    request = passing.request
    if level.config(name) or "filter_state_rules" in config:
        raise UnsupportedError("jwt_authn per route or by filter state")
    preflight = (
        request.method == "OPTIONS" and request.value("origin") and request.value("access-control-request-method")
    )
    rules = [rule for rule in items(config, "rules") if path_matches(at(rule, "match"), request)]
    if not rules or (preflight and flag(config, "bypass_cors_preflight")):
        yield Fraction(1), passing, "no token is asked for"
        return
    providers = at(config, "providers")
    found = evaluate(at(rules[0], "requires"), providers, request)
    if found.status != OK:
        status = 403 if found.status == AUDIENCE else 401
        reply = local_reply(
            request, status, found.status.encode(), details="jwt_authn_access_denied", edits=level.edits
        )
        yield Fraction(1), replace(reply, delay=passing.delay), f"refused: {found.status}"
        return
    own = {**passing.metadata.get(name, {}), **dict(found.payloads)}
    metadata = {**passing.metadata, name: own} if found.payloads else passing.metadata
    said = f"a good token of {', '.join(found.used)}" if found.used else "no token"
    yield (
        Fraction(1),
        replace(passing, request=_without_tokens(request, providers, found.used), metadata=metadata),
        said,
    )
