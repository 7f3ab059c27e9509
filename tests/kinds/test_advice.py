"""Fields without effect together with others, and rules never reached (VAL-003), of one object alone."""

from typing import Any

import msgspec
import pytest

from pypilot.kinds import kind_of
from pypilot.kinds.parse import decode_object, parse_object

NETWORKING = "networking.istio.io/v1"


def found(kind: str, spec: dict[str, Any]) -> list[tuple[str, str]]:
    """(field, code); the same whether the object comes as data or as JSON."""
    data = {"apiVersion": NETWORKING, "kind": kind, "metadata": {"name": "x", "namespace": "n"}, "spec": spec}
    entry = kind_of(NETWORKING, kind)
    assert entry is not None
    parsed = parse_object(entry, data)
    assert parsed == decode_object(entry, msgspec.json.encode(data))
    assert parsed.object is not None
    assert all(f.severity == "warning" and f.field and f.code for f in parsed.findings), parsed.findings
    return [(f.field.removeprefix("spec."), f.code) for f in parsed.findings if f.code != "refused"]


TO = {"route": [{"destination": {"host": "b"}}]}


def at(*uris: str, **more: Any) -> dict[str, Any]:
    return {"match": [{"uri": {"prefix": uri}} for uri in uris], **TO, **more}


@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        (TO, []),
        ({"redirect": {"uri": "/x"}, "timeout": "1s"}, ["timeout"]),
        ({"directResponse": {"status": 200}, "retries": {"attempts": 1}, "headers": {}}, ["retries"]),
        ({"redirect": {"uri": "/x", "prefixRewrite": "/y"}}, ["redirect.uri"]),
        ({"redirect": {"port": 3, "derivePort": "FROM_REQUEST_PORT"}}, ["redirect.port"]),
        ({**TO, "rewrite": {"uri": "/x", "uriRegexRewrite": {"match": "a", "rewrite": "b"}}}, ["rewrite.uri"]),
        ({**TO, "mirrorPercentage": {"value": 1}}, ["mirrorPercentage"]),
        ({**TO, "mirrorPercentage": {"value": 1}, "mirror": {"host": "m"}}, []),
        (
            {**TO, "retries": {"attempts": 0, "retryOn": "5xx", "perTryTimeout": "1s"}},
            ["retries.perTryTimeout", "retries.retryOn"],
        ),
        ({**TO, "retries": {"attempts": 0}}, []),
        ({**TO, "match": [{"ignoreUriCase": True, "uri": {"regex": "a"}}]}, ["match[0].ignoreUriCase"]),
        ({**TO, "match": [{"ignoreUriCase": True, "uri": {"exact": "/a"}}]}, []),
        ({**TO, "match": [{"gateways": ["mesh"], "sourceLabels": {"a": "b"}}]}, ["match[0].sourceLabels"]),
        ({**TO, "match": [{"gateways": ["mesh"], "sourceNamespace": "a"}]}, ["match[0].sourceNamespace"]),
        ({**TO, "match": [{"sourceLabels": {"a": "b"}}]}, []),
        ({**TO, "match": [{"gateways": ["g"]}]}, ["match[0].gateways"]),
    ],
)
def test_http_rules(rule: dict[str, Any], fields: list[str]) -> None:
    expected = [(f"http[0].{name}", "no-effect") for name in fields]
    assert found("VirtualService", {"hosts": ["a"], "http": [rule]}) == expected


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([at("/a"), at("/b"), TO], []),
        ([TO, at("/a")], [("http[1]", "unreachable-rule")]),
        ([at("/"), TO], [("http[1]", "unreachable-rule")]),
        ([at("/a"), at("/a")], [("http[1]", "unreachable-rule")]),
        ([at("/a"), at("/a", "/b")], [("http[1].match[0]", "no-effect")]),
        ([{**TO, "match": [{"uri": {"prefix": "/"}, "port": 80}]}, TO], []),
        ([{**TO, "match": [{"uri": {"prefix": "/"}, "gateways": ["mesh"]}]}, TO], []),
        ([{"delegate": {"name": "d"}}, TO], []),
        (
            [at("/a"), {**at("/a"), "match": [{"uri": {"prefix": "/a"}, "name": "n"}]}],
            [("http[1]", "unreachable-rule")],
        ),
    ],
)
def test_rules_that_are_never_reached(rules: list[dict[str, Any]], expected: list[tuple[str, str]]) -> None:
    assert found("VirtualService", {"hosts": ["a"], "http": rules}) == expected


