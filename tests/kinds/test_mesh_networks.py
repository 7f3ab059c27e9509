"""MESH-045: what can be used of the text of mesh networks, and what is said of the rest."""

import pytest

from pypilot.kinds.mesh_networks import NetworkEndpoints, parse_mesh_networks

GOOD = """
networks:
  east:
    endpoints: [{fromRegistry: Kubernetes}, {fromCidr: 10.0.0.0/8}]
    gateways: [{address: 1.2.3.4, port: 15443}]
  west:
    gateways: [{registryServiceName: gw.istio-system.svc.cluster.local, port: 15443}]
"""


def test_networks_are_read() -> None:
    networks, findings = parse_mesh_networks(GOOD)
    assert not findings
    assert networks is not None
    assert networks.networks["east"].endpoints == (
        NetworkEndpoints(from_registry="Kubernetes"),
        NetworkEndpoints(from_cidr="10.0.0.0/8"),
    )
    assert networks.networks["west"].gateways[0].port == 15443


def test_nothing_is_no_networks() -> None:
    for text in ("", "networks: {}", "{}"):
        networks, findings = parse_mesh_networks(text)
        assert networks is not None
        assert not networks.networks
        assert not findings


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("networks: [", ""),
        ("- a", ""),
        ("networks: {a: {endpoints: [{fromCidr: 10.0.0.0/99}]}}", "networks.a.endpoints[0].fromCidr"),
        ("networks: {a: {endpoints: [{}]}}", "networks.a.endpoints[0]"),
        ("networks: {a: {endpoints: [{fromCidr: 10.0.0.0/8, fromRegistry: b}]}}", "networks.a.endpoints[0]"),
        ("networks: {a: {gateways: [{port: 1}]}}", "networks.a.gateways[0]"),
        ("networks: {a: {gateways: [{address: 1.1.1.1, port: 70000}]}}", "networks.a.gateways[0].port"),
        ("networks: {a: {gateways: [{address: 1.1.1.1}]}}", "networks.a.gateways[0].port"),
    ],
)
def test_what_cannot_be_used_is_named(text: str, field: str) -> None:
    networks, findings = parse_mesh_networks(text)
    assert networks is None
    assert [f.field for f in findings] == [field]


def test_unknown_fields_are_warnings() -> None:
    networks, findings = parse_mesh_networks("networks: {a: {colour: red}}")
    assert networks is not None
    assert [(f.severity, f.field) for f in findings] == [("warning", "networks.a.colour")]


def test_a_gateway_that_is_a_name_is_kept_with_a_warning() -> None:
    networks, (finding,) = parse_mesh_networks("networks: {a: {gateways: [{address: gw.example, port: 443}]}}")
    assert networks is not None
    assert networks.networks["a"].gateways[0].address == "gw.example"
    assert (finding.field, finding.severity) == ("networks.a.gateways[0].address", "warning")
