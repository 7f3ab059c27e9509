"""Which servers a gateway proxy serves, on which ports, and which of two that cannot both be served."""

from typing import Any

import pytest

from pypilot.compile.gateways.merge import NOTHING, MergedServers, merged_servers
from pypilot.compile.gateways.selection import gateways_for
from pypilot.kinds import kind_of
from pypilot.kinds.base import Object
from pypilot.kinds.parse import parse_object
from pypilot.world.model import Protocol
from pypilot.world.reader import Reader
from tests.compile.listeners.decoding import world_of
from tests.golden import node
from tests.world.objects import make, pod, service

ROUTER = node({"type": "router", "name": "gw", "namespace": "infra", "ip": "10.1.0.9"})


def server(number: int, protocol: str, *hosts: str, name: str = "", bind: str = "", **tls: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "port": {"number": number, "name": name or f"{protocol.lower()}-{number}", "protocol": protocol},
        "hosts": list(hosts or ("*",)),
        "bind": bind,
    }
    return {**body, "tls": tls} if tls else body


def gateway(
    name: str, *servers: dict[str, Any], namespace: str = "infra", created: str = "", **selector: str
) -> Object:
    spec = {"selector": selector or {"app": "gw"}, "servers": list(servers)}
    return make("Gateway", name, namespace, creationTimestamp=created, spec=spec)


def merged(*objects: Object) -> MergedServers:
    return merged_servers(Reader(world_of(objects)), ROUTER)


def ports(*objects: Object) -> list[tuple[int, str, list[str]]]:
    """Port, protocol and who serves it: `GATEWAY/POSITION`."""
    return [
        (port.number, port.protocol.value, [f"{s.gateway.name}/{s.position}" for s in port.servers])
        for port in merged(*objects).ports
    ]


def routes(*objects: Object) -> dict[str, list[str]]:
    return {name: [f"{s.gateway.name}/{s.position}" for s in servers] for name, servers in merged(*objects).routes}


SIMPLE = {"mode": "SIMPLE", "credentialName": "c"}


def test_selection_prefers_the_pods_labels_and_takes_the_oldest_first() -> None:
    objects = [
        gateway("young", server(80, "HTTP"), namespace="b", created="2024-02-01T00:00:00Z"),
        gateway("old", server(80, "HTTP"), namespace="c", created="2024-01-01T00:00:00Z"),
        gateway("other", server(80, "HTTP"), app="another"),
        make("Gateway", "all", "d", spec={"servers": [server(80, "HTTP")]}, creationTimestamp="2024-03-01T00:00:00Z"),
        gateway("labelled", server(80, "HTTP"), app="gw", tier="new", created="2024-04-01T00:00:00Z"),
    ]
    assert [ref.name for ref in gateways_for(Reader(world_of(objects)), ROUTER)] == ["old", "young", "all"]
    objects.append(pod("gw", "10.1.0.9", "infra", tier="new"))
    assert [ref.name for ref in gateways_for(Reader(world_of(objects)), ROUTER)] == ["old", "young", "all", "labelled"]


def test_no_gateway_serves_nothing() -> None:
    assert merged() == NOTHING
    assert merged().servers_of("http.80") == ()


def test_ports_are_translated_by_the_oldest_service_of_the_pod() -> None:
    def front(name: str, created: str, **body: Any) -> Object:
        spec = {"selector": {"app": "gw"}, "ports": [{"name": "http", "port": 80, "targetPort": 8000 + len(name)}]}
        return service(name, "infra", spec=spec, creationTimestamp=created, **body)

    mine = pod("gw", "10.1.0.9", "infra")
    servers = gateway("g", server(80, "HTTP"), server(443, "HTTPS", name="web", **SIMPLE))
    old = front(
        "old", "2024-01-01T00:00:00Z", labels={"experimental.istio.io/disable-gateway-port-translation": "true"}
    )
    young = front("young", "2024-02-01T00:00:00Z")
    youngest = front("youngest", "2024-03-01T00:00:00Z")
    assert [p[0] for p in ports(servers)] == [80, 443]
    assert [p[0] for p in ports(servers, mine, old, young, youngest)] == [8005, 443]
    assert list(routes(servers, mine, young)) == ["http.8005", "https.443.web.g.infra"]


