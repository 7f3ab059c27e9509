"""Which policies hold for a workload, and the filters of such a set (PA, RA, AZ rows that no recording shows)."""

from typing import Any

import pytest
import yaml
from google.protobuf.json_format import MessageToDict

from pypilot.compile.policies.filters import http_policy_filters, tcp_policy_filters
from pypilot.compile.policies.jwt import NO_KEY
from pypilot.compile.policies.selection import mutual_tls, namespace_mode, policy_set, refuses_mutual_tls
from pypilot.kinds.mesh_config_parse import parse_mesh_config
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.model import Endpoint, MeshPort, Protocol
from pypilot.world.reader import Reader
from pypilot.world.world import Constants, KeyFetching, World
from tests.golden import node
from tests.world.objects import make, service

MESH = """
extensionProviders:
- name: good
  envoyExtAuthzHttp: {service: auth.default.svc.cluster.local, port: 8000}
- name: bytes
  envoyExtAuthzGrpc: {service: default/auth.default.svc.cluster.local, port: 9000, failOpen: true, statusOnError: '503'}
- {name: absent, envoyExtAuthzHttp: {service: nowhere.example, port: 80}}
- name: star
  envoyExtAuthzHttp: {service: auth.default.svc.cluster.local, port: 80, includeRequestHeadersInCheck: ['*']}
- {name: status, envoyExtAuthzHttp: {service: auth.default.svc.cluster.local, port: 80, statusOnError: '999'}}
- {name: path, envoyExtAuthzHttp: {service: auth.default.svc.cluster.local, port: 80, pathPrefix: auth}}
- {name: port, envoyExtAuthzHttp: {service: auth.default.svc.cluster.local, port: 0}}
- {name: neither}
"""


def reader_of(*documents: str, **constants: Any) -> Reader:
    """A world of policies, each `KIND NAMESPACE/NAME: {spec}`."""
    objects = [service("auth")]
    for text in documents:
        for head, body in (yaml.safe_load(text) or {}).items():
            kind, _, place = head.partition(" ")
            namespace, _, name = place.partition("/")
            spec, annotations = dict(body or {}), (body or {}).get("annotations", {})
            spec.pop("annotations", None)
            objects.append(make(kind, name, namespace, spec=spec, annotations=annotations))
    mesh, findings = parse_mesh_config(MESH)
    assert mesh is not None, findings
    world = World(constants=Constants(**constants))
    return Reader(advance(world, Delta(upserts=tuple(objects), mesh=mesh)))


def named(message: Any) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True)


def http(*documents: str, **proxy: Any) -> list[dict[str, Any]]:
    reader = reader_of(*documents)
    return [named(f) for f in http_policy_filters(reader, policy_set(reader, node(proxy)))]


def tcp(*documents: str) -> list[dict[str, Any]]:
    reader = reader_of(*documents)
    return [named(f) for f in tcp_policy_filters(reader, policy_set(reader, node({})))]


def test_selection_by_namespace_labels_and_targets() -> None:
    reader = reader_of(
        "AuthorizationPolicy istio-system/everywhere: {rules: [{}]}",
        "AuthorizationPolicy default/all: {rules: [{}]}",
        "AuthorizationPolicy default/mine: {selector: {matchLabels: {app: client}}, rules: [{}]}",
        "AuthorizationPolicy default/other: {selector: {matchLabels: {app: x}}, rules: [{}]}",
        "AuthorizationPolicy other/all: {rules: [{}]}",
        "AuthorizationPolicy default/gw: {targetRefs: [{kind: Gateway, name: g}], rules: [{}]}",
    )
    assert [ref.name for ref in policy_set(reader, node({})).allow] == ["everywhere", "all", "mine"]
    assert [ref.name for ref in policy_set(reader, node({"namespace": "other"})).allow] == ["everywhere", "all"]


def test_no_policy_no_filter_and_an_empty_policy_refuses_all() -> None:
    assert http() == []
    (found,) = http("AuthorizationPolicy default/none: {}")  # AZ-003
    rules = found["typed_config"]["rules"]["policies"]
    assert rules == {
        "ns[default]-policy[none]-rule[0]": {
            "permissions": [{"not_rule": {"any": True}}],
            "principals": [{"not_id": {"any": True}}],
        }
    }


