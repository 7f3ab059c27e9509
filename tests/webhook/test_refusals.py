"""What could be served but Istio's webhook refuses (VAL-002, VAL-004…006, VAL-008, VAL-009).

It is denied when it is written, and only warned of where it is there already.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pypilot.kinds import kind_of
from pypilot.kinds.parse import parse_object
from pypilot.webhook.review import check_object

CASES = Path(__file__).parent / "refusals"
TO = [{"destination": {"host": "b.example"}}]
ACTIONS = {"redirect", "directResponse", "delegate", "route"}
NETWORKING, SECURITY = "networking.istio.io/v1", "security.istio.io/v1"


def cases(name: str) -> list[Any]:
    read = yaml.safe_load((CASES / f"{name}.yaml").read_text())
    return [pytest.param(case, id=f"{i}-{','.join(case['denied'])[:60]}") for i, case in enumerate(read)]


def denied(kind: str, spec: Any, name: str = "x", api: str = NETWORKING) -> list[str]:
    """The fields for which it is denied, which must be served all the same."""
    data = {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "n"}, "spec": spec}
    entry = kind_of(api, kind)
    assert entry is not None
    parsed = parse_object(entry, data)
    assert parsed.object is not None
    assert {f.severity for f in parsed.findings} <= {"warning"}, parsed.findings
    errors = check_object(data).errors
    fields = [f.field.removeprefix("spec.") for f in parsed.findings if f.code in ("refused", "no-subnet")]
    assert [error.partition(": ")[0].removeprefix("spec.") for error in errors] == fields
    return sorted(fields)


@pytest.mark.parametrize("case", cases("virtual-service"))
def test_virtual_services(case: dict[str, Any]) -> None:
    spec: dict[str, Any] = {"hosts": ["a.example"], **case.get("spec", {})}
    for kind in ("http", "tls", "tcp"):
        if kind in case:
            rule = case[kind]
            spec[kind] = [rule if ACTIONS & rule.keys() else {**rule, "route": TO}]
    if not {"http", "tls", "tcp"} & spec.keys():
        spec["http"] = [{"route": TO}]
    assert denied("VirtualService", spec) == case["denied"]


@pytest.mark.parametrize("case", cases("destination-rule"))
def test_destination_rules(case: dict[str, Any]) -> None:
    policy = {"trafficPolicy": case["policy"]} if "policy" in case else {}
    assert denied("DestinationRule", {"host": "a.example", **policy, **case.get("spec", {})}) == case["denied"]


@pytest.mark.parametrize("case", cases("gateway"))
def test_gateways(case: dict[str, Any]) -> None:
    server = {"port": {"number": 80, "protocol": "HTTP", "name": "http"}, "hosts": ["a.example"]}
    spec = {"servers": [{**server, **case.get("server", {})}], **case.get("spec", {})}
    assert denied("Gateway", spec, case.get("name", "x")) == case["denied"]


def test_ports_of_two_servers_have_names_of_their_own() -> None:
    port = {"number": 80, "protocol": "HTTP", "name": "http"}
    servers = [{"port": port, "hosts": ["a.example"]}, {"port": {**port, "number": 81}, "hosts": ["b.example"]}]
    assert denied("Gateway", {"servers": servers}) == ["servers[1].port.name"]


def test_ports_of_a_peer_authentication_need_a_selector() -> None:
    ports = {"portLevelMtls": {"80": {"mode": "DISABLE"}}, "mtls": {"mode": "STRICT"}}
    assert denied("PeerAuthentication", ports, api=SECURITY) == ["portLevelMtls"]
    selecting = {**ports, "selector": {"matchLabels": {"app": "a"}}}
    assert denied("PeerAuthentication", selecting, api=SECURITY) == []


def test_headers_and_times_of_a_request_authentication() -> None:
    output = [{"header": "x-a_1", "claim": "a"}, {"header": "x a", "claim": "a"}]
    rule = {"issuer": "i", "outputClaimToHeaders": output, "spaceDelimitedClaims": ["", "b"], "timeout": "1us"}
    path = "jwtRules[0]."
    expected = ["outputClaimToHeaders[1].header", "spaceDelimitedClaims[0]", "timeout"]
    got = denied("RequestAuthentication", {"jwtRules": [rule]}, api=SECURITY)
    assert [field.removeprefix(path) for field in got] == expected


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"issuer": ""}, "issuer"),
        ({"issuer": "i", "jwks": "{}"}, "jwks"),
        ({"issuer": "i", "jwksUri": "ftp://a/b"}, "jwksUri"),
        ({"issuer": "i", "jwksUri": "https://a/b", "jwks": '{"keys": []}'}, "jwksUri"),
        ({"issuer": "i", "audiences": [""]}, "audiences"),
        ({"issuer": "i", "fromHeaders": [{"name": ""}]}, "fromHeaders[0].name"),
        ({"issuer": "i", "fromParams": [""]}, "fromParams"),
        ({"issuer": "i", "fromCookies": [""]}, "fromCookies"),
        ({"issuer": "i", "outputClaimToHeaders": [{"header": "x", "claim": ""}]}, "outputClaimToHeaders[0]"),
    ],
)
def test_rules_of_tokens_that_cannot_be_served(rule: dict[str, Any], field: str) -> None:
    """VAL-008."""
    data = {"apiVersion": SECURITY, "kind": "RequestAuthentication", "metadata": {"name": "x", "namespace": "n"}}
    (error,) = check_object({**data, "spec": {"jwtRules": [rule]}}).errors
    assert error.startswith(f"spec.jwtRules[0].{field}: ")


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x"])
def test_numbers_of_ports_of_a_peer_authentication(port: str) -> None:
    """VAL-009."""
    spec = {"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {port: {"mode": "STRICT"}}}
    data = {"apiVersion": SECURITY, "kind": "PeerAuthentication", "metadata": {"name": "x", "namespace": "n"}}
    (error,) = check_object({**data, "spec": spec}).errors
    assert error.startswith(f"spec.portLevelMtls.{port}: ")


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"egress": [{"hosts": ["./a.example", "*/*", "ns/*.b.example"]}]}, []),
        ({"egress": [{"hosts": ["./short"]}]}, ["egress[0].hosts[0]"]),
        (
            {"ingress": [{"port": {"number": 80, "protocol": "HTTP"}, "connectionPool": {}}]},
            ["ingress[0].connectionPool"],
        ),
        (
            {"inboundConnectionPool": {"tcp": {"connectTimeout": "1us"}}},
            ["inboundConnectionPool.tcp.connectTimeout"],
        ),
        (
            {"workloadSelector": {"labels": {"a": "*"}}, "egress": [{"hosts": ["*/*"]}]},
            ["workloadSelector.labels.a"],
        ),
    ],
)
def test_sidecars(spec: dict[str, Any], fields: list[str]) -> None:
    assert denied("Sidecar", spec) == fields
