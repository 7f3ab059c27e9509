"""From Kubernetes Services and EndpointSlices to the registry: names, addresses, protocols, visibility, endpoints."""

from typing import Any

import pytest

from pypilot.compile.clusters import compile_clusters
from pypilot.compile.listeners import compile_listeners
from pypilot.compile.services import is_visible
from pypilot.kinds import kind_of
from pypilot.kinds.base import Object
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.kinds.parse import parse_object
from pypilot.kinds.service import Service
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.model import Endpoint, MeshService, Protocol, Resolution, ServiceKey
from pypilot.world.reader import Reader
from pypilot.world.services import convert_service
from pypilot.world.world import World
from tests.compile.listeners.decoding import decode, managers, tcp_proxies
from tests.golden import node
from tests.world.objects import endpoint_slice, make, pod, service


def converted(domain: str = "cluster.local", **body: Any) -> MeshService:
    made = make("Service", "web", "shop", **body)
    assert isinstance(made, Service)
    return convert_service(made, domain, "cluster.local")


def reader_of(*objects: Object, mesh: MeshConfig | None = None) -> Reader:
    return Reader(advance(World(), Delta(upserts=objects, mesh=mesh)))


def test_hostname() -> None:
    """KSVC-001."""
    assert converted(spec={"clusterIP": "10.0.0.1"}).hostname == "web.shop.svc.cluster.local"
    assert converted("example.org", spec={"clusterIP": "10.0.0.1"}).hostname == "web.shop.svc.example.org"
    key = ServiceKey("web.shop.svc.cluster.local", "shop")
    assert reader_of(make("Service", "web", "shop", spec={"clusterIP": "10.0.0.1"})).service(key) is not None