def test_order_of_actions() -> None:
    found = http(
        "AuthorizationPolicy default/allow: {rules: [{}]}",
        "AuthorizationPolicy default/deny: {action: DENY, rules: [{}]}",
        "AuthorizationPolicy default/audit: {action: AUDIT, rules: [{}]}",
        "AuthorizationPolicy default/custom: {action: CUSTOM, provider: {name: good}, rules: [{}]}",
        "RequestAuthentication default/jwt: {jwtRules: [{issuer: a}]}",
    )
    names = [f["name"].rpartition(".")[2] for f in found]
    assert names == ["rbac", "ext_authz", "jwt_authn", "rbac", "rbac", "rbac"]  # AZ-002, AZ-041
    assert [f["typed_config"]["rules"].get("action", "ALLOW") for f in found[3:]] == ["LOG", "DENY", "ALLOW"]


def test_dry_runs_are_only_seen() -> None:
    dry = "annotations: {istio.io/dry-run: 'true'}"
    (found,) = http(f"AuthorizationPolicy default/a: {{action: DENY, rules: [{{}}], {dry}}}")  # AZ-008
    config = found["typed_config"]
    assert "rules" not in config
    assert config["shadow_rules"]["action"] == "DENY"
    assert config["shadow_rules_stat_prefix"] == "istio_dry_run_deny_"
    (both,) = http(f"AuthorizationPolicy default/a: {{rules: [{{}}], {dry}}}", "AuthorizationPolicy default/b: {}")
    assert list(both["typed_config"]["rules"]["policies"]) == ["ns[default]-policy[b]-rule[0]"]
    assert list(both["typed_config"]["shadow_rules"]["policies"]) == ["ns[default]-policy[a]-rule[0]"]
    custom, _ = http(
        f"AuthorizationPolicy default/a: {{action: CUSTOM, provider: {{name: good}}, rules: [{{}}], {dry}}}"
    )  # AZ-040
    assert list(custom["typed_config"]["rules"]["policies"]) == ["istio-ext-authz-good-ns[default]-policy[a]-rule[0]"]


def test_who_cannot_be_asked_refuses() -> None:
    for provider in ("unknown", "absent", "star", "status", "path", "port", "neither", "Bad_Name"):
        (found,) = http(
            f"AuthorizationPolicy default/a: {{action: CUSTOM, provider: {{name: {provider}}}, rules: [{{}}]}}"
        )  # AZ-032, AZ-033
        rules = found["typed_config"]["rules"]
        assert rules["action"] == "DENY"
        assert [key.rpartition("-deny-")[2] for key in rules["policies"]] == ["due-to-bad-CUSTOM-action"]


TWO = (
    "AuthorizationPolicy default/a: {action: CUSTOM, provider: {name: good}, rules: [{}]}",
    "AuthorizationPolicy default/b: {action: CUSTOM, provider: {name: bytes}, rules: [{}]}",
)


def test_two_providers_on_a_workload_refuse() -> None:
    found = http(*TWO)  # AZ-031
    assert [f["typed_config"]["rules"]["action"] for f in found] == ["DENY", "DENY"]


def test_two_providers_are_asked_one_after_the_other_where_that_is_wanted() -> None:
    reader = reader_of(*TWO, several_authorizers=True)  # AZ-031
    found = [named(f) for f in http_policy_filters(reader, policy_set(reader, node({})))]
    assert [f["name"].rpartition(".")[2] for f in found] == ["rbac", "ext_authz"] * 2
    asked = [f["typed_config"]["filter_enabled_metadata"]["value"]["string_match"]["prefix"] for f in found[1::2]]
    assert asked == ["istio-ext-authz-bytes", "istio-ext-authz-good"]
    rbac, asking = tcp_policy_filters(reader, policy_set(reader, node({})))
    assert (rbac.name, asking.name) == ("envoy.filters.network.rbac", "envoy.filters.network.ext_authz")