def test_tcp_rules_that_are_never_reached() -> None:
    expected = [("tcp[1]", "unreachable-rule"), ("tcp[2]", "unreachable-rule")]
    rules = [TO, {**TO, "match": [{"port": 3}]}, TO]
    assert found("VirtualService", {"hosts": ["a"], "tcp": rules}) == expected
    assert found("VirtualService", {"hosts": ["a"], "tcp": [{**TO, "match": [{"port": 3}]}, TO]}) == []


EJECT = {"outlierDetection": {"consecutive5xxErrors": 1}}


@pytest.mark.parametrize(
    ("policy", "fields"),
    [
        ({"tls": {"mode": "SIMPLE", "sni": "x", "caCertificates": "/ca"}}, []),
        ({"tls": {"sni": "x"}}, ["tls.sni"]),
        ({"tls": {"mode": "ISTIO_MUTUAL", "caCertificates": "/ca", "sni": "x"}}, ["tls.caCertificates"]),
        ({"tls": {"mode": "SIMPLE", "credentialName": "c", "caCertificates": "/ca"}}, ["tls.caCertificates"]),
        ({"loadBalancer": {"simple": "RANDOM", "consistentHash": {"useSourceIp": True}}}, ["loadBalancer.simple"]),
        ({"loadBalancer": {"simple": "RANDOM", "warmup": {"duration": "1s"}}}, ["loadBalancer.warmup"]),
        ({"loadBalancer": {"simple": "ROUND_ROBIN", "warmup": {"duration": "1s"}}}, []),
        (
            {"loadBalancer": {"consistentHash": {"useSourceIp": True, "httpHeaderName": "x"}}},
            ["loadBalancer.consistentHash.useSourceIp"],
        ),
        (
            {"loadBalancer": {"localityLbSetting": {"failover": [{"from": "a", "to": "b"}]}}},
            ["loadBalancer.localityLbSetting.failover"],
        ),
        ({**EJECT, "loadBalancer": {"localityLbSetting": {"failover": [{"from": "a", "to": "b"}]}}}, []),
        (
            {"connectionPool": {"http": {"useClientProtocol": True, "h2UpgradePolicy": "UPGRADE"}}},
            ["connectionPool.http.h2UpgradePolicy"],
        ),
        (
            {"outlierDetection": {"consecutiveLocalOriginFailures": 1}},
            ["outlierDetection.consecutiveLocalOriginFailures"],
        ),
        ({"portLevelSettings": [{"port": {"number": 1}, "tls": {"sni": "x"}}]}, ["portLevelSettings[0].tls.sni"]),
    ],
)
def test_policies(policy: dict[str, Any], fields: list[str]) -> None:
    expected = [(f"trafficPolicy.{name}", "no-effect") for name in fields]
    assert found("DestinationRule", {"host": "a", "trafficPolicy": policy}) == expected
    subset = {"name": "s", "labels": {"a": "b"}, "trafficPolicy": policy}
    within = [(f"subsets[0].{field}", code) for field, code in expected]
    assert found("DestinationRule", {"host": "a", "subsets": [subset]}) == within


def test_subsets_and_visibility() -> None:
    assert found("DestinationRule", {"host": "a", "subsets": [{"name": "s"}]}) == [("subsets[0]", "no-effect")]
    selected = {"host": "a", "workloadSelector": {"matchLabels": {"a": "b"}}}
    assert found("DestinationRule", {**selected, "exportTo": ["*"]}) == [("exportTo", "no-effect")]
    assert found("DestinationRule", {**selected, "exportTo": ["."]}) == []


