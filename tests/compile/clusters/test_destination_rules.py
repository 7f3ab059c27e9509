from typing import Any

import pytest

from pypilot.compile.destination_rules import (
    EffectivePolicy,
    destination_rule_for,
    effective_policy,
    endpoint_tls_mode,
    inbound_destination_rule,
    provenance,
    subsets_of,
    tunnel_settings,
)
from pypilot.compile.scope import Scope
from pypilot.compile.services import service_for
from pypilot.compile.view import ProxyView, view_of
from pypilot.kinds.base import Object
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.reader import Reader
from pypilot.world.world import World
from tests.golden import node
from tests.world.objects import make, service

HOST = "cart.shop.svc.cluster.local"
OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


def rule(name: str, namespace: str = "shop", host: str = HOST, created: str = OLD, **spec: Any) -> Object:
    return make("DestinationRule", name, namespace, creationTimestamp=created, spec={"host": host, **spec})


def reader(*objects: Object, mesh: MeshConfig | None = None) -> Reader:
    return Reader(advance(World(), Delta(upserts=(service("cart", "shop"), *objects), mesh=mesh)))


def view(reader: Reader, namespace: str, **labels: str) -> ProxyView:
    return view_of(reader, node({"namespace": namespace, "name": "client", "labels": labels}))


def names(reader: Reader, namespace: str, **labels: str) -> list[str] | None:
    seen = view(reader, namespace, **labels)
    found = service_for(reader, Scope(namespace), HOST)
    assert found is not None
    selection = destination_rule_for(reader, seen, found)
    return [f"{ref.namespace}/{ref.name}" for ref in selection] if selection is not None else None


ROOT = "istio-system"


@pytest.mark.parametrize(
    ("rules", "client", "expected"),
    [
        # DR-002: the client's namespace, the service's, the root.
        ([rule("c", "client"), rule("s"), rule("r", ROOT)], "client", ["client/c"]),
        ([rule("s"), rule("r", ROOT)], "client", ["shop/s"]),
        ([rule("r", ROOT)], "client", [f"{ROOT}/r"]),
        ([rule("o", "other")], "client", None),
        # A wildcard in a nearer namespace hides an exact host further away; within one the exact host wins (DR-001).
        ([rule("c", "client", "*.local"), rule("s")], "client", ["client/c"]),
        ([rule("w", host="*.shop.svc.cluster.local"), rule("v", host="*"), rule("u", host="*.local")], "x", ["shop/w"]),
        ([rule("w", host="*.shop.svc.cluster.local"), rule("s")], "x", ["shop/s"]),
        ([rule("s", host="cart")], "x", ["shop/s"]),
        ([rule("s", host="cart.shop")], "x", None),
        # DR-003: what is not exported is not seen, and the search goes on.
        ([rule("s", exportTo=["."]), rule("r", ROOT)], "client", [f"{ROOT}/r"]),
        ([rule("s", exportTo=["."])], "shop", ["shop/s"]),
        ([rule("s", exportTo=["client"])], "client", ["shop/s"]),
        ([rule("s", exportTo=["client"])], "other", None),
        ([rule("c", "client", exportTo=["shop"]), rule("s")], "client", ["shop/s"]),
        # DR-004: the root's private rules are for the root; proxies there look at the service's namespace first.
        ([rule("p", ROOT, exportTo=["."])], "client", None),
        ([rule("p", ROOT, exportTo=["."]), rule("s")], ROOT, [f"{ROOT}/p"]),
        ([rule("r", ROOT), rule("s")], ROOT, ["shop/s"]),
        # DR-005: merged oldest first, if they are shown to the same namespaces.
        ([rule("b"), rule("a", created=NEW)], "x", ["shop/b", "shop/a"]),
        ([rule("b", exportTo=["*"]), rule("a", created=NEW, exportTo=["*", "client"])], "x", ["shop/b", "shop/a"]),
        ([rule("b", exportTo=["x"]), rule("a", created=NEW, exportTo=["y"])], "x", ["shop/b"]),
        ([rule("b", exportTo=["x"]), rule("a", created=NEW, exportTo=["y"])], "y", ["shop/a"]),
    ],
)
def test_which_rules_hold(rules: list[Object], client: str, expected: list[str] | None) -> None:
    assert names(reader(*rules), client) == expected


def test_a_mesh_may_make_rules_private() -> None:
    mesh = MeshConfig(default_destination_rule_export_to=(".",))
    made = reader(rule("s"), mesh=mesh)
    assert names(made, "shop") == ["shop/s"]
    assert names(made, "client") is None


def selecting(name: str, app: str, namespace: str = "shop", **spec: Any) -> Object:
    return rule(name, namespace, workloadSelector={"matchLabels": {"app": app}}, **spec)


def test_rules_for_some_workloads() -> None:
    """DR-008, DR-009: within their namespace, outbound, before the general rule; never elsewhere."""
    made = reader(rule("all"), selecting("some", "a", created=NEW), selecting("more", "a"), selecting("b", "b"))
    assert names(made, "shop", app="a") == ["shop/more", "shop/some"]
    assert names(made, "shop", app="b") == ["shop/b"]
    assert names(made, "shop", app="c") == ["shop/all"]
    assert names(made, "client", app="a") == ["shop/all"]
    found = service_for(made, Scope("shop"), HOST)
    assert found is not None
    inbound = inbound_destination_rule(made, "shop", found)
    assert inbound is not None
    assert [ref.name for ref in inbound] == ["all"]


