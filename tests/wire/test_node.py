"""Reading the Node message (NODE rows)."""

from typing import Any

import pytest

from pypilot.wire.node import Locality, NodeError, parse_node

ID = "sidecar~10.0.0.1~app-1.shop~shop.svc.cluster.local"


def node(node_id: str = ID, **metadata: Any) -> dict[str, Any]:
    return {"id": node_id, "metadata": metadata}


def test_an_id_alone_is_enough() -> None:
    """NODE-001, NODE-003, NODE-004."""
    proxy = parse_node({"id": ID})
    assert (proxy.type, proxy.ips, proxy.name, proxy.namespace) == ("sidecar", ("10.0.0.1",), "app-1", "shop")
    assert proxy.dns_domain == "shop.svc.cluster.local"
    assert not proxy.is_istio_build


@pytest.mark.parametrize(
    ("node_id", "words"),
    [
        ("", "want TYPE~IP"),
        ("sidecar~10.0.0.1~a.b", "want TYPE~IP"),
        ("a~b~c~d~e", "want TYPE~IP"),
        ("robot~10.0.0.1~a.b~c", "unknown proxy type 'robot'"),
        ("sidecar~nowhere~a.b~c", "no valid IP"),
    ],
)
def test_ids_that_no_proxy_may_have(node_id: str, words: str) -> None:
    with pytest.raises(NodeError, match=words):
        parse_node(node(node_id))


@pytest.mark.parametrize("kind", ["sidecar", "router", "waypoint", "ztunnel"])
def test_types(kind: str) -> None:
    """NODE-002."""
    assert parse_node(node(f"{kind}~10.0.0.1~a.b~c")).type == kind


@pytest.mark.parametrize("kind", ["", "Sidecar", "ingress", "agentgateway", "egress"])
def test_types_that_there_are_not(kind: str) -> None:
    """NODE-002."""
    with pytest.raises(NodeError, match="unknown proxy type"):
        parse_node(node(f"{kind}~10.0.0.1~a.b~c"))


def test_the_cluster_is_only_what_the_proxy_says() -> None:
    """NODE-012."""
    assert parse_node(node()).cluster_id == ""
    assert parse_node(node(CLUSTER_ID="east")).cluster_id == "east"


def test_metadata_comes_in_many_forms() -> None:
    """NODE-030."""
    proxy = parse_node(
        node(
            INSTANCE_IPS="10.0.0.9,fe80::1,junk",
            NAMESPACE="other",
            LABELS={"b": "2", "a": "1"},
            ENVOY_STATUS_PORT=15021.0,
            HTTP10=True,
            UNPRIVILEGED_POD="true",
            REQUESTED_NETWORK_VIEW=["n1", "n2"],
            ISTIO_VERSION="1.30.0",
            PROXY_CONFIG={"b": 1, "a": 2},
        )
    )
    assert proxy.ips == ("10.0.0.9", "fe80::1")
    assert proxy.namespace == "other"
    assert proxy.labels == (("a", "1"), ("b", "2"))
    assert proxy.label("b") == "2"
    assert proxy.http10
    assert proxy.unprivileged
    assert proxy.network_view == ("n1", "n2")
    assert proxy.proxy_config == '{"a": 2, "b": 1}'
    assert proxy.is_istio_build


def test_who_the_workload_is() -> None:
    """NODE-014."""
    said = {"MESH_ID": "mesh", "WORKLOAD_NAME": "web", "NODE_NAME": "east-a", "NAME": "web-1"}
    proxy = parse_node(
        node(**said, OWNER="kubernetes://apis/apps/v1/namespaces/shop/deployments/web", APP_CONTAINERS="web")
    )
    assert (proxy.mesh_id, proxy.workload_name, proxy.node_name, proxy.name) == tuple(said.values())
    assert dict(proxy.metadata)["APP_CONTAINERS"] == "web"


def test_an_extension_list_decides_what_envoy_it_is() -> None:
    """FILT-011: upstream Envoy lists its extensions, whatever else it says."""
    listed = {**node(ISTIO_VERSION="1.30.0"), "extensions": [{"name": "envoy.filters.http.router"}]}
    assert not parse_node(listed).is_istio_build
    listed["extensions"].append({"name": "istio.alpn"})
    assert parse_node(listed).is_istio_build


@pytest.mark.parametrize("port", ["\u00b2", "0", "65536", "9" * 5000, "-1", "x", ""])
def test_a_port_that_is_none_is_the_default(port: str) -> None:
    assert parse_node(node(ENVOY_STATUS_PORT=port)).status_port == 15021


def test_locality() -> None:
    """NODE-008."""
    proxy = parse_node({"id": ID, "locality": {"region": "r", "zone": "z"}})
    assert proxy.locality == Locality("r", "z")
    assert str(proxy.locality) == "r/z"
    assert hash(proxy) == hash(parse_node({"id": ID, "locality": {"region": "r", "zone": "z"}}))


def test_the_numbers_of_a_proxy_config_are_whole_if_they_can_be() -> None:
    """PC-001: metadata travels as a `Struct`, where all numbers are floats."""
    config = {"gatewayTopology": {"numTrustedProxies": 1.0}, "tracing": {"sampling": 0.5, "sizes": [64.0]}}
    wanted = '{"gatewayTopology": {"numTrustedProxies": 1}, "tracing": {"sampling": 0.5, "sizes": [64]}}'
    assert parse_node({"id": "sidecar~1.1.1.1~a.b~b.svc", "metadata": {"PROXY_CONFIG": config}}).proxy_config == wanted
