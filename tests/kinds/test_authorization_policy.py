"""AuthorizationPolicies that Envoy would refuse or die of, and what is left of those in which something is wrong."""

from typing import Any

import pytest

from pypilot.kinds import kind_of
from pypilot.kinds.authorization_policy import AuthorizationPolicy, Rule
from pypilot.kinds.authorization_policy_validation import is_address, is_known_key, is_sound_path
from pypilot.kinds.parse import parse_object


def parsed(action: str, *rules: dict[str, Any]) -> tuple[AuthorizationPolicy | None, list[str]]:
    kind = kind_of("security.istio.io/v1", "AuthorizationPolicy")
    assert kind is not None
    spec = {"action": action, "rules": list(rules), **({"provider": {"name": "p"}} if action == "CUSTOM" else {})}
    found = parse_object(kind, {"metadata": {"name": "p", "namespace": "n"}, "spec": spec})
    assert found.object is None or isinstance(found.object, AuthorizationPolicy)
    return found.object, [f.field for f in found.findings if f.severity == "error"]


@pytest.mark.parametrize("path", ["/{*}", "/a/{*}/", "/a=b/{*}/c", "/{*}/{**}", "/{**}/a", "/{**}/", "/a b", "/*"])
def test_sound_paths(path: str) -> None:
    assert is_sound_path(path)


@pytest.mark.parametrize(
    "path",
    ["/{**}/a/{*}", "/{**}/{**}", "/a b/{*}", "/é/{*}", "//{*}", "/a//{*}", "/a?b/{*}", "a/{*}", "/a{*}", "/{a}"],
)
def test_paths_of_which_envoy_dies(path: str) -> None:
    assert not is_sound_path(path)


def test_addresses_have_their_length_in_bits() -> None:
    assert all(map(is_address, ("10.0.0.1", "10.1.2.3/8", "::1", "fe80::/10")))
    assert not any(map(is_address, ("10.0.0.0/255.0.0.0", "fe80::1%eth0", "10.0.0.0/", "10.0.0.0/٣", "10.1/16")))


def test_header_names_have_no_line_breaks() -> None:
    assert is_known_key("request.headers[x-a]")
    assert not is_known_key("request.headers[x\na]")


@pytest.mark.parametrize("field", ["namespaces", "notNamespaces", "serviceAccounts"])
def test_what_becomes_an_expression_must_be_one(field: str) -> None:
    assert parsed("ALLOW", {"from": [{"source": {field: ["a("]}}]})[1] == [f"spec.rules[0].from[0].source.{field}[0]"]
    assert not parsed("ALLOW", {"from": [{"source": {field: ["a"]}}]})[1]


GOOD = {"to": [{"operation": {"methods": ["GET"]}}]}
WRONG = {
    "from": [{"source": {"ipBlocks": ["nowhere"], "namespaces": ["a"]}}],
    "to": [{"operation": {"ports": ["x"]}}],
    "when": [{"key": "unheard.of", "values": ["1"]}, {"key": "source.ip", "values": ["10.0.0.1"]}],
}
FIELDS = ["spec.rules[1].from[0].source.ipBlocks[0]", "spec.rules[1].to[0].operation.ports[0]",
          "spec.rules[1].when[0].key"]  # fmt: skip


@pytest.mark.parametrize("action", ["ALLOW", "AUDIT"])
def test_a_wrong_rule_that_allows_goes(action: str) -> None:
    policy, fields = parsed(action, GOOD, WRONG, GOOD)
    assert policy is not None
    assert len(policy.spec.rules) == 2
    assert sorted(fields) == FIELDS


@pytest.mark.parametrize("action", ["DENY", "CUSTOM"])
def test_a_wrong_rule_that_denies_loses_only_what_is_wrong(action: str) -> None:
    policy, fields = parsed(action, GOOD, WRONG, GOOD)
    assert policy is not None
    rule = policy.spec.rules[1]
    assert len(policy.spec.rules) == 3
    assert (rule.from_[0].source.namespaces, rule.from_[0].source.ip_blocks) == (("a",), ())  # type: ignore[union-attr]
    assert rule.to == ()
    assert [condition.key for condition in rule.when] == ["source.ip"]
    assert sorted(fields) == FIELDS


