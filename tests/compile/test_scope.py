"""What a Sidecar lets its proxies see: which one is selected, and which services, rules and aliases it imports."""

from typing import Any

import pytest

from pypilot.compile.destination_rules import destination_rule_for
from pypilot.compile.outbound_policy import outbound_policy
from pypilot.compile.routes.aliases import aliases_in
from pypilot.compile.scope import Scope, mesh_rules, sidecar_of
from pypilot.compile.services import listed_services, seen_service, service_for, visible_services
from pypilot.compile.view import ProxyView, view_of
from pypilot.kinds.base import Object, Ref
from pypilot.kinds.mesh_config import MeshConfig, OutboundTrafficPolicy
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.reader import Reader
from pypilot.world.world import World
from tests.golden import node
from tests.world.objects import make, service

OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
EVERYTHING = {"a.shop", "b.shop", "pay.pay", "admin.pay", "db.data"}


def sidecar(name: str = "default", namespace: str = "shop", *, age: str = OLD, **spec: Any) -> Object:
    return make("Sidecar", name, namespace, creationTimestamp=age, spec=spec)


def importing(*hosts: str, **more: Any) -> Object:
    return sidecar(egress=[{"hosts": list(hosts)}], **more)


def world(*objects: Object, mesh: MeshConfig | None = None) -> Reader:
    services = (
        service("a", "shop"),
        service("b", "shop", annotations={"networking.istio.io/exportTo": "."}),
        service("pay", "pay", spec={"ports": [{"name": "http", "port": 80}, {"name": "http-b", "port": 8080}]}),
        service("admin", "pay"),
        service("secret", "pay", annotations={"networking.istio.io/exportTo": "."}),
        service("db", "data", port=3306, protocol="tcp"),
    )
    return Reader(advance(World(), Delta(upserts=(*services, *objects), mesh=mesh)))


def view(reader: Reader, namespace: str = "shop", **more: Any) -> ProxyView:
    return view_of(reader, node({"namespace": namespace, "name": "client", **more}))


def names(reader: Reader, **more: Any) -> set[str]:
    return {key.hostname.removesuffix(".svc.cluster.local") for key in visible_services(reader, view(reader, **more))}


# -- selection (SC-001, SC-017, SC-018) -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sidecars", "chosen"),
    [
        ([importing("./*")], "default"),
        ([importing("./*", name="z", age=OLD), importing("./*", name="a", age=NEW)], "z"),
        (
            [importing("./*", age=OLD), importing("./*", name="s", age=NEW, workloadSelector={"labels": {"v": "1"}})],
            "s",
        ),
        ([importing("./*", name="s", workloadSelector={"labels": {"v": "2"}})], None),
        ([importing("./*", name="root", namespace="istio-system")], "root"),
        ([importing("./*", name="s", namespace="istio-system", workloadSelector={"labels": {"v": "1"}})], None),
        ([importing("./*", name="other", namespace="pay")], None),
        (
            [
                importing("./*", name="s", workloadSelector={"labels": {"v": "2"}}),
                importing("./*", name="root", namespace="istio-system"),
            ],
            "root",
        ),
    ],
)
def test_selection(sidecars: list[Object], chosen: str | None) -> None:
    """SC-001, SC-017."""
    reader = world(*sidecars)
    ref = sidecar_of(reader, node({"namespace": "shop", "labels": {"v": "1"}}))
    assert (ref.name if ref is not None else None) == chosen


def test_gateways_have_no_sidecar() -> None:
    """SC-018."""
    reader = world(importing("./*", namespace="istio-system", name="root"))
    assert names(reader, type="router") == EVERYTHING
    assert names(reader) == {"a.shop", "b.shop"}


def test_a_sidecar_that_says_nothing_of_outbound_traffic_limits_nothing() -> None:
    ingress = [{"port": {"number": 80, "protocol": "HTTP", "name": "http"}}]
    assert view(world(sidecar(ingress=ingress))) == view(world())