def test_only_a_grpc_provider_is_asked_about_bytes() -> None:
    custom = "AuthorizationPolicy default/a: {{action: CUSTOM, provider: {{name: {}}}, rules: [{{}}]}}"
    assert tcp(custom.format("good")) == []  # AZ-039
    rbac, asking = tcp(custom.format("bytes"))
    assert rbac["typed_config"]["shadow_rules_stat_prefix"] == "istio_ext_authz_"
    assert asking["typed_config"]["failure_mode_allow"] is True
    assert asking["typed_config"]["grpc_service"]["timeout"] == "600s"  # AZ-035
    _, http_form = http(custom.format("bytes"))
    assert http_form["typed_config"]["status_on_error"] == {"code": "ServiceUnavailable"}


def jwt(*rules: str, **proxy: Any) -> dict[str, Any]:
    (found,) = http(f"RequestAuthentication default/jwt: {{jwtRules: [{', '.join(rules)}]}}", **proxy)
    config: dict[str, Any] = found["typed_config"]
    return config


def test_one_rule_lets_requests_without_a_token_pass_unless_it_is_demanded() -> None:
    (rule,) = jwt("{issuer: a, jwks: '{\"keys\":[]}'}")["rules"]
    assert rule["requires"]["requires_any"]["requirements"] == [{"provider_name": "origins-0"}, {"allow_missing": {}}]
    (rule,) = jwt("{issuer: a, presence: REQUIRED}")["rules"]
    assert rule["requires"] == {"provider_name": "origins-0"}
    (rule,) = jwt("{issuer: a, presence: REQUIRED}", "{issuer: b}")["rules"]
    names = [r["provider_name"] for r in rule["requires"]["requires_any"]["requirements"]]
    assert names == ["origins-0", "origins-1"]


def test_keys_that_are_not_known_refuse_every_token() -> None:
    provider = jwt("{issuer: a, jwksUri: 'https://a/keys'}")["providers"]["origins-0"]
    assert provider["local_jwks"]["inline_string"] == NO_KEY  # RA-013
    assert "forward" not in provider


def test_keys_that_envoy_does_not_know_refuse_every_token() -> None:
    for keys in ('{"keys":[]}', '{"keys":[{"kty":"x"}]}', '{"keys":[{"kty":"RSA","n":"a"}]}', '{"keys":[7]}'):
        made = jwt(f"{{issuer: a, jwks: '{keys}'}}")["providers"]["origins-0"]
        assert made["local_jwks"]["inline_string"] == NO_KEY
    good = '{"keys":[{"kty":"RSA","n":"a","e":"b"}]}'
    made = jwt(f"{{issuer: a, jwks: '{good}'}}")["providers"]["origins-0"]
    assert made["local_jwks"]["inline_string"] == good


def key_places(fetching: KeyFetching, **rule: str) -> dict[str, Any]:
    spec = {"RequestAuthentication default/jwt": {"jwtRules": [{"issuer": "a", **rule}]}}
    reader = reader_of(yaml.safe_dump(spec), key_fetching=fetching)
    (found,) = (named(f) for f in http_policy_filters(reader, policy_set(reader, node({}))))
    provider = found["typed_config"]["providers"]["origins-0"]
    return {key: value for key, value in provider.items() if key.endswith("_jwks")}


AUTH = "auth.default.svc.cluster.local"


@pytest.mark.parametrize(
    ("uri", "timeout", "cluster"),
    [
        (f"http://{AUTH}/keys", "5s", f"outbound|80||{AUTH}"),
        (f"https://{AUTH}/keys", "2s", f"outbound|443||{AUTH}"),
        (f"http://{AUTH}:8000/keys", "5s", f"outbound|8000||{AUTH}"),
    ],
)
@pytest.mark.parametrize("fetching", ["hybrid", "envoy"])
def test_envoy_fetches_keys_from_services(fetching: KeyFetching, uri: str, timeout: str, cluster: str) -> None:
    remote = {"http_uri": {"uri": uri, "cluster": cluster, "timeout": timeout}, "cache_duration": "300s"}
    assert key_places(fetching, jwksUri=uri, timeout=timeout) == {"remote_jwks": remote}  # RA-017…019