def test_the_servers_own_number_and_hosts_are_kept() -> None:
    (port,) = merged(gateway("g", server(80, "HTTP", "a", "./b", "*/c", "x/d", httpsRedirect=True))).ports
    (made,) = port.servers
    assert (made.number, made.hosts, made.https_redirect) == (80, ("a", "infra/b", "c", "x/d"), True)
    (port,) = merged(gateway("g", server(80, "HTTP", "a", "*/*"))).ports
    assert port.servers[0].hosts == ("*",)


@pytest.mark.parametrize("second", ["HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY"])
def test_plain_http_is_merged(second: str) -> None:
    objects = [gateway("a", server(80, "HTTP", "a")), gateway("b", server(80, second, "b"))]
    assert ports(*objects) == [(80, "HTTP", ["a/0", "b/0"])]
    assert routes(*objects) == {"http.80": ["a/0", "b/0"]}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (server(80, "TCP"), server(80, "TCP")),
        (server(80, "HTTP"), server(80, "TCP")),
        (server(80, "TCP"), server(80, "HTTP")),
        (server(80, "HTTP"), server(80, "HTTPS", **SIMPLE)),
        (server(80, "TCP"), server(80, "TLS", mode="PASSTHROUGH")),
    ],
)
def test_of_others_on_one_address_the_first_stays(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert [p[2] for p in ports(gateway("a", first), gateway("b", second))] == [["a/0"]]


def test_other_addresses_do_not_conflict() -> None:
    objects = [
        gateway("a", server(80, "TCP", bind="192.0.2.1"), server(80, "TCP", bind="192.0.2.2")),
        gateway("b", server(80, "HTTP", "x", bind="192.0.2.3"), server(80, "HTTP", "y", bind="192.0.2.3")),
    ]
    assert [(p.bind, len(p.servers)) for p in merged(*objects).ports] == [
        ("192.0.2.1", 1),
        ("192.0.2.2", 1),
        ("192.0.2.3", 2),
    ]
    assert routes(*objects) == {"http.80.192.0.2.3": ["b/0", "b/1"]}


def test_servers_that_open_tls_are_told_apart_by_name() -> None:
    """GW-029; and of two whose routes would have one name the later is left out (GW-030)."""
    objects = [
        gateway(
            "g",
            server(443, "HTTPS", "a", name="one", **SIMPLE),
            server(443, "HTTPS", "b", name="two", **SIMPLE),
            server(443, "HTTPS", "a", name="three", **SIMPLE),
            server(443, "HTTPS", "a", name="four", bind="192.0.2.1", **SIMPLE),
            server(443, "HTTPS", "c", name="two", **SIMPLE),
            server(443, "TLS", "d", mode="PASSTHROUGH"),
        )
    ]
    assert routes(*objects) == {
        "https.443.one.g.infra": ["g/0"],
        "https.443.two.g.infra": ["g/1"],
        "https.443.four.g.infra.192.0.2.1": ["g/3"],
    }
    assert ports(*objects) == [
        (443, "HTTPS", ["g/0", "g/1"]),
        (443, "HTTPS", ["g/3"]),
        (443, "TLS", ["g/5"]),
    ]


def test_https_without_settings_is_refused_alone() -> None:
    """GW-031."""
    kind = kind_of("networking.istio.io/v1", "Gateway")
    assert kind is not None
    servers = [server(443, "HTTPS", "a", **SIMPLE), server(443, "HTTPS", "b", name="bare"), server(443, "TLS", "c")]
    data = {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "g", "namespace": "infra"}}
    parsed = parse_object(kind, {**data, "spec": {"selector": {"app": "gw"}, "servers": servers}})
    assert [f.field for f in parsed.findings] == ["spec.servers[1].tls", "spec.servers[2].tls"]
    assert parsed.object is not None
    assert ports(parsed.object) == [(443, "HTTPS", ["g/0"])]


def test_plain_http_may_follow_tls_on_a_port() -> None:
    objects = [gateway("g", server(443, "HTTPS", "a", **SIMPLE), server(443, "HTTP", "b"))]
    assert ports(*objects) == [(443, "HTTPS", ["g/0"]), (443, "HTTP", ["g/1"])]
    assert sorted(routes(*objects)) == ["http.443", "https.443.https-443.g.infra"]


def test_passed_through_and_plain_tcp_have_no_routes() -> None:
    objects = [gateway("g", server(1, "TCP"), server(2, "TLS", mode="PASSTHROUGH"), server(3, "TLS", **SIMPLE))]
    assert routes(*objects) == {}
    assert {p.protocol for p in merged(*objects).ports} == {Protocol.TCP, Protocol.TLS}
    assert merged(*objects).gateway_names == {"infra/g"}
