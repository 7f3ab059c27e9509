"""Whatever users write, a proxy keeps its listeners: odd parts are left out, alone."""

import ipaddress
import os
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pypilot.compile.listeners.dynamic_dns import any_host_filter, wildcard_host_filter
from pypilot.kinds import kind_of
from pypilot.kinds.base import Object
from pypilot.kinds.parse import parse_object
from tests.compile.listeners.decoding import chains, listeners_of, tcp_proxies
from tests.compile.listeners.envoy import refusal
from tests.golden import node
from tests.world.objects import make, pod, service

HOSTS = [
    "*",
    "a.example",
    "*.example",
    "b.example",
    "svc",
    "db.default.svc.cluster.local",
    "db",
    "bad*name",
    "10.0.0.1",
]
SUBNETS = ["10.0.0.0/8", "192.0.2.1", "bogus", "0.0.0.0/0", "2001:db8::/32", ""]
PROTOCOLS = ["HTTP", "TCP", "TLS", "HTTPS", "MONGO", "MYSQL", "GRPC", "", "HTTP_PROXY", "UDP", "nonsense"]
WEIGHTS = [0, 1, 99, 2**31, 2**32, 2**40]


def parsed(kind: str, name: str, **spec: Any) -> list[Object]:
    """The object as far as it can be used."""
    entry = kind_of("networking.istio.io/v1", kind)
    assert entry is not None
    body = {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": name, "namespace": "default"}}
    found = parse_object(entry, {**body, "spec": spec}).object
    return [found] if found is not None else []


@st.composite
def entries(draw: st.DrawFn) -> list[Object]:
    numbers = draw(st.lists(st.sampled_from([80, 443, 15001, 15090, 9000]), min_size=1, max_size=3, unique=True))
    ports = [{"number": n, "name": f"p{n}", "protocol": draw(st.sampled_from(PROTOCOLS))} for n in numbers]
    return parsed(
        "ServiceEntry",
        draw(st.sampled_from(["e1", "e2", "e3"])),
        hosts=draw(st.lists(st.sampled_from(HOSTS), min_size=1, max_size=2, unique=True)),
        addresses=draw(st.lists(st.sampled_from(["192.0.2.9", "10.1.0.0/16", "2001:db8::1"]), max_size=2, unique=True)),
        resolution=draw(st.sampled_from(["NONE", "DNS", "DYNAMIC_DNS"])),
        ports=ports,
    )


@st.composite
def routes(draw: st.DrawFn) -> list[Object]:
    def destinations() -> list[dict[str, Any]]:
        hosts = draw(st.lists(st.sampled_from(HOSTS[1:]), max_size=3))
        return [{"destination": {"host": h}, "weight": draw(st.sampled_from(WEIGHTS))} for h in hosts]

    def match(*names: str) -> dict[str, Any]:
        found: dict[str, Any] = {"destinationSubnets": draw(st.lists(st.sampled_from(SUBNETS), max_size=2))}
        if names:
            found["sniHosts"] = draw(st.lists(st.sampled_from(names), max_size=3))
        return found

    return parsed(
        "VirtualService",
        draw(st.sampled_from(["v1", "v2"])),
        hosts=draw(st.lists(st.sampled_from(HOSTS), min_size=1, max_size=3)),
        gateways=["mesh", "front"],
        tls=[{"match": [match(*HOSTS), match(*HOSTS)], "route": destinations()} for _ in range(2)],
        tcp=[{"match": [match()], "route": destinations()} for _ in range(2)],
    )


@st.composite
def gateways(draw: st.DrawFn) -> list[Object]:
    modes = ["SIMPLE", "MUTUAL", "PASSTHROUGH", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"]
    servers = []
    for i in range(draw(st.integers(1, 4))):
        server: dict[str, Any] = {
            "port": {
                "number": draw(st.sampled_from([80, 443])),
                "name": f"p{i}",
                "protocol": draw(st.sampled_from(["HTTP", "HTTPS", "TLS", "TCP"])),
            },
            "hosts": draw(st.lists(st.sampled_from([*HOSTS, "./a.example", "*/*", "other/*"]), min_size=1, max_size=3)),
            "bind": draw(st.sampled_from(["", "", "192.0.2.1", "nowhere"])),
        }
        if server["port"]["protocol"] in ("HTTPS", "TLS"):
            server["tls"] = {"mode": draw(st.sampled_from(modes)), "credentialName": draw(st.sampled_from(["", "c"]))}
        servers.append(server)
    return parsed("Gateway", "front", selector={"app": "gw"}, servers=servers)


def claims(match: Any) -> Iterator[tuple[Any, ...]]:
    """Every connection that a chain claims, as Envoy counts them."""
    prefixes = [(p.address_prefix, p.prefix_len.value) for p in match.prefix_ranges]
    networks = [str(ipaddress.ip_network(prefix, strict=False)) for prefix in prefixes]
    names, alpn = match.server_names or [""], match.application_protocols or [""]
    return product([match.destination_port.value], networks or [""], names, [match.transport_protocol], alpn)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(entries(), max_size=3), st.lists(routes(), max_size=2), gateways(), st.booleans())
def test_no_two_chains_claim_one_connection(
    entry_lists: list[list[Object]], route_lists: list[list[Object]], front: list[Object], upstream: bool
) -> None:
    made: dict[Any, Object] = {service("db", protocol="tcp", port=9000).ref: service("db", protocol="tcp", port=9000)}
    for item in (*(o for found in (*entry_lists, *route_lists) for o in found), *front):
        made[item.ref] = item
    extensions = {"extensions": ["envoy.filters.http.router"]} if upstream else {}
    for proxy in (
        node({"name": "client", **extensions}),
        node({"name": "client", "metadata": {"INTERCEPTION_MODE": "NONE"}, **extensions}),
        node({"type": "router", "name": "gw", "ip": "10.1.0.2", **extensions}),
    ):
        listeners = listeners_of(proxy, made.values(), "accessLogFile: /dev/stdout")
        addresses = [str(listener.address) for listener in listeners.values()]
        assert len(addresses) == len(set(addresses))
        for name, listener in listeners.items():
            claimed = [c for chain in listener.filter_chains for c in claims(chain.filter_chain_match)]
            assert len(claimed) == len(set(claimed)), name
            assert all("*" not in c.removeprefix("*.") for _, _, c, _, _ in claimed)
            assert all(c.filters for c in chains(listener)), name
            for tcp in tcp_proxies(listener):
                assert tcp.cluster or sum(c.weight for c in tcp.weighted_clusters.clusters) < 2**32


@pytest.mark.envoy
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(entries(), max_size=3), st.lists(routes(), max_size=2), gateways(), st.booleans())
def test_envoy_takes_it(
    entry_lists: list[list[Object]], route_lists: list[list[Object]], front: list[Object], certificates: bool
) -> None:
    made = {o.ref: o for found in (*entry_lists, *route_lists, front) for o in found}
    extensions = {"extensions": ["envoy.filters.http.router"], "metadata": {"WORKLOAD_SDS": str(certificates)}}
    for proxy in (node({"name": "client", **extensions}), node({"type": "router", "name": "gw", **extensions})):
        with tempfile.TemporaryDirectory() as folder:
            listeners = listeners_of(proxy, made.values()).values()
            assert not refusal(listeners, Path(folder), os.environ)