# -- imports (SC-002, SC-003) -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "seen"),
    [
        (["*/*"], EVERYTHING),
        (["./*"], {"a.shop", "b.shop"}),
        (["shop/*"], {"a.shop", "b.shop"}),
        (["~/*"], set()),
        (["pay/*"], {"pay.pay", "admin.pay"}),
        (["pay/pay.pay.svc.cluster.local"], {"pay.pay"}),
        (["pay/secret.pay.svc.cluster.local"], set()),
        (["data/pay.pay.svc.cluster.local"], set()),
        (["*/pay.pay.svc.cluster.local", "*/secret.pay.svc.cluster.local"], {"pay.pay"}),
        (["*/*.pay.svc.cluster.local"], {"pay.pay", "admin.pay"}),
        (["pay/*.pay.svc.cluster.local", "data/*.pay.svc.cluster.local"], {"pay.pay", "admin.pay"}),
        (["*/*", "~pay/*"], EVERYTHING - {"pay.pay", "admin.pay"}),
        (["*/*", "~pay/admin.pay.svc.cluster.local"], EVERYTHING - {"admin.pay"}),
        (["pay/*", "~/admin.pay.svc.cluster.local"], {"pay.pay"}),
        (["pay/*", "./a.shop.svc.cluster.local", "~./*"], {"pay.pay", "admin.pay"}),
    ],
)
def test_hosts(hosts: list[str], seen: set[str]) -> None:
    """SC-002, SC-003."""
    assert names(world(importing(*hosts))) == seen


def test_each_listener_imports_for_itself_and_all_together() -> None:
    """SC-002, SC-004, SC-007."""
    egress = [
        {"port": {"number": 8080, "protocol": "HTTP", "name": "http"}, "hosts": ["*/*"]},
        {"hosts": ["data/*"]},
    ]
    reader = world(sidecar(egress=egress))
    whole = view(reader)
    assert names(reader) == {"pay.pay", "db.data"}
    assert [key.namespace for key in visible_services(reader, whole.through(0))] == ["pay"]
    assert [key.namespace for key in visible_services(reader, whole.through(1))] == ["data"]
    found = service_for(reader, whole, "pay.pay.svc.cluster.local")
    assert found is not None
    assert [port.number for port in found.ports] == [8080]


def test_ports_of_several_listeners_are_united() -> None:
    egress = [
        {"port": {"number": n, "protocol": "HTTP", "name": "http"}, "hosts": ["pay/pay.pay.svc.cluster.local"]}
        for n in (80, 8080)
    ]
    reader = world(sidecar(egress=egress))
    (key,) = visible_services(reader, view(reader))
    whole, first = (seen_service(reader, v, key) for v in (view(reader), view(reader).through(0)))
    assert whole is not None
    assert first is not None
    assert [port.number for port in whole.ports] == [80, 8080]
    assert [port.number for port in first.ports] == [80]


# -- definitions (SE-021) ---------------------------------------------------------------------------------------------


def entry(name: str, namespace: str, host: str = "x.example", age: str = OLD, **spec: Any) -> Object:
    body = {"hosts": [host], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "DNS", **spec}
    return make("ServiceEntry", name, namespace, creationTimestamp=age, spec=body)


@pytest.mark.parametrize(
    ("hosts", "definitions", "owner"),
    [
        (["*/*"], [("pay", OLD), ("data", NEW)], "pay"),
        (["*/*"], [("pay", OLD), ("shop", NEW)], "shop"),
        (["*/x.example"], [("pay", NEW), ("data", OLD)], "data"),
        (["pay/*", "data/x.example"], [("pay", NEW), ("data", OLD)], "data"),
        (["pay/*"], [("pay", NEW), ("data", OLD), ("shop", OLD)], "pay"),
    ],
)
def test_which_definition_of_a_host(hosts: list[str], definitions: list[tuple[str, str]], owner: str) -> None:
    """SE-021: among the imported ones, the own namespace's, then the oldest."""
    reader = world(importing(*hosts), *(entry("x", namespace, age=age) for namespace, age in definitions))
    found = service_for(reader, view(reader), "x.example")
    assert found is not None
    assert found.namespace == owner


