"""What becomes of a RequestAuthentication of which something is wrong: its other rules stay, and nothing opens."""

from typing import Any

import pytest

from pypilot.kinds import kind_of
from pypilot.kinds.parse import parse_object
from pypilot.kinds.request_authentication import JWTRule, RequestAuthentication

KEYS = '{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}'
GOOD = {"issuer": "https://good.example", "jwks": KEYS}
RULE = {"issuer": "https://a.example", "jwks": KEYS, "audiences": ["a"], "fromHeaders": [{"name": "x-token"}]}


def parsed(*rules: Any) -> tuple[tuple[JWTRule, ...] | None, list[str]]:
    kind = kind_of("security.istio.io/v1", "RequestAuthentication")
    assert kind is not None
    found = parse_object(kind, {"metadata": {"name": "r", "namespace": "n"}, "spec": {"jwtRules": list(rules)}})
    assert found.object is None or isinstance(found.object, RequestAuthentication)
    assert not found.clean
    errors = [f.field.removeprefix("spec.jwtRules") for f in found.findings if f.severity == "error"]
    return found.object.spec.jwt_rules if found.object is not None else None, errors


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"jwks": {"keys": []}}, ".jwks"),
        ({"jwks": "no keys"}, ".jwks"),
        ({"jwksUri": "ftp://a.example"}, ".jwksUri"),
        ({"audiences": "a"}, ".audiences"),
        ({"audiences": [""]}, ".audiences"),
        ({"fromHeaders": [{"prefix": "Bearer "}]}, ".fromHeaders[0].name"),
        ({"spaceDelimitedClaims": 1}, ".spaceDelimitedClaims"),
    ],
)
def test_a_rule_without_which_more_would_pass_is_closed(wrong: dict[str, Any], field: str) -> None:
    """RA-013: it knows no key, so that tokens of its issuer are refused as if its keys could not be had."""
    rules, fields = parsed(GOOD, {**RULE, **wrong}, GOOD)
    assert rules is not None
    assert field in [f.removeprefix("[1]") for f in fields]
    assert [rule.issuer for rule in rules] == ["https://good.example", "https://a.example", "https://good.example"]
    assert (rules[1].jwks, rules[1].jwks_uri) == ('{"keys":[]}', "")
    assert rules[0] == rules[2]
    assert rules[0].jwks == KEYS


@pytest.mark.parametrize("rule", [{"jwks": KEYS}, {"issuer": 3, "jwks": KEYS}, "https://a.example", {"issuer": [KEYS]}])
def test_a_rule_of_nobody_accepts_nothing(rule: Any) -> None:
    """Alone it still is a rule: a token that it could have been for is refused, not passed on unseen."""
    rules, fields = parsed(rule)
    assert rules is not None
    assert len(fields) == 1
    assert (rules[0].issuer, rules[0].jwks) == ("unreadable", '{"keys":[]}')


def test_a_demand_that_cannot_be_told_is_one() -> None:
    rules, fields = parsed(GOOD, {**RULE, "presence": "REQUIRE"})
    assert rules is not None
    assert fields == ["[1].presence"]
    assert (rules[1].presence, rules[1].jwks) == ("REQUIRED", '{"keys":[]}')


@pytest.mark.parametrize(
    ("wrong", "field", "left"),
    [
        ({"timeout": "soon"}, ".timeout", {}),
        ({"outputPayloadToHeader": "a\nb"}, ".outputPayloadToHeader", {}),
        ({"outputClaimToHeaders": [{"header": "x-a"}, {"header": "x-b", "claim": "b"}]},
         ".outputClaimToHeaders[0].claim",
         {"outputClaimToHeaders": [{"header": "x-b", "claim": "b"}]}),
        ({"fromParams": ["", "token"]}, ".fromParams", {}),
        ({"fromHeaders": [{"name": "x-token"}, {"name": ""}]}, ".fromHeaders[1].name", {}),
        ({"audiences": ["a", {}]}, ".audiences[1]", {}),
    ],
)  # fmt: skip
def test_a_part_that_a_rule_can_do_without(wrong: dict[str, Any], field: str, left: dict[str, Any]) -> None:
    rules, fields = parsed({**RULE, **wrong})
    kind = kind_of("security.istio.io/v1", "RequestAuthentication")
    assert kind is not None
    assert rules is not None
    assert fields == [f"[0]{field}"]
    if field == ".fromParams":  # one name of them is meant; which one, is not said
        assert rules[0].jwks == '{"keys":[]}'
        return
    spec = {"jwtRules": [{**RULE, **left}]}
    same = parse_object(kind, {"metadata": {"name": "r", "namespace": "n"}, "spec": spec})
    assert isinstance(same.object, RequestAuthentication)
    assert rules == same.object.spec.jwt_rules


def test_whom_it_is_for_cannot_be_told() -> None:
    """For more workloads it would accept tokens where nobody meant them to count; so it goes whole."""
    kind = kind_of("security.istio.io/v1", "RequestAuthentication")
    assert kind is not None
    spec = {"selector": {"matchLabels": {"app": "*"}}, "jwtRules": [GOOD]}
    assert parse_object(kind, {"metadata": {"name": "r", "namespace": "n"}, "spec": spec}).object is None
