"""RequestAuthentication as Envoy's JWT filter (RA-001…013, RA-017…021).

Keys are never fetched here: what was fetched is inlined, or Envoy is told where they are. Where they are not known, a
key that nobody has stands in, so that every token of that issuer is refused rather than let through (RA-013).
"""

from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import msgspec
from envoy.config.route.v3 import route_components_pb2 as routes
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2 as jwt_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from google.protobuf import empty_pb2

from pypilot.compile.messages import duration, pack
from pypilot.compile.naming import outbound_cluster
from pypilot.compile.policies.matchers import JWT_FILTER
from pypilot.compile.policies.selection import PolicySet
from pypilot.compile.providers import provider_hostname
from pypilot.kinds.base import Duration
from pypilot.kinds.request_authentication import JWTRule, RequestAuthentication
from pypilot.world.reader import Reader

_DELIMITED: Final = ("permission", "scope")
"""Claims that are lists written as one text, by standards."""
_REMEMBERED: Final = Duration(300_000_000_000)
"""How long Envoy uses keys that it fetched."""
_PAYLOAD: Final = "payload"
_MODULUS: Final = (
    "0xObjM0UvS_oaazjpEYlAbwctEJ4L8pH3OuTb7qth7gUwqet-EzQB4dgFdvSdMgrLnSncQGRjpEYz3F3viIbH-3EN3TxSlPNviHxeOdy"
    "iBVfumN8dMxbLvVJUpfNOnvmMxJcl-8NNjAwcOjk4otSALaYgYYyOPyvKtgVdrQr-FoubWX4yrjxW-MJ2-7OBeepUUNOsVwGV23YX03s"
    "VkkyvY3otRflkBcY3_HKpBxJl9wk2GyOShN4_PNUF9-vwfnvOXMbCDX-w4PTef4geeb_GiT40YCKHTKMSPVanGRn5GExIWmki-mmqh94"
    "-mPTJyBR74ShspL3BxPZitDL574T1w"
)
"""Of the RSA key that istiod puts in place of keys that it cannot fetch; its private half was thrown away."""
NO_KEY: Final = f"""{{
  "keys": [
    {{
      "kty": "RSA",
      "e": "AQAB",
      "n": "{_MODULUS}"
    }}
  ]
}}"""

_PARTS_OF_KEYS: Final = {"RSA": ("n", "e"), "EC": ("x", "y"), "OKP": ("crv", "x"), "oct": ("k",)}

_Requirement: TypeAlias = jwt_pb2.JwtRequirement


def _rules(reader: Reader, policies: PolicySet) -> list[JWTRule]:
    """All rules of all policies, by issuer (RA-001)."""
    found: list[JWTRule] = []
    for ref in policies.authentication:
        policy = reader.policy(RequestAuthentication, ref)
        found += policy.spec.jwt_rules if policy is not None else ()
    return sorted(found, key=lambda rule: rule.issuer)


def _has_key(key_set: str) -> bool:
    """False if there is no key of a kind that Envoy knows: it would refuse the whole listener."""
    try:
        keys = msgspec.json.decode(key_set)["keys"]
    except (msgspec.DecodeError, KeyError, TypeError):
        return False
    return any(isinstance(key, dict) and _is_key(key) for key in keys)


def _is_key(key: dict[str, Any]) -> bool:
    parts = _PARTS_OF_KEYS.get(str(key.get("kty")), ())
    return bool(parts) and all(isinstance(key.get(part), str) for part in parts)


def _provider(reader: Reader, rule: JWTRule, at_edge: bool) -> jwt_pb2.JwtProvider:
    provider = jwt_pb2.JwtProvider(
        issuer=rule.issuer,
        audiences=rule.audiences,
        forward=rule.forward_original_token,
        forward_payload_header=rule.output_payload_to_header,
        payload_in_metadata=_PAYLOAD,
        from_params=rule.from_params,
        from_cookies=rule.from_cookies,
        clear_route_cache=at_edge,
    )
    for header in rule.from_headers:
        provider.from_headers.add(name=header.name, value_prefix=header.prefix)
    for output in rule.output_claim_to_headers:
        provider.claim_to_headers.add(header_name=output.header, claim_name=output.claim)
    claims = sorted({*_DELIMITED, *rule.space_delimited_claims})
    provider.normalize_payload_in_metadata.space_delimited_claims.extend(claims)
    cluster = _fetching_cluster(reader, rule)
    if cluster:
        remote = provider.remote_jwks
        remote.http_uri.uri, remote.http_uri.cluster = rule.uri, cluster
        remote.http_uri.timeout.CopyFrom(duration(rule.timeout))
        remote.cache_duration.CopyFrom(duration(_REMEMBERED))
    else:
        keys = rule.jwks or reader.key_set(rule.issuer, rule.uri)
        provider.local_jwks.inline_string = keys if keys and _has_key(keys) else NO_KEY
    return provider


def _fetching_cluster(reader: Reader, rule: JWTRule) -> str:
    """The cluster through which Envoy fetches the keys itself; empty if it is given them (RA-017…019)."""
    mode = reader.constants.key_fetching
    if mode == "control-plane" or not rule.uri:
        return ""
    uri = urlsplit(rule.uri)
    host = uri.hostname or ""
    known = provider_hostname(reader, host)
    if not known and mode == "hybrid":
        return ""
    return outbound_cluster(uri.port or (443 if uri.scheme == "https" else 80), "", known or host)


def _any_of(*requirements: _Requirement) -> _Requirement:
    return _Requirement(requires_any=jwt_pb2.JwtRequirementOrList(requirements=requirements))


def _missing() -> _Requirement:
    return _Requirement(allow_missing=empty_pb2.Empty())


def _requirement(names: list[tuple[str, bool]]) -> _Requirement:
    """Of (provider, a token is demanded): one token is enough, and none passes unless demanded (RA-003, RA-004)."""
    named = [_Requirement(provider_name=name) for name, _ in names]
    if len(named) == 1:
        return named[0] if names[0][1] else _any_of(named[0], _missing())
    if any(demanded for _, demanded in names):
        return _any_of(*named)
    each = [_any_of(one, _missing()) for one in named]
    return _any_of(*named, _Requirement(requires_all=jwt_pb2.JwtRequirementAndList(requirements=each)))


def jwt_authentication(reader: Reader, policies: PolicySet) -> hcm_pb2.HttpFilter | None:
    """The filter; None if no policy has a rule."""
    rules = _rules(reader, policies)
    if not rules:
        return None
    config = jwt_pb2.JwtAuthentication(bypass_cors_preflight=True)
    names = []
    for i, rule in enumerate(rules):
        name = f"origins-{i}"
        config.providers[name].CopyFrom(_provider(reader, rule, policies.at_edge))
        names.append((name, rule.presence == "REQUIRED"))
    match = routes.RouteMatch(prefix="/")
    config.rules.append(jwt_pb2.RequirementRule(match=match, requires=_requirement(names)))
    return hcm_pb2.HttpFilter(name=JWT_FILTER, typed_config=pack(config))
