"""Selection, absolute names and delegates (VS-001…016)."""

from typing import Any

import pytest

from pypilot.compile.routes.delegates import merge_delegate
from pypilot.compile.routes.virtual_services import gateway_name, resolved, virtual_services_for
from pypilot.kinds.base import Object, Ref
from pypilot.kinds.parse import convert
from pypilot.kinds.virtual_service import HTTPMatchRequest, HTTPRoute
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.reader import Reader
from pypilot.world.world import World
from tests.world.objects import make

TO = [{"destination": {"host": "a"}}]


def reader(*objects: Object) -> Reader:
    return Reader(advance(World(), Delta(upserts=objects)))


def virtual_service(name: str, namespace: str = "default", **spec: Any) -> Object:
    return make("VirtualService", name, namespace, spec={"hosts": ["a"], "http": [{"route": TO}], **spec})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mesh", "mesh"),
        ("edge", "shop/edge"),
        ("./edge", "shop/edge"),
        ("infra/edge", "infra/edge"),
        ("edge.infra", "infra/edge"),
        ("edge.infra.svc.cluster.local", "infra/edge"),
    ],
)
def test_gateway_name(name: str, expected: str) -> None:
    assert gateway_name(name, "shop") == expected


@pytest.mark.parametrize(
    ("export_to", "seen_by"),
    [([], {"shop", "lab"}), (["*"], {"shop", "lab"}), (["."], {"shop"}), (["lab"], {"lab"}), (["~"], set())],
)
def test_visibility(export_to: list[str], seen_by: set[str]) -> None:
    world = reader(virtual_service("v", "shop", exportTo=export_to))
    assert {n for n in ("shop", "lab") if virtual_services_for(world, n, "mesh")} == seen_by


def test_names_become_absolute() -> None:
    spec: dict[str, Any] = {
        "hosts": ["a", "b.c", "*.d", "10.0.0.1", "2001:db8::1"],
        "gateways": ["mesh", "edge"],
        "http": [
            {
                "match": [{"gateways": ["edge"]}],
                "route": TO,
                "mirror": {"host": "m"},
                "mirrors": [{"destination": {"host": "n"}}],
            }
        ],
        "tls": [{"match": [{"sniHosts": ["a"], "gateways": ["edge"]}], "route": TO}],
        "tcp": [{"match": [{"gateways": ["./edge"]}], "route": TO}],
    }
    found = resolved(reader(virtual_service("v", "shop", **spec)), Ref("VirtualService", "shop", "v"))
    assert found is not None
    full = "{}.shop.svc.cluster.local".format
    assert found.hosts == (full("a"), "b.c", "*.d", "10.0.0.1", "2001:db8::1")
    assert found.gateways == ("mesh", "shop/edge")
    http, tls, tcp = found.http[0], found.tls[0], found.tcp[0]
    assert {m.gateways for m in (http.match[0], tls.match[0], tcp.match[0])} == {("shop/edge",)}
    assert {r.route[0].destination.host for r in (http, tls, tcp)} == {full("a")}
    assert http.mirror is not None
    assert (http.mirror.host, http.mirrors[0].destination.host) == (full("m"), full("n"))


def test_a_delegate_that_comes_and_goes() -> None:
    root = virtual_service("root", http=[{"delegate": {"name": "d", "namespace": "team"}}, {"route": TO}])
    delegate = make("VirtualService", "d", "team", spec={"http": [{"name": "delegated", "route": TO}]})
    for objects, expected in (([root], [""]), ([root, delegate], ["delegated", ""])):
        found = resolved(reader(*objects), root.ref)
        assert found is not None
        assert [rule.name for rule in found.http] == expected
    found = resolved(reader(root, delegate), root.ref)
    assert found is not None
    assert found.http[0].route[0].destination.host == "a.team.svc.cluster.local"


def test_a_service_with_hosts_is_no_delegate() -> None:
    root = virtual_service("root", http=[{"delegate": {"name": "other"}}, {"route": TO}])
    found = resolved(reader(root, virtual_service("other")), root.ref)
    assert found is not None
    assert len(found.http) == 1


def match(**fields: Any) -> HTTPMatchRequest:
    return convert(fields, HTTPMatchRequest)


@pytest.mark.parametrize(
    ("root", "own", "merged"),
    [
        ({"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/a/b"}}, {"uri": {"prefix": "/a/b"}}),
        ({"uri": {"prefix": "/a"}}, {"uri": {"exact": "/a/b"}}, {"uri": {"exact": "/a/b"}}),
        ({"uri": {"prefix": "/a/b"}}, {"uri": {"prefix": "/a"}}, None),
        ({"uri": {"exact": "/a"}}, {"uri": {"prefix": "/a"}}, None),
        ({"uri": {"exact": "/a"}}, {"uri": {"exact": "/a"}}, {"uri": {"exact": "/a"}}),
        ({"uri": {"regex": "/a"}}, {"uri": {"exact": "/a"}}, None),
        ({"uri": {"prefix": "/a"}}, {"uri": {"regex": "/a.*"}}, None),
        ({"uri": {"regex": "/a"}}, {"method": {"exact": "GET"}}, {"uri": {"regex": "/a"}, "method": {"exact": "GET"}}),
        ({"headers": {"x": {"exact": "1"}}}, {"headers": {"x": {"exact": "2"}}}, None),
        (
            {"headers": {"x": {"exact": "1"}}},
            {"headers": {"y": {"exact": "2"}}},
            {"headers": {"x": {"exact": "1"}, "y": {"exact": "2"}}},
        ),
        ({"queryParams": {"x": {}}}, {"queryParams": {"x": {"exact": "2"}}}, None),
        ({"withoutHeaders": {"x": {"exact": "1"}}}, {"withoutHeaders": {"x": {"exact": "2"}}}, None),
        ({"ignoreUriCase": True}, {}, None),
        ({"port": 80}, {"port": 81}, None),
        ({"port": 80}, {}, {"port": 80}),
        ({"sourceNamespace": "a"}, {}, None),
        ({}, {"sourceNamespace": "a"}, {"sourceNamespace": "a"}),
        ({"sourceLabels": {"a": "1"}}, {"sourceLabels": {"a": "2"}}, None),
        ({"sourceLabels": {"a": "1"}}, {"sourceLabels": {"b": "2"}}, {"sourceLabels": {"a": "1", "b": "2"}}),
        ({"gateways": ["a", "b"]}, {"gateways": ["b"]}, {"gateways": ["b"]}),
        ({"gateways": ["a"]}, {"gateways": ["a", "b"]}, None),
        ({"name": "r", "statPrefix": "r"}, {"name": "d"}, {"name": "r-d", "statPrefix": "r"}),
    ],
)
def test_delegate_matches(root: dict[str, Any], own: dict[str, Any], merged: dict[str, Any] | None) -> None:
    rules = merge_delegate(HTTPRoute(match=(match(**root),)), (HTTPRoute(match=(match(**own),)),))
    expected = () if merged is None else (HTTPRoute(match=(match(**merged),)),)
    assert rules == expected


def test_a_delegate_of_a_delegate_has_no_destination() -> None:
    inner = make("VirtualService", "inner", spec={"http": [{"name": "inner", "route": TO}]})
    middle = make("VirtualService", "middle", spec={"http": [{"delegate": {"name": "inner"}}]})
    root = virtual_service("root", http=[{"delegate": {"name": "middle"}}])
    found = resolved(reader(root, middle, inner), root.ref)
    assert found is not None
    assert [rule.route for rule in found.http] == [()]
