"""Which filters stand in which order, by side and by kind of Envoy (FILT-001, FILT-006, FILT-011)."""

from collections.abc import Sequence

import pytest
from google.protobuf import message_factory, struct_pb2
from google.protobuf.json_format import MessageToDict
from udpa.type.v1 import typed_struct_pb2

from pypilot.kinds.base import Object
from pypilot.wire.istio_messages import find_istio_message
from pypilot.wire.node import Proxy
from tests.compile.listeners.decoding import TCP_PROXY, Manager, chains, listeners_of, managers
from tests.golden import node
from tests.world.objects import make, pod, service

UPSTREAM = {"extensions": ["envoy.filters.http.router"]}
OBJECTS: Sequence[Object] = (
    service("web"),
    service("tcp", protocol="tcp", port=90),
    pod("web-1", "10.1.0.1", app="web"),
    make(
        "Gateway",
        "front",
        spec={
            "selector": {"app": "gw"},
            "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
        },
    ),
)
COMMON = [
    "envoy.filters.http.grpc_stats",
    "envoy.filters.http.fault",
    "envoy.filters.http.cors",
    "envoy.filters.http.router",
]


def sidecar(**more: object) -> Proxy:
    return node({"name": "web-1", "ip": "10.1.0.1", "labels": {"app": "web"}, **more})


def router(**more: object) -> Proxy:
    return node({"type": "router", "name": "gw-1", "ip": "10.1.0.2", "labels": {"app": "gw"}, **more})


def http_filters(manager: Manager) -> list[str]:
    return [f.name for f in manager.http_filters]


def test_istios_build() -> None:
    with_alpn = ["istio.metadata_exchange", COMMON[0], "istio.alpn", *COMMON[1:]]
    listeners = listeners_of(sidecar(), OBJECTS)
    assert [http_filters(m) for m in managers(listeners["0.0.0.0_80"])] == [with_alpn]
    inbound = [http_filters(m) for m in managers(listeners["virtualInbound"])]
    assert inbound == [["istio.metadata_exchange", *COMMON]] * 4
    gateway = listeners_of(router(), OBJECTS)["0.0.0.0_80"]
    assert [http_filters(m) for m in managers(gateway)] == [with_alpn]


def test_upstream_envoy_gets_none_of_istios() -> None:
    for proxy in (sidecar(**UPSTREAM), router(**UPSTREAM)):
        listeners = listeners_of(proxy, OBJECTS)
        assert "connect_originate" not in listeners
        for listener in listeners.values():
            assert all(http_filters(m) == COMMON for m in managers(listener))
            assert not any(f.name.startswith("istio.") for c in chains(listener) for f in c.filters)


def test_bytes_exchange_metadata_inbound_only() -> None:
    listeners = listeners_of(sidecar(), OBJECTS)
    for chain in chains(listeners["virtualInbound"]):
        assert chain.filters[0].name == "istio.metadata_exchange"
        assert len(chain.filters) == 2
    (outbound,) = (name for name in listeners if name.endswith("_90"))
    assert [[f.name for f in c.filters] for c in chains(listeners[outbound])] == [[TCP_PROXY]]


def typed_struct(manager: Manager, name: str) -> struct_pb2.Struct:
    (found,) = (f for f in manager.http_filters if f.name == name)
    message = typed_struct_pb2.TypedStruct()
    assert found.typed_config.Unpack(message)
    assert message.type_url == "type.googleapis.com/io.istio.http.peer_metadata.Config"
    return message.value


@pytest.mark.parametrize(("mode", "headers"), [("", {}), ("IN_MESH", {"skip_external_clusters": True})])
def test_who_is_told_about_the_peer(mode: str, headers: dict[str, bool]) -> None:
    config = {"PROXY_CONFIG": {"proxyHeaders": {"metadataExchangeHeaders": {"mode": mode}}}}
    listeners = listeners_of(sidecar(metadata=config), OBJECTS)
    (outbound,) = managers(listeners["0.0.0.0_80"])
    assert MessageToDict(typed_struct(outbound, "istio.metadata_exchange")) == {
        "upstream_discovery": [{"istio_headers": {}}, {"workload_discovery": {}}],
        "upstream_propagation": [{"istio_headers": headers}],
    }
    inbound = next(managers(listeners["virtualInbound"]))
    assert MessageToDict(typed_struct(inbound, "istio.metadata_exchange")) == {
        "downstream_discovery": [{"istio_headers": {}}, {"workload_discovery": {}}],
        "downstream_propagation": [{"istio_headers": {}}],
    }


