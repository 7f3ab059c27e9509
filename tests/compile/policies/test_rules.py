"""Rules of AuthorizationPolicies that no recording shows (AZ-009…028), as RBAC."""

from typing import Any

import pytest
import yaml
from google.protobuf.json_format import MessageToDict

from pypilot.compile.policies.rules import RuleSettings, rbac_policy
from pypilot.kinds.authorization_policy import AuthorizationPolicy
from tests.world.objects import make

HTTP_ALLOW = RuleSettings("shop", ("td", "old"), tcp=False, allows=True)


def rule_of(text: str) -> Any:
    policy = make("AuthorizationPolicy", "p", "shop", spec={"rules": [yaml.safe_load(text) or {}]})
    assert isinstance(policy, AuthorizationPolicy)
    return policy.spec.rules[0]


def made(text: str, **settings: Any) -> dict[str, Any] | None:
    found = rbac_policy(rule_of(text), HTTP_ALLOW._replace(**settings))
    return None if found is None else MessageToDict(found, preserving_proto_field_name=True)


def principals(text: str, **settings: Any) -> list[Any]:
    found = made(text, **settings)
    assert found is not None
    return [p["and_ids"]["ids"] for p in found["principals"]]


def permissions(text: str, **settings: Any) -> list[Any]:
    found = made(text, **settings)
    assert found is not None
    return [p["and_rules"]["rules"] for p in found["permissions"]]


def name(**matcher: Any) -> dict[str, Any]:
    return {"authenticated": {"principal_name": matcher}}


def regex(expression: str) -> dict[str, Any]:
    return {"safe_regex": {"regex": expression}}


def test_a_rule_that_says_nothing_holds_for_all() -> None:
    assert made("") == {
        "permissions": [{"and_rules": {"rules": [{"any": True}]}}],
        "principals": [{"and_ids": {"ids": [{"any": True}]}}],
    }


@pytest.mark.parametrize(
    ("value", "matcher"),
    [
        ("td/ns/a/sa/b", [{"exact": "spiffe://td/ns/a/sa/b"}, {"exact": "spiffe://old/ns/a/sa/b"}]),
        ("td/ns/a/*", [{"prefix": "spiffe://td/ns/a/"}]),
        ("*/sa/b", [regex("spiffe://.*/sa/b")]),
        ("*/sa/b.c-d", [regex(r"spiffe://.*/sa/b\.c-d")]),
        ("*/sa/b(", [regex(r"spiffe://.*/sa/b\(")]),
        ("*", [regex(".+")]),
    ],
)
def test_principals_of_peers(value: str, matcher: list[Any]) -> None:
    ((found,),) = principals(f"from: [{{source: {{principals: ['{value}']}}}}]")
    assert found == {"or_ids": {"ids": [name(**m) for m in matcher]}}


@pytest.mark.parametrize(
    ("key", "value", "matcher"),
    [
        ("serviceAccounts", "web", regex("spiffe://.+/ns/shop/(.+/|)sa/web(/.+)?")),
        ("serviceAccounts", "bank/web", regex("spiffe://.+/ns/bank/(.+/|)sa/web(/.+)?")),
        ("namespaces", "a-*", regex(".*/ns/a-.*/.*")),
        ("trustDomains", "x", {"prefix": "spiffe://x/"}),
        ("serviceAccounts", "my.web-1", regex(r"spiffe://.+/ns/shop/(.+/|)sa/my\.web-1(/.+)?")),
        ("trustDomains", "*", {"prefix": "spiffe://"}),
        ("trustDomains", "x.*", regex(r"spiffe://x\.[^/]*/.*")),
        ("trustDomains", "*.x", regex(r"spiffe://[^/]*\.x/.*")),
    ],
)
def test_other_names_of_peers(key: str, value: str, matcher: dict[str, Any]) -> None:
    ((found,),) = principals(f"from: [{{source: {{{key}: ['{value}']}}}}]")
    assert found == {"or_ids": {"ids": [name(**matcher)]}}
    ((negated,),) = principals(f"from: [{{source: {{not{key[0].upper()}{key[1:]}: ['{value}']}}}}]")
    assert negated == {"not_id": found}


def test_the_same_by_condition() -> None:
    for key, field, value in (
        ("source.principal", "principals", "td/ns/a/sa/b"),
        ("source.namespace", "namespaces", "a"),
        ("source.serviceAccount", "serviceAccounts", "web"),
        ("source.trustDomain", "trustDomains", "td"),
        ("source.ip", "ipBlocks", "10.0.0.0/8"),
        ("remote.ip", "remoteIpBlocks", "2001:db8::1"),
        ("request.auth.principal", "requestPrincipals", "https://x/y"),
    ):
        by_condition = principals(f"when: [{{key: {key}, values: ['{value}']}}]")
        assert by_condition == principals(f"from: [{{source: {{{field}: ['{value}']}}}}]"), key