@pytest.mark.parametrize(
    "mesh",
    [
        "proxyHttpPort: -1",
        "proxyHttpPort: 70000",
        "proxyInboundListenPort: 0",
        "proxyInboundListenPort: -5",
    ],
)
def test_ports_that_are_none_are_left_out(mesh: str) -> None:
    whole = set(listeners_of(node({}), ()))
    left_out = {"virtualInbound"} if "Inbound" in mesh else set()
    assert set(listeners_of(node({}), (), mesh)) == whole - left_out


@pytest.mark.parametrize("port", [0, -1, 99999])
def test_without_the_outbound_port_there_is_nothing(port: int) -> None:
    assert set(listeners_of(node({}), (), f"proxyListenPort: {port}")) == {"connect_originate"}


def test_proxies_of_other_kinds_have_no_listeners() -> None:
    assert not listeners_of(node({"type": "ztunnel"}), [service("a")])


def test_a_dns_cache_is_stated_alike_by_cluster_and_filter() -> None:
    from envoy.config.cluster.v3 import cluster_pb2
    from envoy.extensions.clusters.dynamic_forward_proxy.v3 import cluster_pb2 as dynamic_pb2
    from envoy.extensions.filters.http.dynamic_forward_proxy.v3 import dynamic_forward_proxy_pb2
    from google.protobuf import any_pb2

    from pypilot.compile.clusters import compile_clusters
    from pypilot.compile.listeners.traits import tcp_traits
    from pypilot.compile.view import view_of
    from pypilot.world.reader import Reader
    from tests.compile.listeners.decoding import world_of

    host = "*.wild.example"
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    wild = make("ServiceEntry", "wild", spec={"hosts": [host], "resolution": "DYNAMIC_DNS", "ports": ports})
    world = world_of([wild], "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}")
    for capture in ("true", "false"):
        proxy = node({"metadata": {"DNS_CAPTURE": capture}})
        caches = {}
        for resource in compile_clusters(Reader(world), proxy):
            cluster, config = cluster_pb2.Cluster(), dynamic_pb2.ClusterConfig()
            any_pb2.Any.FromString(resource.any_bytes).Unpack(cluster)
            if cluster.cluster_type.typed_config.Unpack(config):
                caches[cluster.name] = config.dns_cache_config
        traits = tcp_traits(Reader(world), view_of(Reader(world), proxy), proxy)
        for name, http_filter in {
            "AllowAnyDynamicDNSCluster": any_host_filter(traits),
            f"outbound|80||{host}": wildcard_host_filter(host, traits),
        }.items():
            stated = dynamic_forward_proxy_pb2.FilterConfig()
            assert http_filter.typed_config.Unpack(stated)
            assert stated.dns_cache_config == caches[name]


def test_a_pod_that_nobody_selects_serves_nothing_by_name() -> None:
    listener = listeners_of(node({"name": "p", "ip": "10.1.0.1"}), [pod("p", "10.1.0.1")])["virtualInbound"]
    assert {c.filter_chain_match.destination_port.value for c in listener.filter_chains} == {0, 15006}
