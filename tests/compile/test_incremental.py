"""The promise of the memo, on the real compiler: any history compiles to the bytes of its end, made from nothing."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pypilot.compile.generators import GENERATORS
from pypilot.engine.memo import Memo
from pypilot.kinds.base import Object, Ref
from pypilot.wire.node import Proxy, parse_node
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.world import World
from tests.world.objects import endpoint_slice, make, pod, service


def node(kind: str, name: str, namespace: str, ip: str, **metadata: Any) -> Proxy:
    return parse_node(
        {
            "id": f"{kind}~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local",
            "locality": {"region": "r1", "zone": "z1"},
            "metadata": {"LABELS": {"app": name.partition("-")[0]}, "ISTIO_VERSION": "1.30.0", **metadata},
        }
    )


PROXIES = (
    node("sidecar", "a-1", "default", "10.1.0.1"),
    node("sidecar", "c-1", "other", "10.1.0.7"),
    node("router", "gw-1", "infra", "10.1.0.8"),
    node("sidecar", "vm", "default", "192.0.2.3", NETWORK="n"),
)


def rule(name: str, host: str, namespace: str = "default", **policy: Any) -> Object:
    subsets = [{"name": v, "labels": {"version": v}} for v in ("v1", "v2")]
    return make("DestinationRule", name, namespace, spec={"host": host, "subsets": subsets, "trafficPolicy": policy})


def routes(name: str, host: str, namespace: str = "default", **spec: Any) -> Object:
    to = {"destination": {"host": "a.default.svc.cluster.local", "subset": "v1"}}
    body = {"hosts": [host], "http": [{"route": [to]}], **spec}
    return make("VirtualService", name, namespace, spec=body)


def gateway(hosts: list[str], **tls: Any) -> Object:
    servers: list[dict[str, Any]] = [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": hosts}]
    if tls.get("httpsRedirect"):
        servers[0]["tls"] = tls
    elif tls:
        servers.append({"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": hosts, "tls": tls})
    return make("Gateway", "front", "infra", spec={"selector": {"app": "gw"}, "servers": servers})


def entry(name: str, host: str, namespace: str = "default", **spec: Any) -> Object:
    ports = [
        {"number": 80, "name": "http", "protocol": "HTTP"},
        {"number": 443, "name": "tls", "protocol": "TLS"},
        {"number": 9000, "name": "tcp", "protocol": "TCP"},
    ]
    return make("ServiceEntry", name, namespace, spec={"hosts": [host], "ports": ports, "resolution": "DNS", **spec})


MARK = {
    "applyTo": "VIRTUAL_HOST",
    "patch": {"operation": "MERGE", "value": {"request_headers_to_remove": ["x-one"]}},
}


def envoy_filter(name: str, namespace: str, *patches: dict[str, Any], **spec: Any) -> Object:
    return make("EnvoyFilter", name, namespace, spec={"configPatches": list(patches), **spec})


VARIANTS: list[list[Object]] = [
    [
        make("Node", "node-a", "", labels={"topology.kubernetes.io/region": "r1", "topology.kubernetes.io/zone": z})
        for z in ("z1", "z2")
    ],
    [pod("a-1", "10.1.0.1", app="a", version=v) for v in ("v1", "v2")],
    [pod("a-2", "10.1.0.2", app="a", version=v) for v in ("v1", "v2")],
    [pod("gw-1", "10.1.0.8", "infra", app="gw")],
    [
        service("a"),
        service("a", port=8080),
        service("a", protocol="tcp"),
        service("a", protocol="unknown"),
        service("a", annotations={"networking.istio.io/exportTo": "."}),
    ],
    [service("c", "other"), service("c", "other", spec={"clusterIP": "None"})],
    [service("gw", "infra", spec={"ports": [{"name": "http", "port": 80, "targetPort": t}]}) for t in (80, 8080)],
    [endpoint_slice("a", {"a-1": "10.1.0.1"}), endpoint_slice("a", {"a-1": "10.1.0.1", "a-2": "10.1.0.2"})],
    [
        rule("a", "a"),
        rule("a", "a.default.svc.cluster.local", outlierDetection={"consecutive5xxErrors": 3}),
        rule("a", "*.default.svc.cluster.local", loadBalancer={"consistentHash": {"httpHeaderName": "x"}}),
        rule("a", "x.example.com", tls={"mode": "SIMPLE"}),
    ],
    [rule("a", "a.default.svc.cluster.local", "other", loadBalancer={"simple": "RANDOM"})],
    [
        routes("v", "a"),
        routes("v", "a", http=[{"timeout": "1s", "route": [{"destination": {"host": "a"}}]}]),
        routes("v", "x.example.com", gateways=["infra/front", "mesh"]),
        routes("v", "*.example.com", gateways=["infra/front"]),
        routes("v", "a", exportTo=["."]),
    ],
    [routes("w", "x.example.com", "other", gateways=["infra/front"])],
    [
        gateway(["*"]),
        gateway(["x.example.com"], mode="SIMPLE", credentialName="cert"),
        gateway(["x.example.com"], httpsRedirect=True),
        gateway(["other/*"], mode="PASSTHROUGH"),
    ],
    [
        entry("x", "x.example.com"),
        entry("x", "x.example.com", resolution="STATIC", endpoints=[{"address": "192.0.2.1"}]),
        entry("x", "*.example.com", resolution="NONE"),
        entry("x", "x.example.com", exportTo=["."]),
    ],
    [
        envoy_filter("f", "default", {"applyTo": "CLUSTER", "patch": {"operation": "MERGE", "value": {"name": "x"}}}),
        envoy_filter("f", "default", {"applyTo": "LISTENER", "patch": {"operation": "REMOVE"}}),
        envoy_filter("f", "default", MARK),
    ],
    [
        envoy_filter("g", "istio-system", MARK),
        envoy_filter("g", "istio-system", MARK, workloadSelector={"labels": {"app": "a", "version": "v2"}}),
        envoy_filter("g", "istio-system", {**MARK, "match": {"proxy": {"proxyVersion": r"^1\.2"}}}, priority=3),
    ],
    [
        make("WorkloadEntry", "vm", spec={"address": "192.0.2.3", "labels": {"app": "a"}, **more})
        for more in ({}, {"ports": {"http": 9080}, "serviceAccount": "vm"}, {"network": "m", "serviceAccount": "vm"})
    ],
    [
        make("WorkloadEntry", "vm-2", spec={"address": a, "labels": {"app": "a"}, "network": "m"})
        for a in ("192.0.2.3", "192.0.2.4", "vm.example")
    ],
    [
        entry("selecting", "vms.example.com", workloadSelector={"labels": {"app": "a"}}, resolution=resolution)
        for resolution in ("STATIC", "DNS")
    ],
    [
        make(
            "Service",
            "gw-m",
            labels={"topology.istio.io/network": "m"},
            spec={"type": "LoadBalancer", "externalIPs": ips, "ports": [{"name": "tls", "port": 15443}]},
        )
        for ips in (["198.51.100.1"], ["198.51.100.1", "198.51.100.2"])
    ],
    [make("Namespace", "istio-system", "", labels=labels) for labels in ({}, {"topology.istio.io/network": "n"})],
    [
        make("ConfigMap", "istio", "istio-system", data={"mesh": text})
        for text in (
            "{}",
            "outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
            "accessLogFile: /dev/stdout",
            "trustDomain: td",
        )
    ],
]
STEPS = st.lists(
    st.lists(st.tuples(st.integers(0, len(VARIANTS) - 1), st.integers(-1, 4)), min_size=1, max_size=6),
    min_size=1,
    max_size=6,
)


def compiled(memo: Memo) -> dict[tuple[str, str], dict[str, bytes]]:
    return {
        (proxy.id, type_url): {r.name: r.any_bytes for r in memo.root(generator, proxy)}
        for proxy in PROXIES
        for type_url, generator in GENERATORS.items()
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_incremental_equals_from_scratch(steps: list[list[tuple[int, int]]]) -> None:
    world, held = World(), dict[Ref, Object]()
    memo = Memo(world)
    for step in steps:
        for slot, variant in step:
            ref = VARIANTS[slot][0].ref
            if variant < 0:
                held.pop(ref, None)
                delta = Delta(removals=(ref,))
            else:
                held[ref] = VARIANTS[slot][variant % len(VARIANTS[slot])]
                delta = Delta(upserts=(held[ref],))
            world = advance(world, delta)
            memo.advance(world, world.changed)
        scratch = advance(World(), Delta(upserts=tuple(reversed(held.values()))))
        assert compiled(memo) == compiled(Memo(scratch))


def everything() -> list[Object]:
    return [variants[0] for variants in VARIANTS]


@pytest.fixture
def warm() -> tuple[World, Memo]:
    world = advance(World(), Delta(upserts=(*everything(), *(service(f"s{i}") for i in range(50)))))
    memo = Memo(world)
    compiled(memo)
    memo.computed.clear()
    return world, memo


def test_one_virtual_service_changes_one_route_configuration(warm: tuple[World, Memo]) -> None:
    world, memo = warm
    before = {key: dict(found) for key, found in compiled(memo).items()}
    changed = routes("v", "a", http=[{"timeout": "2s", "route": [{"destination": {"host": "a"}}]}])
    world = advance(world, Delta(upserts=(changed,)))
    memo.advance(world, world.changed)
    after = compiled(memo)
    sidecar = PROXIES[0].id
    different = {
        (type_url.rsplit(".", 1)[-1], name)
        for (proxy, type_url), found in after.items()
        if proxy == sidecar
        for name, body in found.items()
        if before[proxy, type_url].get(name) != body
    }
    assert different == {("RouteConfiguration", "80")}


BUILDERS = frozenset(
    {
        "builtin_clusters",
        "compile_catch_all",
        "compile_host",
        "compile_port",
        "compile_routes_of",
        "connect_originate",
        "http_listener",
        "inbound_resource",
        "service_assignments",
        "service_clusters",
        "tcp_listener",
        "virtual_inbound",
        "virtual_outbound",
    }
)
"""The compile functions that build and serialise messages; the others resolve or compose."""


def test_one_virtual_service_runs_at_most_three_builders() -> None:
    """Its routes, its virtual host, and the joining of the route configuration; none for the other 53 services."""
    world = advance(World(), Delta(upserts=(*everything(), *(service(f"s{i}") for i in range(50)))))
    memo = Memo(world)
    for generator in GENERATORS.values():
        memo.root(generator, PROXIES[0])
    assert memo.computed.keys() >= BUILDERS  # a renamed function must be renamed here
    assert sum(memo.computed[name] for name in BUILDERS) > 150
    memo.computed.clear()
    changed = routes("v", "a", http=[{"timeout": "2s", "route": [{"destination": {"host": "a"}}]}])
    world = advance(world, Delta(upserts=(changed,)))
    memo.advance(world, world.changed)
    for generator in GENERATORS.values():
        memo.root(generator, PROXIES[0])
    assert 0 < sum(memo.computed[name] for name in BUILDERS) <= 3


def test_nothing_changes_when_an_unrelated_object_does(warm: tuple[World, Memo]) -> None:
    world, memo = warm
    before = {proxy: {t: memo.root(g, proxy) for t, g in GENERATORS.items()} for proxy in PROXIES}
    world = advance(world, Delta(upserts=(make("ConfigMap", "unrelated"), pod("zzz", "10.9.9.9"))))
    memo.advance(world, world.changed)
    for proxy in PROXIES:
        for type_url, generator in GENERATORS.items():
            assert memo.root(generator, proxy) is before[proxy][type_url]