def test_who_fetches_keys_of_strangers() -> None:
    uri = "https://keys.example/k"
    assert key_places("hybrid", jwksUri=uri) == {"local_jwks": {"inline_string": NO_KEY}}  # RA-017
    assert key_places("envoy", jwksUri=uri)["remote_jwks"]["http_uri"]["cluster"] == "outbound|443||keys.example"
    assert "local_jwks" in key_places("control-plane", jwksUri=f"http://{AUTH}/keys")
    inline = '{"keys":[{"kty":"oct","k":"eA"}]}'
    assert key_places("envoy", jwks=inline) == {"local_jwks": {"inline_string": inline}}


def test_claims_may_choose_the_route_at_a_gateway() -> None:
    rule = "{issuer: a, spaceDelimitedClaims: [roles, scope, aims]}"
    at_edge = jwt(rule, type="router")["providers"]["origins-0"]
    assert at_edge["clear_route_cache"] is True  # RA-010
    assert at_edge["normalize_payload_in_metadata"]["space_delimited_claims"] == [
        *("aims", "permission", "roles", "scope")
    ]
    assert "clear_route_cache" not in jwt(rule)["providers"]["origins-0"]


def test_modes_of_mesh_namespace_workload_and_port() -> None:
    reader = reader_of(
        "PeerAuthentication istio-system/default: {mtls: {mode: STRICT}}",
        "PeerAuthentication a/default: {mtls: {mode: UNSET}}",
        "PeerAuthentication b/default: {mtls: {mode: DISABLE}}",
        "PeerAuthentication a/web: {selector: {matchLabels: {app: web}}, mtls: {mode: PERMISSIVE},"
        " portLevelMtls: {'80': {mode: DISABLE}, '81': {mode: UNSET}}}",
        "PeerAuthentication istio-system/one: {selector: {matchLabels: {app: web}}, mtls: {mode: DISABLE}}",
    )
    assert [namespace_mode(reader, n) for n in ("a", "b", "c")] == ["STRICT", "DISABLE", "STRICT"]  # PA-001, PA-004
    web = mutual_tls(reader, "a", (("app", "web"),))
    assert (web.default, web.of(80), web.of(81), web.of(82)) == ("PERMISSIVE", "DISABLE", "PERMISSIVE", "PERMISSIVE")
    assert mutual_tls(reader, "istio-system", (("app", "web"),)).default == "STRICT"
    assert mutual_tls(reader_of(), "a", ()).default == "PERMISSIVE"  # PA-002


def test_of_several_policies_the_oldest_counts() -> None:
    old = make(
        "PeerAuthentication", "z", "a", creationTimestamp="2020-01-01T00:00:00Z", spec={"mtls": {"mode": "STRICT"}}
    )
    new = make(
        "PeerAuthentication", "b", "a", creationTimestamp="2021-01-01T00:00:00Z", spec={"mtls": {"mode": "DISABLE"}}
    )
    reader = Reader(advance(World(), Delta(upserts=(new, old))))
    assert namespace_mode(reader, "a") == "STRICT"  # PA-003


def test_endpoints_that_take_plain_text_alone() -> None:
    reader = reader_of(
        "PeerAuthentication a/web: {selector: {matchLabels: {app: web}}, portLevelMtls: {'8080': {mode: DISABLE}}}",
        "PeerAuthentication b/default: {mtls: {mode: DISABLE}}",
    )
    port = MeshPort(80, "http", Protocol.HTTP)

    def refuses(namespace: str, app: str, target: int) -> bool:
        labels = (("app", app),)
        return refuses_mutual_tls(reader, Endpoint("10.0.0.1", (("http", target),), labels, namespace=namespace), port)

    assert refuses("a", "web", 8080)  # PA-015, EDS-005
    assert not refuses("a", "web", 8081)
    assert not refuses("a", "db", 8080)
    assert refuses("b", "db", 8080)
    assert not refuses("c", "db", 8080)