def claim(key: str, **matcher: Any) -> dict[str, Any]:
    path = [{"key": "payload"}, {"key": key}]
    return {"metadata": {"filter": "envoy.filters.http.jwt_authn", "path": path, "value": {"string_match": matcher}}}


@pytest.mark.parametrize(
    ("value", "issuer", "subject"),
    [
        ("*", regex(".+"), regex(".+")),
        ("https://a/b/sub", {"exact": "https://a/b"}, {"exact": "sub"}),
        ("https://a/*", {"exact": "https://a"}, regex(".+")),
        ("https://a/s*", {"exact": "https://a"}, {"prefix": "s"}),
        ("*/sub", regex(".+"), {"exact": "sub"}),
        ("*a/sub", {"suffix": "a"}, {"exact": "sub"}),
        ("*sub", regex(".+"), {"suffix": "sub"}),
        ("iss*", {"prefix": "iss"}, regex(".+")),
        ("iss", {"exact": "iss"}, {"exact": ""}),
    ],
)
def test_principals_of_tokens(value: str, issuer: dict[str, Any], subject: dict[str, Any]) -> None:
    ((found,),) = principals(f"from: [{{source: {{requestPrincipals: ['{value}']}}}}]")
    assert found == {"and_ids": {"ids": [claim("iss", **issuer), claim("sub", **subject)]}}


def test_several_values_are_alternatives_and_several_fields_are_all_needed() -> None:
    ((one, two),) = principals("from: [{source: {requestPrincipals: [a/b, c/d], ipBlocks: [10.0.0.1]}}]")
    assert len(one["or_ids"]["ids"]) == 2
    assert two == {"or_ids": {"ids": [{"direct_remote_ip": {"address_prefix": "10.0.0.1", "prefix_len": 32}}]}}
    assert len(principals("from: [{source: {namespaces: [a]}}, {source: {namespaces: [b]}}]")) == 2
    assert len(permissions("to: [{operation: {ports: ['1']}}, {operation: {ports: ['2']}}]")) == 2


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("/a", {"exact": "/a"}),
        ("/a/*", {"prefix": "/a/"}),
        ("*/a", {"suffix": "/a"}),
        ("*", regex(".+")),
    ],
)
def test_paths(value: str, path: dict[str, Any]) -> None:
    ((found,),) = permissions(f"to: [{{operation: {{paths: ['{value}']}}}}]")
    assert found == {"or_rules": {"rules": [{"url_path": {"path": path}}]}}


def test_present_headers_methods_and_hosts() -> None:
    ((host, method),) = permissions("to: [{operation: {hosts: ['*'], methods: ['*']}}]")
    assert host["or_rules"]["rules"] == [{"header": {"name": ":authority", "present_match": True}}]
    assert method["or_rules"]["rules"] == [{"header": {"name": ":method", "present_match": True}}]
    ((header,),) = principals("when: [{key: 'request.headers[X-A]', notValues: ['*']}]")
    assert header["not_id"]["or_ids"]["ids"] == [{"header": {"name": "X-A", "present_match": True}}]


def test_metadata_of_other_filters() -> None:
    ((found,),) = permissions("when: [{key: 'experimental.envoy.filters.a.b[c]', values: ['[x]', y*]}]")
    assert found["metadata"]["filter"] == "envoy.filters.a.b"
    alternatives = found["metadata"]["value"]["or_match"]["value_matchers"]
    assert [next(iter(a)) for a in alternatives] == ["list_match", "string_match"]


HTTP_ONLY = (
    "to: [{operation: {methods: [GET]}}]",
    "to: [{operation: {notPaths: [/a]}}]",
    "to: [{operation: {hosts: [a]}}]",
    "from: [{source: {requestPrincipals: ['*']}}]",
    "when: [{key: 'request.headers[a]', values: [b]}]",
    "when: [{key: 'request.auth.claims[a]', notValues: [b]}]",
    "when: [{key: request.auth.audiences, values: [b]}]",
    "when: [{key: request.auth.presenter, values: [b]}]",
)


@pytest.mark.parametrize("text", HTTP_ONLY)
def test_on_bytes_a_rule_about_requests_allows_nothing_and_denies_more(text: str) -> None:
    assert made(text, tcp=True) is None  # AZ-026
    assert made(text, tcp=True, allows=False) == made("")  # AZ-027


def test_what_bytes_have_stays() -> None:
    text = (
        "{from: [{source: {namespaces: [a], ipBlocks: [10.0.0.1]}}], to: [{operation: {ports: ['1']}}],"
        " when: [{key: connection.sni, values: [x]}, {key: destination.ip, values: [10.0.0.2]}]}"
    )
    assert made(text, tcp=True) == made(text)  # AZ-028