def test_a_rule_of_which_nothing_is_left_denies_everything() -> None:
    policy, fields = parsed("DENY", {"when": [{"key": "unheard.of", "values": ["1"]}]})
    assert policy is not None
    assert policy.spec.rules == (Rule(),)
    assert fields == ["spec.rules[0].when[0].key"]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"action": "CUSTOM", "rules": [{}]}, "spec.provider.name"),
        ({"action": "CUSTOM", "rules": [{}], "provider": {}}, "spec.provider.name"),
        ({"action": "CUSTOM", "provider": {"name": "p"}}, "spec.rules"),
        ({"action": "DENY", "rules": [{}], "provider": {"name": "p"}}, "spec.provider"),
    ],
)
def test_a_policy_stays_without_a_word_on_who_decides(spec: dict[str, Any], field: str) -> None:
    kind = kind_of("security.istio.io/v1", "AuthorizationPolicy")
    assert kind is not None
    found = parse_object(kind, {"metadata": {"name": "p", "namespace": "n"}, "spec": spec})
    assert isinstance(found.object, AuthorizationPolicy)
    assert found.object.spec.action == spec["action"]
    assert not found.clean
    assert [f.field for f in found.findings if f.severity == "error"] == [field]


BROKEN: list[Any] = [
    7,
    {"from": 3},
    {"from": [{}]},
    {"to": [{"operation": {"paths": 3}}]},
    {"to": [{"operation": {"paths": [{}], "notPaths": ["/{x}"], "ports": ["0"]}}]},
    {"when": [{"values": ["x"]}]},
    {"when": [{"key": "source.ip"}, {"key": "remote.ip"}]},
]


@pytest.mark.parametrize("rule", BROKEN)
def test_whatever_is_wrong_the_other_rules_stay(rule: Any) -> None:
    policy, fields = parsed("DENY", GOOD, rule)
    assert fields
    assert policy is not None
    assert policy.spec.rules[0].to[0].operation is not None
    assert policy.spec.rules[0].to[0].operation.methods == ("GET",)


ALL = {"action": "DENY", "rules": [{}]}
"""What denies everything."""
WEB = {"matchLabels": {"app": "web"}}
WILD = {"matchLabels": {"app": "web", "app.kubernetes.io/version": "v*"}}


@pytest.mark.parametrize(
    ("spec", "field", "held"),
    [
        ({"action": "deny", "selector": WEB, "rules": [GOOD]}, "spec.action", {**ALL, "selector": WEB}),
        ({"action": 1, "rules": [GOOD], "provider": {"name": "p"}}, "spec.action", ALL),
        ("DENY", "spec", ALL),
        ({"action": "DENY", "rules": [GOOD], "selector": "web"}, "spec.selector", {"action": "DENY", "rules": [GOOD]}),
        (
            {"action": "DENY", "rules": [GOOD], "selector": WILD},
            "spec.selector.matchLabels.app.kubernetes.io/version",
            {"action": "DENY", "rules": [GOOD], "selector": WEB},
        ),
        ({"rules": [GOOD], "selector": {"matchLabels": ["web"]}}, "spec.selector.matchLabels", {}),
        (
            {"action": "ALLOW", "rules": [GOOD], "selector": WILD},
            "spec.selector.matchLabels.app.kubernetes.io/version",
            {"selector": WEB},
        ),
        ({"action": "ALLOW", "rules": "all"}, "spec.rules", {}),
        ({"action": "DENY", "selector": WEB, "rules": {}}, "spec.rules", {**ALL, "selector": WEB}),
        ({"action": "DENY", "rules": [GOOD, "all"]}, "spec.rules[1]", {"action": "DENY", "rules": [GOOD, {}]}),
    ],
)
def test_what_cannot_be_told_opens_nothing(spec: Any, field: str, held: dict[str, Any]) -> None:
    """The policy stays as what is at least as strict as anything that it can mean."""
    kind = kind_of("security.istio.io/v1", "AuthorizationPolicy")
    assert kind is not None
    metadata = {"name": "p", "namespace": "n"}
    found = parse_object(kind, {"metadata": metadata, "spec": spec})
    assert found.object == parse_object(kind, {"metadata": metadata, "spec": held}).object
    (finding,) = (f for f in found.findings if f.severity == "error")
    assert finding.field == field
    assert "until it is corrected" in finding.message


def test_who_is_asked_cannot_be_told() -> None:
    """AZ-032: a policy that nobody decides denies; another is as if it had not been said."""
    kind = kind_of("security.istio.io/v1", "AuthorizationPolicy")
    assert kind is not None
    spec = {"action": "CUSTOM", "rules": [GOOD, WRONG], "provider": ["p"]}
    found = parse_object(kind, {"metadata": {"name": "p", "namespace": "n"}, "spec": spec})
    assert isinstance(found.object, AuthorizationPolicy)
    assert found.object.spec.provider is None
    assert len(found.object.spec.rules) == 2
    assert {f.field for f in found.findings} == {"spec.provider", "spec.provider.name", *FIELDS}


def test_what_only_observes_is_not_held() -> None:
    kind = kind_of("security.istio.io/v1", "AuthorizationPolicy")
    assert kind is not None
    spec = {"action": "AUDIT", "rules": [GOOD], "selector": 3}
    assert parse_object(kind, {"metadata": {"name": "p", "namespace": "n"}, "spec": spec}).object is None
