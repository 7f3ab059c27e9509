"""Parsing rejects the smallest thing, names the field, and never raises."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pypilot.kinds import KINDS, kind_of
from pypilot.kinds.base import Duration, Kind
from pypilot.kinds.parse import Parsed, parse_object
from pypilot.kinds.secret import Secret
from pypilot.kinds.virtual_service import VirtualService


def kind(api_version: str, name: str) -> Kind:
    found = kind_of(api_version, name)
    assert found is not None
    return found


VIRTUAL_SERVICE = kind("networking.istio.io/v1", "VirtualService")


def virtual_service(*http: dict[str, Any], **spec: Any) -> Parsed:
    body = {"hosts": ["a"], "http": list(http), **spec}
    return parse_object(VIRTUAL_SERVICE, {"metadata": {"name": "v", "namespace": "n"}, "spec": body})


def to(host: str, **more: Any) -> dict[str, Any]:
    return {"route": [{"destination": {"host": host}, **more}]}


def errors(parsed: Parsed) -> list[tuple[str, str]]:
    return [(f.field, f.message) for f in parsed.findings if f.severity == "error"]


def routes(parsed: Parsed) -> list[str]:
    assert isinstance(parsed.object, VirtualService)
    return [r.route[0].destination.host for r in parsed.object.spec.http]


@pytest.mark.parametrize(
    ("route", "field", "words"),
    [
        (to("x", weight=-5), "spec.http[1].route[0].weight", "-5"),
        (to("x", weight="many"), "spec.http[1].route[0].weight", "many"),
        ({**to("x"), "timeout": "3x"}, "spec.http[1].timeout", "invalid duration '3x'"),
        ({**to("x"), "timeout": 3}, "spec.http[1].timeout", "3"),
        ({"route": [{"destination": {}}]}, "spec.http[1].route[0].destination.host", "missing"),
        (
            {**to("x"), "match": [{"headers": {"a": {}, "b": {"exact": []}}}]},
            "spec.http[1].match[0].headers.b.exact",
            "str",
        ),
        ({**to("x"), "match": [{"uri": {"regex": "a("}}]}, "spec.http[1].match[0].uri.regex", "a("),
        ({**to("x"), "match": [{"uri": {"regex": "a(?=b)"}}]}, "spec.http[1].match[0].uri.regex", "RE2"),
        (
            {**to("x"), "rewrite": {"uriRegexRewrite": {"match": "a++", "rewrite": "b"}}},
            "spec.http[1].rewrite.uriRegexRewrite.match",
            "a++",
        ),
        ({**to("x"), "match": [{"uri": {"regex": "/a{2000}"}}]}, "spec.http[1].match[0].uri.regex", "a{2000}"),
        ({**to("x", weight=2**32)}, "spec.http[1].route[0].weight", "4294967296"),
        ({**to("x"), "timeout": "9999999999s"}, "spec.http[1].timeout", "292 years"),
        ({**to("x"), "match": [{"uri": {"exact": "/a", "prefix": "/"}}]}, "spec.http[1].match[0].uri", "only one"),
        ({**to("x"), "redirect": {"uri": "/"}}, "spec.http[1]", "only one action"),
        ({}, "spec.http[1]", "one of route"),
        (
            {**to("x"), "fault": {"delay": {"percentage": {"value": 101}}}},
            "spec.http[1].fault.delay.percentage.value",
            "101",
        ),
        ({"directResponse": {"status": 20}}, "spec.http[1].directResponse.status", "20"),
        ({"redirect": {"redirectCode": 305}}, "spec.http[1].redirect.redirectCode", "305"),
        ({**to("x"), "retries": {"attempts": -1}}, "spec.http[1].retries.attempts", "-1"),
        (
            {"route": [{"destination": {"host": "x"}}, {"destination": {"host": "y"}}]},
            "spec.http[1].route",
            "sum to 0",
        ),
    ],
)
def test_a_wrong_route_falls_alone(route: dict[str, Any], field: str, words: str) -> None:
    parsed = virtual_service(to("first"), route, to("last"))
    assert routes(parsed) == ["first", "last"]
    ((path, message),) = errors(parsed)
    assert path == field
    assert words in message


def test_each_of_several_wrong_routes_is_named_by_its_own_index() -> None:
    parsed = virtual_service(to("x", weight=-1), to("a"), to("x", weight=-2), {}, to("b"), to("x", weight=-3))
    assert routes(parsed) == ["a", "b"]
    assert sorted(path for path, _ in errors(parsed)) == [
        "spec.http[0].route[0].weight",
        "spec.http[2].route[0].weight",
        "spec.http[3]",
        "spec.http[5].route[0].weight",
    ]


def test_an_object_of_which_nothing_is_left_is_rejected_for_the_first_reason_alone() -> None:
    parsed = virtual_service(to("x", weight=-5))
    assert parsed.object is None
    assert [path for path, _ in errors(parsed)] == ["spec.http[0].route[0].weight"]


def test_a_wrong_field_outside_every_unit_rejects_the_object() -> None:
    parsed = virtual_service(to("a"), hosts="not-a-list")
    assert parsed.object is None
    assert errors(parsed)[0][0] == "spec.hosts"


def test_unknown_fields_are_warnings() -> None:
    parsed = virtual_service({**to("a"), "retrys": {}}, hostz=[])
    assert parsed.clean
    assert {(f.field, f.severity) for f in parsed.findings} == {
        ("spec.http[0].retrys", "warning"),
        ("spec.hostz", "warning"),
    }


def test_nulls_are_absent_fields() -> None:
    parsed = virtual_service({**to("a"), "match": None, "timeout": None}, gateways=None)
    assert parsed.clean
    assert routes(parsed) == ["a"]


@pytest.mark.parametrize(
    ("text", "nanos"),
    [("1s", 10**9), ("1.5s", 15 * 10**8), ("1m30s", 90 * 10**9), ("200ms", 2 * 10**8), ("0", 0), ("-1s", -(10**9))],
)
def test_durations(text: str, nanos: int) -> None:
    assert Duration.parse(text).nanos == nanos
    assert Duration.parse(str(Duration(nanos))) == Duration(nanos)


@pytest.mark.parametrize("text", ["", "s", "1", "1x", "1s2", "1 s", "--1s"])
def test_texts_that_are_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        Duration.parse(text)


def test_secrets_never_show_their_values() -> None:
    parsed = parse_object(
        kind("v1", "Secret"),
        {"metadata": {"name": "s", "namespace": "n"}, "data": {"tls.key": "aHVzaA=="}, "stringData": {"x": "hush"}},
    )
    assert isinstance(parsed.object, Secret)
    assert parsed.object.value("tls.key") == b"hush"
    assert "hush" not in repr(parsed.object) + str(parsed.object)
    assert "aHVzaA" not in f"{parsed.object}"
    broken = parse_object(kind("v1", "Secret"), {"metadata": {"name": "s"}, "data": {"tls.key": "hush hush!"}})
    assert broken.object is None
    assert errors(broken) == [("data.tls.key", "not valid base64")]
    for wrong in (123456789, [123456789], {"x": 123456789}, 1234567.89):
        number = parse_object(kind("v1", "Secret"), {"metadata": {"name": "s"}, "stringData": {"tls.key": wrong}})
        assert number.object is None
        assert "1234567" not in str(number.findings)


def test_the_registry_has_no_two_entries_for_one_kind() -> None:
    assert len({(k.group, k.name) for k in KINDS}) == len(KINDS)
    assert len({(k.group, k.plural) for k in KINDS}) == len(KINDS)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
GOOD: dict[str, Any] = {
    "metadata": {"name": "v", "namespace": "n"},
    "spec": {
        "hosts": ["a"],
        "gateways": ["mesh"],
        "http": [
            {
                "match": [{"uri": {"prefix": "/x"}, "headers": {"h": {"exact": "1"}}}],
                "timeout": "1s",
                **to("a", weight=1),
            },
            {**to("b"), "retries": {"attempts": 2}, "mirrors": [{"destination": {"host": "c"}}]},
        ],
        "tls": [{"match": [{"sniHosts": ["a"]}], **to("c")}],
    },
}


def _paths(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    steps = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(p for key, inner in steps for p in _paths(inner, (*path, key)))]


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([p for p in _paths(GOOD) if p and p[0] == "spec"]), JUNK)
def test_any_corruption_is_reported_and_never_raises(path: tuple[Any, ...], junk: Any) -> None:
    data = copy.deepcopy(GOOD)
    target = data
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = junk
    parsed = parse_object(VIRTUAL_SERVICE, data)
    if parsed.object is None:
        assert errors(parsed)
    else:
        kept = parsed.object.spec.http  # type: ignore[attr-defined]
        lost = junk is not None and len(path) > 1 and path[1] == "http" and len(kept) < 2 and len(path) > 2
        assert not lost or errors(parsed)


@pytest.mark.parametrize("address", ["127.0.0.1:99", "x", "10.0.0.0/24", "10.0.0.300", "fe80::1%eth0", "none"])
def test_a_cluster_ip_that_is_none_is_named(address: str) -> None:
    service = kind("v1", "Service")
    data = {"metadata": {"name": "a"}, "spec": {"clusterIP": "None", "clusterIPs": ["10.0.0.1", "fd00::1", address]}}
    found = parse_object(service, data)
    assert found.object is None
    assert [(f.field, f.message) for f in found.findings] == [
        ("spec.clusterIPs[2]", f"{address!r} is not an IP address")
    ]


def test_nulls_in_free_content_stay_whatever_is_wrong_beside_them() -> None:
    """Else a wrong patch would change the others of its filter."""
    value = {"name": "x", "typed_config": {"list": ["a", None], "nothing": None}}
    patches: list[Any] = [{"applyTo": "CLUSTER", "match": None, "patch": {"operation": "MERGE", "value": value}}, 7]
    data = {"metadata": {"name": "f", "namespace": "n"}, "spec": {"configPatches": patches}}
    parsed = parse_object(kind("networking.istio.io/v1alpha3", "EnvoyFilter"), data)
    assert [f.field for f in parsed.findings if f.severity == "error"] == ["spec.configPatches[1]"]
    assert parsed.object is not None
    assert parsed.object.spec.config_patches[0].patch.value == value  # type: ignore[attr-defined]


DESTINATION_RULE = kind("networking.istio.io/v1", "DestinationRule")
GOOD_RING = {"ringHash": {"minimumRingSize": 8388608}}


@pytest.mark.parametrize(
    ("policy", "wrong"),
    [
        ({"connectionPool": {"tcp": {"connectTimeout": "-1s"}}}, "connectionPool.tcp.connectTimeout"),
        ({"connectionPool": {"tcp": {"maxConnectionDuration": "-1ns"}}}, "connectionPool.tcp.maxConnectionDuration"),
        ({"outlierDetection": {"baseEjectionTime": "-1s"}}, "outlierDetection.baseEjectionTime"),
        ({"loadBalancer": {"simple": "RANDOM", "warmup": {"duration": "-1s"}}}, "loadBalancer.warmup.duration"),
        ({"loadBalancer": {"warmup": {"minimumPercent": 101}}}, "loadBalancer.warmup.minimumPercent"),
        ({"loadBalancer": {"warmup": {"aggression": 0.5}}}, "loadBalancer.warmup.aggression"),
        ({"loadBalancer": {"consistentHash": {"maglev": {"tableSize": 65535}}}}, "maglev.tableSize"),
        ({"loadBalancer": {"consistentHash": {"maglev": {"tableSize": 5000081}}}}, "maglev.tableSize"),
        ({"loadBalancer": {"consistentHash": {"maglev": {"tableSize": -3}}}}, "maglev.tableSize"),
        ({"loadBalancer": {"consistentHash": {"ringHash": {"minimumRingSize": -1}}}}, "ringHash.minimumRingSize"),
        ({"loadBalancer": {"consistentHash": {"minimumRingSize": 8388609}}}, "consistentHash.minimumRingSize"),
        ({"outlierDetection": {"interval": "0s"}}, "outlierDetection.interval"),
        ({"outlierDetection": {"baseEjectionTime": "0s"}}, "outlierDetection.baseEjectionTime"),
        ({"connectionPool": {"http": {"http2KeepAlive": {"interval": "1s"}}}}, "http2KeepAlive.timeout"),
        ({"connectionPool": {"http": {"http2KeepAlive": {"timeout": "1s"}}}}, "http2KeepAlive.interval"),
        ({"connectionPool": {"http": {"http2KeepAlive": {"timeout": "1s", "interval": "1ms"}}}}, ""),
        ({"loadBalancer": {"zoneAwareLbSetting": {"minClusterSize": 2**32}}}, "minClusterSize"),
        ({"loadBalancer": {"consistentHash": GOOD_RING, "warmup": {"minimumPercent": 100, "aggression": 1}}}, ""),
        ({"loadBalancer": {"consistentHash": {"maglev": {"tableSize": 65537}}}}, ""),
    ],
)
def test_what_envoy_would_refuse_of_a_traffic_policy(policy: dict[str, Any], wrong: str) -> None:
    """A subset takes its policy with it, the rule stays; the rule's own policy takes the rule."""
    meta, subset = {"name": "r", "namespace": "n"}, {"name": "s", "trafficPolicy": policy}
    spec = {"host": "a", "subsets": [subset, {"name": "t"}]}
    parsed = parse_object(DESTINATION_RULE, {"metadata": meta, "spec": spec})
    errors = [f.field for f in parsed.findings if f.severity == "error"]
    assert [wrong in field for field in errors] == ([True] if wrong else [])
    assert parsed.object is not None
    assert [s.name for s in parsed.object.spec.subsets] == (["t"] if wrong else ["s", "t"])  # type: ignore[attr-defined]
    port = {"port": {"number": 80}, **policy}
    spec = {"host": "a", "trafficPolicy": {"portLevelSettings": [port]}}
    parsed = parse_object(DESTINATION_RULE, {"metadata": meta, "spec": spec})
    assert parsed.clean == (not wrong)
    assert (
        parse_object(DESTINATION_RULE, {"metadata": meta, "spec": {"host": "a", "trafficPolicy": policy}}).object
        is None
    ) == bool(wrong)


