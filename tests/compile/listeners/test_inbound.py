"""Inbound chains and inspectors: every kind of connection finds a chain, and no server is kept waiting."""

from typing import Any

import pytest
from envoy.config.listener.v3 import listener_components_pb2 as components

from pypilot.compile.listeners.inbound_matches import inbound_matches
from pypilot.compile.listeners.inspectors import inspectors
from pypilot.kinds.peer_authentication import MutualTLSMode
from pypilot.world.model import Protocol
from tests.compile.listeners.decoding import listeners_of
from tests.golden import node
from tests.world.objects import make, pod, service


def kinds(protocol: Protocol, mode: MutualTLSMode) -> list[tuple[str, str, bool]]:
    return [("http" if m.http else "tcp", m.transport, m.terminates_tls) for m in inbound_matches(protocol, mode)]


def alpn(protocol: Protocol, mode: MutualTLSMode) -> list[tuple[str, ...]]:
    return [m.alpn for m in inbound_matches(protocol, mode)]


ISTIO = ("istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2")


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB])
def test_http(protocol: Protocol) -> None:
    assert kinds(protocol, "PERMISSIVE") == [("http", "tls", True), ("http", "raw_buffer", False)]
    assert alpn(protocol, "PERMISSIVE") == [ISTIO, ()]  # PA-008
    assert kinds(protocol, "DISABLE") == [("http", "raw_buffer", False)]  # PA-011
    assert kinds(protocol, "STRICT") == [("http", "tls", True)]  # PA-005


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.TLS, Protocol.HTTPS, Protocol.MYSQL, Protocol.UDP])
def test_tcp(protocol: Protocol) -> None:
    assert kinds(protocol, "PERMISSIVE") == [("tcp", "tls", True), ("tcp", "tls", False), ("tcp", "raw_buffer", False)]
    assert alpn(protocol, "PERMISSIVE") == [ISTIO, (), ()]  # PA-009
    assert kinds(protocol, "DISABLE") == [("tcp", "raw_buffer", False)]  # PA-011
    assert kinds(protocol, "STRICT") == [("tcp", "tls", True)]  # PA-006


@pytest.mark.parametrize("protocol", [Protocol.UNSUPPORTED, Protocol.HBONE])
def test_undeclared(protocol: Protocol) -> None:
    assert kinds(protocol, "PERMISSIVE") == [  # PA-010
        ("http", "tls", True),
        ("http", "raw_buffer", False),
        ("tcp", "tls", True),
        ("tcp", "raw_buffer", False),
        ("tcp", "tls", False),
    ]
    http = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
    assert alpn(protocol, "PERMISSIVE") == [http, ("http/1.1", "h2c"), ("istio-peer-exchange", "istio"), (), ()]
    assert kinds(protocol, "DISABLE") == [("http", "raw_buffer", False), ("tcp", "raw_buffer", False)]  # PA-011
    assert alpn(protocol, "DISABLE") == [("http/1.1", "h2c"), ()]
    assert kinds(protocol, "STRICT") == [("http", "tls", True), ("tcp", "tls", True)]  # PA-007
    assert alpn(protocol, "STRICT") == [http, ()]


def chain(port: int, transport: str = "", *alpn: str) -> components.FilterChain:
    made = components.FilterChain()
    made.filter_chain_match.transport_protocol = transport
    made.filter_chain_match.application_protocols.extend(alpn)
    if port:
        made.filter_chain_match.destination_port.value = port
    return made


def ports(predicate: components.ListenerFilterChainMatchPredicate) -> set[int]:
    rules = predicate.or_match.rules or [predicate]
    assert all(r.destination_port_range.end == r.destination_port_range.start + 1 for r in rules)
    return {r.destination_port_range.start for r in rules}


def test_inspectors_are_off_where_no_chain_needs_them() -> None:
    found = inspectors([chain(15006), chain(0, "tls"), chain(0, "raw_buffer", "http/1.1"), chain(80, "tls"), chain(90)])
    assert [f.name.rpartition(".")[2] for f in found] == ["tls_inspector", "http_inspector"]
    assert ports(found[0].filter_disabled) == {15006, 90}
    assert ports(found[1].filter_disabled) == {15006, 80, 90}


def test_an_inspector_that_only_some_ports_need_is_off_for_the_rest() -> None:
    (found,) = inspectors([chain(0), chain(80, "tls"), chain(90, "tls"), chain(100)])
    assert ports(found.filter_disabled.not_match) == {80, 90}


def test_no_inspector_without_need_and_no_condition_without_exception() -> None:
    assert not inspectors([chain(0), chain(80, "raw_buffer")])
    (found,) = inspectors([chain(0, "tls"), chain(80, "tls")])
    assert not found.HasField("filter_disabled")


@pytest.mark.parametrize(
    ("metadata", "ports_served"),
    [
        ({}, {0, 80, 15006}),
        ({"ENVOY_STATUS_PORT": 80}, {0, 15006}),
        ({"ENVOY_PROMETHEUS_PORT": 80}, {0, 15006}),
        ({"ENVOY_SECURE_METRICS_PORT": 80}, {0, 15006}),
        ({"ENVOY_SECURE_MERGED_METRICS_PORT": "80"}, {0, 15006}),
        ({"ENVOY_SECURE_METRICS_PORT": 0, "ENVOY_SECURE_MERGED_METRICS_PORT": "soon"}, {0, 80, 15006}),
    ],
)
def test_the_proxys_own_ports_are_not_served(metadata: dict[str, Any], ports_served: set[int]) -> None:
    """NODE-026, by the workload and to it."""
    objects = [service("web"), pod("web-1", "10.1.0.1", app="web")]
    listeners = listeners_of(node({"name": "web-1", "ip": "10.1.0.1", "metadata": metadata}), objects)
    chains = listeners["virtualInbound"].filter_chains
    assert {c.filter_chain_match.destination_port.value for c in chains} == ports_served
    assert ("0.0.0.0_80" in listeners) is (80 in ports_served)


def test_without_mesh_certificates_nothing_terminates_tls() -> None:
    objects = [service("web"), pod("web-1", "10.1.0.1", app="web")]
    proxy = {"name": "web-1", "ip": "10.1.0.1", "extensions": ["envoy.filters.http.router"]}
    plain = listeners_of(node(proxy), objects)["virtualInbound"]
    assert not any(c.HasField("transport_socket") for c in plain.filter_chains)
    for said, chains in (("WORKLOAD_SDS", 3), ("ISTIO_VERSION", 0)):
        found = listeners_of(node({**proxy, "metadata": {said: "true"}}), objects)["virtualInbound"]
        assert sum(c.HasField("transport_socket") for c in found.filter_chains) == chains


def test_where_plain_text_is_refused_a_proxy_without_certificates_serves_nothing() -> None:
    strict = make("PeerAuthentication", "default", "default", spec={"mtls": {"mode": "STRICT"}})
    objects = [service("web"), pod("web-1", "10.1.0.1", app="web"), strict]
    proxy = {"name": "web-1", "ip": "10.1.0.1", "extensions": ["envoy.filters.http.router"]}
    plain = listeners_of(node(proxy), objects)["virtualInbound"]
    assert [c.filter_chain_match.destination_port.value for c in plain.filter_chains] == [15006]