def test_the_protocol_of_a_request_chooses_the_words_of_the_handshake() -> None:
    (manager,) = managers(listeners_of(sidecar(), OBJECTS)["0.0.0.0_80"])
    (found,) = (f for f in manager.http_filters if f.name == "istio.alpn")
    descriptor = find_istio_message("istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig")
    assert descriptor is not None
    message = message_factory.GetMessageClass(descriptor)()
    assert found.typed_config.Unpack(message)
    overrides = MessageToDict(message, always_print_fields_with_no_presence=True)["alpnOverride"]
    assert {o["upstreamProtocol"]: o["alpnOverride"] for o in overrides} == {
        "HTTP10": ["istio-http/1.0", "istio", "http/1.0"],
        "HTTP11": ["istio-http/1.1", "istio", "http/1.1"],
        "HTTP2": ["istio-h2", "istio", "h2"],
    }


@pytest.mark.parametrize(
    ("mode", "normalizes", "merges", "slashes"),
    [
        ("", True, False, "KEEP_UNCHANGED"),
        ("DEFAULT", True, False, "KEEP_UNCHANGED"),
        ("BASE", True, False, "KEEP_UNCHANGED"),
        ("NONE", False, False, "KEEP_UNCHANGED"),
        ("MERGE_SLASHES", True, True, "KEEP_UNCHANGED"),
        ("DECODE_AND_MERGE_SLASHES", True, True, "UNESCAPE_AND_FORWARD"),
    ],
)
def test_paths_are_normalized_as_the_mesh_says(mode: str, normalizes: bool, merges: bool, slashes: str) -> None:
    """MESH-033, on all sides."""
    mesh = f"pathNormalization: {{normalization: {mode}}}" if mode else ""
    inside, edge = listeners_of(sidecar(), OBJECTS, mesh), listeners_of(router(), OBJECTS, mesh)
    found = [
        m
        for listener in (inside["0.0.0.0_80"], inside["virtualInbound"], edge["0.0.0.0_80"])
        for m in managers(listener)
    ]
    assert len(found) == 6
    for manager in found:
        assert (manager.normalize_path.value, manager.merge_slashes) == (normalizes, merges)
        assert Manager.PathWithEscapedSlashesAction.Name(manager.path_with_escaped_slashes_action) == slashes


@pytest.mark.parametrize(
    ("mesh", "sampling"),
    [("", 1.0), ("defaultConfig: {tracing: {sampling: 5}}", 5.0), ("enableTracing: false", None)],
)
def test_traces_are_sampled_as_the_mesh_says(mesh: str, sampling: float | None) -> None:
    """MESH-021, where no provider is named."""
    for manager in managers(listeners_of(sidecar(), OBJECTS, mesh)["0.0.0.0_80"]):
        found = manager.tracing.random_sampling.value if manager.HasField("tracing") else None
        assert found == sampling


def test_tracing_names_the_workload() -> None:
    labels = {"service.istio.io/canonical-name": "shop", "service.istio.io/canonical-revision": "v3"}
    proxy = node({"name": "vm", "ip": "10.9.9.9", "labels": labels, "metadata": {"MESH_ID": "m", "CLUSTER_ID": "c"}})
    (manager,) = managers(listeners_of(proxy, OBJECTS)["0.0.0.0_80"])
    literals = {tag.tag: tag.literal.value for tag in manager.tracing.custom_tags if tag.HasField("literal")}
    assert literals == {
        "istio.canonical_service": "shop",
        "istio.canonical_revision": "v3",
        "istio.mesh_id": "m",
        "istio.cluster_id": "c",
        "istio.namespace": "default",
    }
    assert [tag.tag for tag in manager.tracing.custom_tags] == sorted(tag.tag for tag in manager.tracing.custom_tags)
    assert manager.tracing.random_sampling.value == 1.0
