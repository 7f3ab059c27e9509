"""advance: whatever the order and the grouping of changes, the tables are those of a world built at once."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pypilot.kinds.base import Duration, Object, Ref
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.model import ServiceKey
from pypilot.world.reader import Reader
from pypilot.world.world import World
from tests.world.objects import endpoint_slice, make, pod, service


def world_of(*objects: Object) -> World:
    return advance(World(), Delta(upserts=objects))


VARIANTS: list[list[Object]] = [
    [make("Node", "node-a", "", labels={"topology.kubernetes.io/region": r}) for r in ("r1", "r2")],
    [pod("a-1", ip, app="a", version=v) for ip, v in (("10.1.0.1", "v1"), ("10.1.0.9", "v1"), ("10.1.0.1", "v2"))],
    [pod("a-2", ip, app="a") for ip in ("10.1.0.2", "10.1.0.1")],
    [service("a"), service("a", port=81), service("a", annotations={"networking.istio.io/exportTo": "."})],
    [service("b", "other"), service("b", "other", spec={"clusterIP": "None"})],
    [endpoint_slice("a", {"a-1": "10.1.0.1"}), endpoint_slice("a", {"a-1": "10.1.0.1", "a-2": "10.1.0.2"})],
    [
        make(
            "EndpointSlice",
            "b-x",
            "other",
            labels={"kubernetes.io/service-name": "b"},
            endpoints=[{"addresses": ["10.1.0.2"]}],
            ports=[{"name": "http", "port": p}],
        )
        for p in (1, 2)
    ],
    [
        make(
            "ServiceEntry",
            "se",
            spec={
                "hosts": hosts,
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "resolution": "STATIC",
                **more,
            },
        )
        for hosts, more in (
            (["x.example.com"], {"workloadSelector": {"labels": {"app": "a"}}}),
            (["x.example.com", "y.example.com"], {"endpoints": [{"address": "192.0.2.1"}]}),
            (["x.example.com", "y.example.com"], {"endpoints": [{"address": "192.0.2.2"}]}),
            (["a.default.svc.cluster.local"], {"exportTo": ["other"]}),
        )
    ],
    [
        make("ServiceEntry", "se-2", spec={"hosts": ["x.example.com"], "resolution": "STATIC", **more})
        for more in (
            {"ports": [{"number": 81, "name": "more", "protocol": "HTTP"}], "endpoints": [{"address": "192.0.2.7"}]},
            {"ports": [{"number": 81, "name": "more", "protocol": "HTTP"}], "endpoints": [{"address": "192.0.2.8"}]},
            {
                "ports": [{"number": 82, "name": "http", "protocol": "HTTP"}],
                "workloadSelector": {"labels": {"app": "a"}},
            },
        )
    ],
    *(
        [
            make("WorkloadEntry", name, namespace, spec={"address": "192.0.2.3", "labels": {"app": "a"}}),
            make("WorkloadEntry", name, namespace, spec={"address": "192.0.2.4", "labels": {"app": "a"}, "weight": 3}),
            make("WorkloadEntry", name, namespace, spec={"address": "vm.example", "labels": {"app": "a"}}),
            make(
                "WorkloadEntry",
                name,
                namespace,
                annotations={"proxy.istio.io/health-checks-enabled": "true"},
                spec={"address": "192.0.2.3", "labels": {"app": "a"}},
            ),
        ]
        for name, namespace in (("vm", "default"), ("vm-2", "default"), ("vm", "other"))
    ),
    [make("Namespace", "istio-system", "", labels=labels) for labels in ({}, {"topology.istio.io/network": "n"})],
    [
        make(
            "Service",
            "gw",
            labels={"topology.istio.io/network": network},
            spec={"type": "LoadBalancer", "externalIPs": ["198.51.100.1"], "ports": [{"name": "tls", "port": port}]},
        )
        for network, port in (("n", 15443), ("m", 15443), ("n", 443))
    ],
    [
        make(
            "Service",
            "gw-2",
            annotations={"traffic.istio.io/nodeSelector": "{}"},
            spec={"type": "NodePort", "ports": [{"name": "tls", "port": 15443, "nodePort": 30443}]},
        )
    ],
    [
        make("Node", "node-b", "", status={"addresses": [{"type": "ExternalIP", "address": a}]})
        for a in ("198.51.100.7", "198.51.100.8")
    ],
    [make("DestinationRule", "d", spec={"host": h}) for h in ("a", "b")],
    [
        make(
            "VirtualService",
            "v",
            spec={"hosts": ["a"], "gateways": g, "http": [{"route": [{"destination": {"host": "a"}}]}]},
        )
        for g in ([], ["gw", "mesh"], ["other/gw"])
    ],
    [make("Gateway", "gw", spec={"selector": {"istio": s}, "servers": []}) for s in ("a", "b")],
    [make("Namespace", "default", "", labels={"x": x}) for x in "ab"],
    [
        make("Ingress", "i", spec={"ingressClassName": "mesh", "rules": [{"host": h, "http": {"paths": [path]}}]})
        for h, path in (
            ("a.example.com", {"path": "/", "backend": {"service": {"name": "a", "port": {"name": "http"}}}}),
            ("b.example.com", {"path": "/", "backend": {"service": {"name": "a", "port": {"number": 80}}}}),
        )
    ],
    [make("IngressClass", "mesh", "", spec={"controller": c}) for c in ("istio.io/ingress-controller", "other")],
    [
        make(
            "VirtualService",
            "a-example-com-i-istio-autogenerated-k8s-ingress",
            spec={"hosts": ["a"], "gateways": g, "http": [{"route": [{"destination": {"host": "a"}}]}]},
        )
        for g in ([], ["istio-system/i-istio-autogenerated-k8s-ingress-default"])
    ],
    [
        make(
            "Gateway",
            "i-istio-autogenerated-k8s-ingress-default",
            "istio-system",
            spec={"selector": {"istio": "mine"}, "servers": []},
        )
    ],
    [
        make("ConfigMap", "istio", "istio-system", data={"mesh": text})
        for text in (
            "trustDomain: td",
            "defaultServiceExportTo: ['.']",
            "{broken",
            "ingressControllerMode: DEFAULT",
            "{}",
        )
    ],
    [
        make("ConfigMap", "istio", "istio-system", data={"meshNetworks": f"networks: {{n: {{{text}}}}}"})
        for text in (
            "endpoints: [{fromCidr: 192.0.2.0/24}]",
            "gateways: [{address: 198.51.100.2, port: 443}]",
            "endpoints: [{fromRegistry: Kubernetes}], "
            "gateways: [{registryServiceName: gw-2.default.svc.cluster.local, port: 15443}]",
        )
    ],
]
STEPS = st.lists(
    st.lists(st.tuples(st.integers(0, len(VARIANTS) - 1), st.integers(-1, 3)), min_size=1, max_size=4),
    min_size=1,
    max_size=8,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_any_history_gives_the_world_of_its_end(steps: list[list[tuple[int, int]]]) -> None:
    world, held = World(), dict[Ref, Object]()
    for step in steps:
        upserts, removals = dict[Ref, Object](), set[Ref]()
        for slot, variant in step:
            ref = VARIANTS[slot][0].ref
            if variant < 0:
                upserts.pop(ref, None)
                removals.add(ref)
            else:
                removals.discard(ref)
                upserts[ref] = VARIANTS[slot][variant % len(VARIANTS[slot])]
        for ref in removals:
            held.pop(ref, None)
        before = world
        held.update(upserts)
        world = advance(world, Delta(upserts=tuple(upserts.values()), removals=tuple(removals)))
        for table, buckets in before.tables.items():
            for key, bucket in buckets.items():
                same = world.tables.get(table, {}).get(key) is bucket
                assert same or (table, key) in world.changed, (table, key)
    mesh_text = next((o for o in held.values() if o.ref.kind == "ConfigMap"), None)
    if mesh_text is not None and "{broken" in str(mesh_text):
        return  # a broken MeshConfig keeps the last good one: history matters there, by design
    scratch = world_of(*held.values())
    mine = {t: b for t, b in world.tables.items() if b}
    assert mine == {t: b for t, b in scratch.tables.items() if b}


def test_equal_objects_keep_every_bucket() -> None:
    world = world_of(service("a"), pod("a-1", "10.1.0.1", app="a"), endpoint_slice("a", {"a-1": "10.1.0.1"}))
    again = advance(world, Delta(upserts=(service("a"), endpoint_slice("a", {"a-1": "10.1.0.1"}))))
    assert again.changed == frozenset()


def test_endpoints_follow_a_pod_that_arrives_late() -> None:
    """KSVC-028."""
    key = ServiceKey("a.default.svc.cluster.local", "default")
    world = world_of(service("a"), endpoint_slice("a", {"a-1": "10.1.0.1"}))
    assert Reader(world).endpoints(key) == ()
    world = advance(world, Delta(upserts=(pod("a-1", "10.1.0.1", app="a", version="v1"),)))
    (endpoint,) = Reader(world).endpoints(key)
    assert endpoint.label("version") == "v1"
    assert endpoint.port("http") == 8080
    assert Reader(world).service_accounts(key) == ("spiffe://cluster.local/ns/default/sa/a",)


def test_an_endpoint_change_does_not_touch_the_accounts() -> None:
    pods = [pod(f"a-{i}", f"10.1.0.{i}", app="a") for i in (1, 2)]
    world = world_of(service("a"), *pods, endpoint_slice("a", {"a-1": "10.1.0.1"}))
    world = advance(world, Delta(upserts=(endpoint_slice("a", {"a-1": "10.1.0.1", "a-2": "10.1.0.2"}),)))
    assert {table for table, _ in world.changed} <= {"endpoints", "slices", "pod_users"}


def mesh_map(name: str = "istio", namespace: str = "istio-system", **data: str) -> Object:
    return make("ConfigMap", name, namespace, data=data)


def test_the_mesh_is_read_from_its_config_map() -> None:
    """MESH-001: over the defaults, of the one name in the root namespace alone, again with each change."""
    assert Reader(world_of()).mesh() == MeshConfig()
    strangers = (mesh_map("other", mesh="trustDomain: x"), mesh_map(namespace="default", mesh="trustDomain: x"))
    world = world_of(*strangers, service("web"), pod("web-1", "10.1.0.1"), endpoint_slice("web", {"web-1": "10.1.0.1"}))
    assert Reader(world).mesh() == MeshConfig()
    networks = "networks: {east: {endpoints: [{fromCidr: 10.1.0.0/16}], gateways: []}}"
    world = advance(world, Delta(upserts=(mesh_map(mesh="trustDomain: one", meshNetworks=networks),)))
    reader, key = Reader(world), ServiceKey("web.default.svc.cluster.local", "default")
    assert reader.mesh() == MeshConfig(trust_domain="one")
    assert list(reader.mesh_networks().networks) == ["east"]
    (endpoint,) = reader.endpoints(key)
    assert (endpoint.network, endpoint.service_account) == ("east", "spiffe://one/ns/default/sa/web-1")
    world = advance(world, Delta(upserts=(mesh_map(mesh="connectTimeout: 3s"),)))
    assert Reader(world).mesh() == MeshConfig(connect_timeout=Duration(3_000_000_000))
    assert ("mesh", "") in world.changed
    (endpoint,) = Reader(world).endpoints(key)
    assert (endpoint.network, endpoint.service_account) == ("", "spiffe://cluster.local/ns/default/sa/web-1")
    world = advance(world, Delta(removals=(Ref("ConfigMap", "istio-system", "istio"),)))
    assert Reader(world).mesh() == MeshConfig()


def test_an_override_of_the_mesh_wins_and_a_broken_text_keeps_the_last() -> None:
    """MESH-002."""
    world = world_of(make("ConfigMap", "istio", "istio-system", data={"mesh": "trustDomain: one"}))
    assert Reader(world).mesh().trust_domain == "one"
    world = advance(
        world, Delta(upserts=(make("ConfigMap", "istio", "istio-system", data={"mesh": "trustDomain: ["}),))
    )
    assert Reader(world).mesh().trust_domain == "one"
    assert [p.ref.name for p in world.problems if p.ref] == ["istio"]
    world = advance(world, Delta(mesh=MeshConfig(trust_domain="two")))
    assert Reader(world).mesh().trust_domain == "two"
    assert world.problems == ()


def test_another_endpoint_of_a_service_entry_is_seen() -> None:
    def entry(address: str) -> Object:
        ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
        spec = {"hosts": ["x.example"], "ports": ports, "resolution": "STATIC", "endpoints": [{"address": address}]}
        return make("ServiceEntry", "x", spec=spec)

    world = advance(world_of(entry("192.0.2.1")), Delta(upserts=(entry("192.0.2.2"),)))
    assert [e.address for e in Reader(world).endpoints(ServiceKey("x.example", "default"))] == ["192.0.2.2"]