def test_the_first_listener_keeps_a_host_but_for_a_kubernetes_service() -> None:
    """SC-002."""
    host = "pay.pay.svc.cluster.local"
    egress = [
        {"port": {"number": 80, "protocol": "HTTP", "name": "http"}, "hosts": ["data/*"]},
        {"hosts": ["istio-system/*", "pay/*"]},
    ]
    reader = world(sidecar(egress=egress), entry("p", "data", host), entry("p", "istio-system", host))
    found = service_for(reader, view(reader), host)
    assert found is not None
    assert found.namespace == "pay"
    reader = world(sidecar(egress=egress), entry("x", "data", "y.example"), entry("x", "istio-system", "y.example"))
    found = service_for(reader, view(reader), "y.example")
    assert found is not None
    assert found.namespace == "data"


# -- VirtualServices (SC-004, SC-006) ---------------------------------------------------------------------------------


def rule(host: str, namespace: str, *destinations: dict[str, Any], **spec: Any) -> Object:
    http = [{"route": [{"destination": d}]} for d in destinations or ({"host": host},)]
    return make("VirtualService", "v", namespace, spec={"hosts": [host], "http": http, **spec})


@pytest.mark.parametrize(
    ("imported", "host", "seen"),
    [
        ("pay/pay.pay.svc.cluster.local", "pay.pay.svc.cluster.local", True),
        ("pay/*", "anything.example", True),
        ("*/anything.example", "anything.example", True),
        ("pay/a.example", "b.example", False),
        ("data/*", "pay.pay.svc.cluster.local", False),
        ("pay/a.example.com", "*.example.com", True),
        ("pay/*.example.com", "a.example.com", True),
        ("pay/*.a.example.com", "*.example.com", True),
        ("pay/*.a.example.com", "*.b.example.com", False),
    ],
)
def test_which_rules_are_imported(imported: str, host: str, seen: bool) -> None:
    """SC-006: a VirtualService is imported if its host is, or covers what is."""
    reader = world(importing(imported), rule(host, "pay", {"host": "nowhere.example"}))
    assert bool(mesh_rules(reader, view(reader))) is seen


@pytest.mark.parametrize(("host", "seen"), [("*.example.com", False), ("a.example.com", True)])
def test_routes_of_the_gateway_api_are_imported_by_their_own_host_alone(host: str, seen: bool) -> None:
    """SC-006."""
    annotations = {"internal.istio.io/route-semantics": "gateway"}
    spec = {"hosts": [host], "http": [{"route": [{"destination": {"host": "x.example"}}]}]}
    reader = world(
        importing("pay/a.example.com"), make("VirtualService", "v", "pay", annotations=annotations, spec=spec)
    )
    assert bool(mesh_rules(reader, view(reader))) is seen


def test_excluded_hosts_import_no_rules() -> None:
    """SC-003."""
    reader = world(importing("pay/*", "~pay/x.example"), rule("x.example", "pay", {"host": "nowhere.example"}))
    assert mesh_rules(reader, view(reader)) == ()


def test_where_imported_rules_lead_is_imported() -> None:
    """SC-004: on the ports to which they lead; unless the Sidecar names the service itself, then whole."""
    to = {"host": "pay.pay.svc.cluster.local", "port": {"number": 8080}}
    reader = world(importing("./*"), rule("a", "shop", to))
    assert names(reader) == {"a.shop", "b.shop", "pay.pay"}
    found = service_for(reader, view(reader), "pay.pay.svc.cluster.local")
    assert found is not None
    assert [port.number for port in found.ports] == [8080]
    listed = {key.hostname.partition(".")[0] for key in listed_services(reader, view(reader))}
    assert listed == {"a", "b"}, "no name is told that the Sidecar does not name"
    whole = world(importing("./*", "pay/*"), rule("a", "shop", to))
    found = service_for(whole, view(whole), "pay.pay.svc.cluster.local")
    assert found is not None
    assert len(found.ports) == 2