def test_a_rule_for_other_workloads_hides_those_of_the_service() -> None:
    """The first namespace with a match decides, even if nothing of it is for this proxy."""
    made = reader(rule("s"), selecting("c", "a", "client"))
    assert names(made, "client", app="a") == ["client/c"]
    assert names(made, "client", app="b") is None


def test_merged_rules_unite_their_subsets() -> None:
    """DR-006, DR-010: the first of a name wins; one policy, not a mixture; the first rule is the provenance."""
    first = rule("first", subsets=[{"name": "a", "labels": {"from": "first"}}])
    policy = {"loadBalancer": {"simple": "RANDOM"}}
    second = rule("second", created=NEW, trafficPolicy=policy, subsets=[{"name": "a"}, {"name": "b"}])
    third = rule("third", created="2026-03-01T00:00:00Z", trafficPolicy={"tls": {"mode": "SIMPLE"}})
    made = reader(first, second, third)
    selection = (first.ref, second.ref, third.ref)
    assert [(s.name, s.labels) for s in subsets_of(made, selection)] == [("a", {"from": "first"}), ("b", {})]
    merged = effective_policy(made, selection, 80)
    assert merged.load_balancer is not None
    assert merged.tls is None
    assert provenance(made, selection).endswith("/namespaces/shop/destination-rule/first")


def tls(mode: str) -> dict[str, Any]:
    return {"tls": {"mode": mode}}


def pool(connections: int) -> dict[str, Any]:
    return {"connectionPool": {"tcp": {"maxConnections": connections}}}


def at(port: int, **policy: Any) -> dict[str, Any]:
    return {"portLevelSettings": [{"port": {"number": port}, **policy}]}


LAYERED = rule(
    "layered",
    trafficPolicy={
        **tls("DISABLE"),
        **pool(1),
        "tunnel": {"targetHost": "top"},
        **at(81, **pool(2)),
    },
    subsets=[
        {"name": "silent"},
        {"name": "pool", "trafficPolicy": pool(3)},
        {"name": "port", "trafficPolicy": {**pool(4), **at(80, **tls("SIMPLE"))}},
        {"name": "tunnel", "trafficPolicy": {"tunnel": {"targetHost": "own"}}},
    ],
)


def brief(policy: EffectivePolicy) -> tuple[str | None, int | None, str | None]:
    tcp = policy.connection_pool.tcp if policy.connection_pool else None
    return (
        policy.tls.mode if policy.tls else None,
        tcp.max_connections if tcp else None,
        policy.tunnel.target_host if policy.tunnel else None,
    )


@pytest.mark.parametrize(
    ("port", "subset", "expected"),
    [
        (80, "", ("DISABLE", 1, "top")),
        (81, "", (None, 2, None)),
        (80, "silent", ("DISABLE", 1, "top")),
        (81, "silent", (None, 2, None)),
        (80, "pool", ("DISABLE", 3, "top")),
        (81, "pool", (None, 3, None)),
        (80, "port", ("SIMPLE", None, "top")),
        (81, "port", (None, 4, None)),
        (80, "tunnel", ("DISABLE", 1, "own")),
        (80, "unknown", ("DISABLE", 1, "top")),
    ],
)
def test_ports_and_subsets(port: int, subset: str, expected: tuple[str | None, int | None, str | None]) -> None:
    """DR-022…024: a port entry replaces its whole level; a subset overrides block by block."""
    assert brief(effective_policy(reader(LAYERED), (LAYERED.ref,), port, subset)) == expected


def test_no_rule_is_an_empty_policy() -> None:
    assert effective_policy(reader(), None, 80) == EffectivePolicy()
    assert effective_policy(reader(), (LAYERED.ref,), 80, "x") == EffectivePolicy()


@pytest.mark.parametrize(
    ("port", "subset", "mode"),
    [(80, "", "DISABLE"), (81, "", "DISABLE"), (80, "silent", "DISABLE"), (80, "port", "SIMPLE"), (80, "?", None)],
)
def test_the_mode_for_endpoints_is_inherited_by_ports(port: int, subset: str, mode: str | None) -> None:
    """EDS-005: other than for clusters."""
    assert endpoint_tls_mode(reader(LAYERED), (LAYERED.ref,), port, subset) == mode


def test_a_tunnel_holds_for_every_port() -> None:
    made = reader(LAYERED)
    found = [tunnel_settings(made, (LAYERED.ref,), subset) for subset in ("", "pool", "tunnel")]
    assert [t.target_host if t else None for t in found] == ["top", "top", "own"]


def test_a_wildcard_service_matches_wildcard_rules() -> None:
    entry = make(
        "ServiceEntry",
        "e",
        "shop",
        spec={"hosts": ["*.a.example"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]},
    )
    for host, expected in (("*.a.example", True), ("*.example", True), ("b.a.example", False), ("*.b.example", False)):
        made = reader(entry, rule("w", host=host))
        found = service_for(made, Scope("shop"), "*.a.example")
        assert found is not None
        assert (destination_rule_for(made, view(made, "shop"), found) is not None) is expected