@pytest.mark.parametrize(
    ("protocol", "tls", "fields"),
    [
        ("HTTP", {"httpsRedirect": True}, []),
        ("HTTP", {"httpsRedirect": True, "credentialName": "c"}, ["credentialName"]),
        ("HTTPS", {"credentialName": "c"}, ["credentialName"]),  # PASSTHROUGH is the default
        ("HTTPS", {"mode": "SIMPLE", "credentialName": "c", "minProtocolVersion": "TLSV1_3"}, []),
        ("HTTPS", {"mode": "SIMPLE", "credentialName": "c", "privateKey": "/k"}, ["privateKey"]),
        ("HTTPS", {"mode": "SIMPLE", "credentialName": "c", "caCertificates": "/ca"}, ["caCertificates"]),
        ("HTTPS", {"mode": "MUTUAL", "credentialName": "c", "caCrl": "/crl"}, ["caCrl"]),
        ("HTTPS", {"mode": "ISTIO_MUTUAL", "cipherSuites": ["x"]}, ["cipherSuites"]),
        ("TLS", {"mode": "AUTO_PASSTHROUGH", "ecdhCurves": ["X25519"]}, ["ecdhCurves"]),
    ],
)
def test_servers(protocol: str, tls: dict[str, Any], fields: list[str]) -> None:
    server = {"port": {"number": 443, "name": "x", "protocol": protocol}, "hosts": ["*"], "tls": tls}
    expected = [(f"servers[0].tls.{name}", "no-effect") for name in fields]
    assert found("Gateway", {"selector": {"a": "b"}, "servers": [server]}) == expected


def test_names_of_servers() -> None:
    """GW-032."""

    def server(name: str, port: str) -> dict[str, Any]:
        return {"port": {"number": 80, "name": port, "protocol": "HTTP"}, "hosts": ["*"], "name": name}

    servers = [server("a", "x"), server("b", "y"), server("a", "z"), server("", "x"), server("", "w")]
    expected = [("servers[3].port.name", "repeated-name"), ("servers[2].name", "repeated-name")]
    assert found("Gateway", {"selector": {"a": "b"}, "servers": servers}) == expected


def test_fields_that_are_set() -> None:
    spec = {
        "hosts": ["a"],
        "http": [{**TO, "timeuot": "1s", "corsPolicy": {"allowOrigin": ["*"]}}],
        "tcp": [{**TO, "match": [{"sourceSubnet": "10.0.0.0/8"}]}],
    }
    assert found("VirtualService", spec) == [
        ("http[0].timeuot", "unknown-field"),
        ("http[0].corsPolicy.allowOrigin", "deprecated-field"),
        ("tcp[0].match[0].sourceSubnet", "unsupported-field"),
    ]


def test_a_typo_is_told_what_was_meant() -> None:
    entry = kind_of(NETWORKING, "VirtualService")
    assert entry is not None
    spec = {"hosts": ["a"], "http": [{**TO, "timeuot": "1s", "match": [{"queryparams": {}}], "zzz": 1}]}
    parsed = parse_object(entry, {"metadata": {"name": "x"}, "spec": spec})
    assert {f.field: f.message.partition("; ")[2] for f in parsed.findings} == {
        "spec.http[0].timeuot": "did you mean timeout?",
        "spec.http[0].match[0].queryparams": "did you mean queryParams?",
        "spec.http[0].zzz": "",
    }


def test_maps_and_lists_of_messages_are_searched() -> None:
    spec = {"hosts": ["a"], "http": [{**TO, "match": [{"headers": {"x-a": {"exac": "1"}}}]}]}
    assert found("VirtualService", spec) == [("http[0].match[0].headers.x-a.exac", "unknown-field")]