@pytest.mark.parametrize(
    ("destination", "seen"),
    [
        ({"host": "pay.pay.svc.cluster.local", "port": {"number": 1}}, False),
        ({"host": "secret.pay.svc.cluster.local"}, False),
        ({"host": "nowhere.example"}, False),
        ({"host": "db.data.svc.cluster.local"}, True),
    ],
)
def test_what_rules_cannot_reach_is_not_imported(destination: dict[str, Any], seen: bool) -> None:
    """SC-004."""
    reader = world(importing("./*"), rule("a", "shop", destination))
    assert (len(names(reader)) == 3) is seen


def test_rules_for_other_namespaces_import_nothing() -> None:
    """SC-004."""
    http = [
        {"match": [{"sourceNamespace": "other"}], "route": [{"destination": {"host": "db.data.svc.cluster.local"}}]},
        {"route": [{"destination": {"host": "a"}}], "mirror": {"host": "admin.pay.svc.cluster.local"}},
    ]
    reader = world(importing("./*"), rule("a", "shop", http=http))
    assert names(reader) == {"a.shop", "b.shop", "admin.pay"}


# -- what else follows ------------------------------------------------------------------------------------------------


def test_aliases_are_imported_by_their_own_names() -> None:
    spec = {"type": "ExternalName", "externalName": "pay.pay.svc.cluster.local"}
    alias = make("Service", "alias", "pay", spec=spec)
    host = "pay.pay.svc.cluster.local"
    for hosts, seen in ((["pay/*"], True), (["pay/pay.pay.svc.cluster.local"], False)):
        reader = world(importing(*hosts), alias)
        assert bool(aliases_in(reader, view(reader).through(0)).get(host)) is seen


def test_rules_of_services_that_are_not_seen_do_not_hold() -> None:
    """DR-002 under a Sidecar: the definition that is seen decides whose rules count."""
    spec = {"host": "x.example", "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 1}}}}
    rules = [make("DestinationRule", "r", namespace, spec=spec) for namespace in ("pay", "data")]
    reader = world(importing("data/*"), entry("x", "pay"), entry("x", "data"), *rules)
    found = service_for(reader, view(reader), "x.example")
    assert found is not None
    assert destination_rule_for(reader, view(reader), found) == (Ref("DestinationRule", "data", "r"),)


@pytest.mark.parametrize(
    ("policy", "mode", "cluster"),
    [
        (None, "REGISTRY_ONLY", "BlackHoleCluster"),
        ({}, "REGISTRY_ONLY", "BlackHoleCluster"),
        ({"mode": "ALLOW_ANY"}, "ALLOW_ANY", "PassthroughCluster"),
        (
            {"mode": "ALLOW_ANY", "egressProxy": {"host": "p.example", "subset": "v1", "port": {"number": 1}}},
            "ALLOW_ANY",
            "outbound|1|v1|p.example",
        ),
    ],
)
def test_outbound_policy(policy: dict[str, Any] | None, mode: str, cluster: str) -> None:
    """SC-005, SC-012: the Sidecar's policy, else the mesh's."""
    more = {"outboundTrafficPolicy": policy} if policy is not None else {}
    mesh = MeshConfig(outbound_traffic_policy=OutboundTrafficPolicy("REGISTRY_ONLY"))
    reader = world(sidecar(egress=[{"hosts": ["./*"]}], **more), mesh=mesh)
    found = outbound_policy(reader, view(reader))
    assert (found.mode, found.cluster) == (mode, cluster)


def test_scopes_of_one_sidecar_are_equal() -> None:
    reader = world(importing("./*"))
    one, other = (view(reader, ip=ip) for ip in ("10.1.0.1", "10.1.0.2"))
    assert one == other
    assert one.scope == Scope("shop", Ref("Sidecar", "shop", "default"))