@pytest.mark.parametrize("subnet", ["10.0.0.0/33", "fe80::1%eth0", "x", ""])
def test_a_subnet_that_is_none_is_named(subnet: str) -> None:
    to = [{"destination": {"host": "a"}}]
    match = {"destinationSubnets": ["10.0.0.0/8", subnet]}
    tls = [{"match": [{"sniHosts": ["a"], **match}], "route": to}, {"match": [{"sniHosts": ["b"]}], "route": to}]
    body = {"hosts": ["a"], "tcp": [{"match": [match], "route": to}, {"route": to}], "tls": tls}
    parsed = parse_object(VIRTUAL_SERVICE, {"metadata": {"name": "v", "namespace": "n"}, "spec": body})
    assert sorted(f.field for f in parsed.findings if f.code == "no-subnet") == [
        "spec.tcp[0].match[0].destinationSubnets[1]",
        "spec.tls[0].match[0].destinationSubnets[1]",
    ]
    assert parsed.object is not None
    assert parsed.clean


def test_a_port_that_is_none_leaves_the_others_of_its_slice() -> None:
    ports = [{"name": "a", "port": 2**63}, {"name": "b", "port": 80}]
    data = {"metadata": {"name": "s", "namespace": "n"}, "addressType": "IPv4", "endpoints": [], "ports": ports}
    parsed = parse_object(kind("discovery.k8s.io/v1", "EndpointSlice"), data)
    assert [f.field for f in parsed.findings] == ["ports[0].port"]
    assert parsed.object is not None
    assert [p.name for p in parsed.object.ports] == ["b"]  # type: ignore[attr-defined]