def test_addresses_and_resolution() -> None:
    """KSVC-002, KSVC-003."""
    one = converted(spec={"clusterIP": "10.0.0.1"})
    assert (one.resolution, one.addresses, one.headless) == (Resolution.CLIENT_SIDE, ("10.0.0.1",), False)
    both = converted(spec={"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]})
    assert both.addresses == ("10.0.0.1", "fd00::1")
    none = converted(spec={"clusterIP": "None", "clusterIPs": ["None"]})
    assert (none.resolution, none.addresses, none.headless) == (Resolution.PASSTHROUGH, (), True)


WORDS = {
    "http": Protocol.HTTP,
    "http2": Protocol.HTTP2,
    "https": Protocol.HTTPS,
    "grpc": Protocol.GRPC,
    "grpc-web": Protocol.GRPC_WEB,
    "tls": Protocol.TLS,
    "tcp": Protocol.TCP,
    "udp": Protocol.UDP,
    "mongo": Protocol.MONGO,
    "redis": Protocol.REDIS,
    "mysql": Protocol.MYSQL,
    "http_proxy": Protocol.HTTP_PROXY,
}


def protocol_of(**port: Any) -> Protocol:
    return converted(spec={"clusterIP": "10.0.0.1", "ports": [{"port": 8000, **port}]}).ports[0].protocol


@pytest.mark.parametrize(("word", "protocol"), WORDS.items())
def test_words(word: str, protocol: Protocol) -> None:
    """KSVC-007, KSVC-008: in the name before its first hyphen or as appProtocol, in any case."""
    for text in (word, word.upper(), f"{word}-a-b"):
        assert protocol_of(name=text) == protocol
        assert protocol_of(name="tcp-x", appProtocol=text) == protocol


@pytest.mark.parametrize(
    ("port", "protocol"),
    [
        ({"name": "http", "appProtocol": "kubernetes.io/h2c"}, Protocol.HTTP2),
        ({"name": "tcp", "appProtocol": "kubernetes.io/ws"}, Protocol.HTTP),
        ({"name": "tcp", "appProtocol": "kubernetes.io/wss"}, Protocol.HTTPS),
        ({"name": "http", "appProtocol": "example.org/own"}, Protocol.UNSUPPORTED),
        ({"name": "http", "protocol": "UDP"}, Protocol.UDP),
        ({"name": "x", "appProtocol": "http", "protocol": "UDP"}, Protocol.UDP),
        ({"name": "grpc-webby"}, Protocol.GRPC_WEB),
        ({"name": "httpx"}, Protocol.UNSUPPORTED),
        ({"name": "my-http"}, Protocol.UNSUPPORTED),
        ({}, Protocol.UNSUPPORTED),
    ],
)
def test_other_words(port: dict[str, Any], protocol: Protocol) -> None:
    """KSVC-007, KSVC-008."""
    assert protocol_of(**port) == protocol


@pytest.mark.parametrize("word", [*WORDS, "what"])
def test_groups(word: str) -> None:
    """KSVC-010: what a client's listener does with a port of each protocol."""
    ports = [{"name": "p", "port": 8000, "appProtocol": word, "protocol": "UDP" if word == "udp" else "TCP"}]
    reader = reader_of(make("Service", "web", "shop", spec={"clusterIP": "10.0.0.1", "ports": ports}))
    names = {"0.0.0.0_8000", "10.0.0.1_8000"}
    made = [decode(r) for r in compile_listeners(reader, node({"namespace": "shop"})) if r.name in names]
    routed = {bool(list(managers(listener))) for listener in made}
    targets = {proxy.cluster for listener in made for proxy in tcp_proxies(listener)}
    own = "outbound|8000||web.shop.svc.cluster.local"
    if word == "udp":
        assert made == []
    elif word == "what":
        assert routed == {True}
        assert own in targets
    else:
        http = word in ("http", "http2", "http_proxy", "grpc", "grpc-web")
        assert routed == {http}
        assert (own in targets) is not http


@pytest.mark.parametrize(
    ("text", "seers"),
    [
        (None, {"shop", "pay", "lab"}),
        ("", {"shop", "pay", "lab"}),
        ("*", {"shop", "pay", "lab"}),
        (".", {"shop"}),
        ("., pay", {"shop", "pay"}),
        ("pay,lab", {"pay", "lab"}),
        ("~", set()),
    ],
)
def test_visibility(text: str | None, seers: set[str]) -> None:
    """KSVC-012."""
    annotations = {} if text is None else {"networking.istio.io/exportTo": text}
    reader = reader_of(service("web", "shop", annotations=annotations))
    (found,) = [reader.service(ServiceKey("web.shop.svc.cluster.local", "shop"))]
    assert found is not None
    assert {place for place in ("shop", "pay", "lab") if is_visible(reader, found, place)} == seers
    for place in ("shop", "pay", "lab"):
        listed = {*reader.public_services(), *reader.private_services(place)}
        assert (found.key in listed) is (place in seers)


@pytest.mark.parametrize(
    ("host", "is_taken"),
    [
        ("a.example.com", True),
        ("*.example.com", True),
        ("localname", True),
        ("*", False),
        ("a.*.com", False),
        ("a..com", False),
        ("http://a.com", False),
        ("a_b.example/x", False),
    ],
)
def test_hosts_of_entries(host: str, is_taken: bool) -> None:
    """SE-002."""
    spec = {"hosts": [host], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "NONE"}
    metadata = {"name": "e", "namespace": "default"}
    kind = kind_of("networking.istio.io/v1", "ServiceEntry")
    assert kind is not None
    parsed = parse_object(kind, {"apiVersion": "v1", "kind": "ServiceEntry", "metadata": metadata, "spec": spec})
    wrong = [finding.field for finding in parsed.findings if finding.severity == "error"]
    assert wrong == ([] if is_taken else ["spec.hosts[0]"])
    made = [o for o in (parsed.object,) if o is not None and is_taken]
    clusters = {r.name for r in compile_clusters(reader_of(*made), node({}))}
    assert (f"outbound|80||{host}" in clusters) is is_taken


def endpoints(*objects: Object) -> dict[str, Endpoint]:
    found = reader_of(service("web"), *objects).endpoints(ServiceKey("web.default.svc.cluster.local", "default"))
    return {endpoint.address: endpoint for endpoint in found}


def test_slices_of_a_service_are_united_by_address() -> None:
    """KSVC-025."""

    def slice_(name: str, owner: str, address: str, port: dict[str, Any], kind: str = "IPv4") -> Object:
        labels = {"kubernetes.io/service-name": owner} if owner else {}
        rest: dict[str, Any] = {"addressType": kind, "endpoints": [{"addresses": [address]}], "ports": [port]}
        return make("EndpointSlice", name, labels=labels, **rest)

    http, metrics = {"name": "http", "port": 8080}, {"name": "metrics", "port": 9090}
    found = endpoints(
        slice_("one", "web", "10.1.0.1", http),
        slice_("two", "web", "10.1.0.1", metrics),
        slice_("three", "web", "10.1.0.2", http),
        slice_("six", "web", "fd00::1", http, "IPv6"),
        slice_("names", "web", "web.example", http, "FQDN"),
        slice_("others", "other", "10.1.0.3", http),
        slice_("nobodys", "", "10.1.0.4", http),
    )
    assert {address: dict(endpoint.ports) for address, endpoint in found.items()} == {
        "10.1.0.1": {"http": 8080, "metrics": 9090},
        "10.1.0.2": {"http": 8080},
        "fd00::1": {"http": 8080},
    }


def test_what_pods_say_of_their_endpoints() -> None:
    """KSVC-031, KSVC-032."""
    plain = make("Pod", "web-2", labels={"app": "web"}, status={"podIP": "10.1.0.2"})
    found = endpoints(
        pod("web-1", "10.1.0.1", app="web", version="v1"),
        plain,
        endpoint_slice("web", {"web-1": "10.1.0.1", "web-2": "10.1.0.2"}),
    )
    first, second = found["10.1.0.1"], found["10.1.0.2"]
    assert dict(first.labels)["version"] == "v1"
    assert (first.tls_mode, second.tls_mode) == ("istio", "")
    assert first.service_account == "spiffe://cluster.local/ns/default/sa/web"
    assert second.service_account == "spiffe://cluster.local/ns/default/sa/default"
