"""Each step by itself, at its edges, on configuration written by hand."""

from fractions import Fraction
from typing import Any

import pytest

from tests.simulate import (
    Closed,
    Connection,
    Forward,
    Reply,
    Request,
    Resources,
    Tunnel,
    UnsupportedError,
    simulate,
)
from tests.simulate.filter_chain import choose_chain
from tests.simulate.listener import Detected
from tests.simulate.matchers import header_matches, query_matches, query_parameters, string_matches
from tests.simulate.model import Trace
from tests.simulate.path import normalized, stripped_host
from tests.simulate.redirect import location
from tests.simulate.regex import full_match, replace_all
from tests.simulate.route_match import path_matches
from tests.simulate.virtual_host import choose_virtual_host

TYPE = "type.googleapis.com/"
TCP = TYPE + "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
MANAGER = TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
FAULT = TYPE + "envoy.extensions.filters.http.fault.v3.HTTPFault"


def tcp(cluster: str, **match: Any) -> dict[str, Any]:
    proxy = {"typed_config": {"@type": TCP, "cluster": cluster}}
    return {"name": cluster, "filter_chain_match": match, "filters": [proxy]}


def http(*routes: dict[str, Any], **more: Any) -> dict[str, Any]:
    host = {"name": "all", "domains": ["*"], "routes": list(routes)}
    config = {"@type": MANAGER, "route_config": {"virtual_hosts": [host]}, **more}
    return {"filters": [{"name": "http", "typed_config": config}]}


def listener(address: str, port: int, *chains: dict[str, Any], **more: Any) -> dict[str, Any]:
    where = {"socket_address": {"address": address, "port_value": port}}
    return {"address": where, "filter_chains": list(chains), **more}


def static(*addresses: str) -> dict[str, Any]:
    endpoints = [{"endpoint": {"address": {"socket_address": {"address": a, "port_value": 80}}}} for a in addresses]
    return {"type": "STATIC", "load_assignment": {"endpoints": [{"lb_endpoints": endpoints}]}}


CLUSTERS = {"a": static("10.0.0.1"), "b": static("10.0.0.2"), "none": static(), "pass": {"type": "ORIGINAL_DST"}}


def holding(**listeners: dict[str, Any]) -> Resources:
    return Resources(listeners=listeners, clusters=CLUSTERS)


# -- connections ------------------------------------------------------------------------------------------------------


SIDECAR = holding(
    outbound=listener("0.0.0.0", 15001, tcp("pass"), use_original_dst=True),
    exact=listener("10.0.0.9", 80, tcp("a"), bind_to_port=False),
    wild=listener("0.0.0.0", 80, tcp("b"), bind_to_port=False),
)


@pytest.mark.parametrize(
    ("destination", "port", "cluster"), [("10.0.0.9", 80, "a"), ("10.0.0.8", 80, "b"), ("10.0.0.8", 81, "pass")]
)
def test_a_captured_connection_is_handed_to_the_listener_of_its_destination(
    destination: str, port: int, cluster: str
) -> None:
    verdict = simulate(SIDECAR, Connection(destination=destination, port=port, captured_at=15001))
    assert isinstance(verdict.outcome, Tunnel)
    assert verdict.outcome.cluster == cluster
    assert verdict.steps[0].field == "address"
    if cluster == "pass":
        assert verdict.outcome.endpoints[0].address == f"{destination}:{port}"


def test_a_listener_without_a_socket_takes_no_connection_directly() -> None:
    outcome = simulate(SIDECAR, Connection(destination="10.0.0.9", port=80)).outcome
    assert outcome == Closed("", "connection_refused")


def chosen(chains: list[dict[str, Any]], detected: Detected = Detected(), **connection: Any) -> str:  # noqa: B008
    arrived = Connection(**{"destination": "10.0.0.1", "port": 80, **connection})
    found = choose_chain("x", {"filter_chains": chains}, arrived, detected, Trace())
    return found.message["name"] if found else ""


def prefix(address: str, length: int) -> dict[str, Any]:
    return {"address_prefix": address, "prefix_len": length}


def test_filter_chains_are_narrowed_in_order_and_never_widened_again() -> None:
    by_port = tcp("port", destination_port=80, server_names=["a.test"])
    assert chosen([by_port, tcp("any")]) == ""  # the port fits, so that nothing but its chains counts
    assert chosen([by_port, tcp("any")], Detected("tls", "a.test")) == "port"
    assert chosen([by_port, tcp("any")], port=81) == "any"


def test_the_longest_prefix_and_name_win() -> None:
    chains = [tcp("8", prefix_ranges=[prefix("10.0.0.0", 8)]), tcp("32", prefix_ranges=[prefix("10.0.0.1", 32)])]
    assert (chosen(chains), chosen(chains, destination="10.0.0.2"), chosen(chains, destination="11.0.0.2")) == (
        "32", "8", "",
    )  # fmt: skip
    names = [
        tcp("exact", server_names=["a.b.test"]),
        tcp("b", server_names=["*.b.test"]),
        tcp("t", server_names=["*.test"]),
    ]
    found = [
        chosen(names, Detected("tls", name)) for name in ("a.b.test", "x.b.test", "y.x.b.test", "c.test", "test", "")
    ]
    assert found == ["exact", "b", "b", "t", "", ""]


def test_transport_and_application_protocols() -> None:
    chains = [
        tcp("tls", transport_protocol="tls"),
        tcp("http", application_protocols=["http/1.1", "h2c"]),
        tcp("rest"),
    ]
    assert chosen(chains, Detected("tls", "a.test", ("h2",))) == "tls"
    assert chosen(chains, Detected("raw_buffer", "", ("http/1.1",))) == "http"
    assert chosen(chains) == "rest"


def test_sources() -> None:
    chains = [tcp("local", source_type="SAME_IP_OR_LOOPBACK"), tcp("external", source_type="EXTERNAL"), tcp("any")]
    assert (chosen(chains), chosen(chains, source="10.9.9.9")) == ("local", "external")
    ports = [tcp("five", source_ports=[5]), tcp("any")]
    assert (chosen(ports, source_port=5), chosen(ports, source_port=6)) == ("five", "any")


def test_inspectors_find_out_what_chains_ask_for() -> None:
    inspector = {"typed_config": {"@type": TYPE + "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}
    chains = (tcp("a", server_names=["a.test"]), tcp("b"))
    connection = Connection(destination="10.0.0.1", port=443, tls=True, server_name="A.test")
    off = {**inspector, "filter_disabled": {"destination_port_range": {"start": 443, "end": 444}}}
    for listener_filters, cluster in (([inspector], "a"), ([], "b"), ([off], "b")):
        resources = holding(x=listener("0.0.0.0", 443, *chains, listener_filters=listener_filters))
        outcome = simulate(resources, connection).outcome
        assert isinstance(outcome, Tunnel)
        assert outcome.cluster == cluster


def test_weighted_clusters_of_tcp() -> None:
    shares = [{"name": "a", "weight": 1}, {"name": "none", "weight": 2}, {"name": "gone", "weight": 1}]
    chain = {"filters": [{"typed_config": {"@type": TCP, "weighted_clusters": {"clusters": shares}}}]}
    verdict = simulate(holding(x=listener("0.0.0.0", 80, chain)), Connection(destination="10.0.0.1", port=80))
    assert [chance.probability for chance in verdict] == [Fraction(1, 4), Fraction(1, 2), Fraction(1, 4)]
    assert verdict.outcomes[1:] == (Closed("UH", "no_healthy_upstream"), Closed("NC", "cluster_not_found"))


# -- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("/a/../b", "/b"), ("/..", "/"), ("/a/.", "/a/"), ("/a/%2e%2E/b", "/b"), ("/a%2Fb", "/a%2Fb"), ("//a", "//a"),
        ("/a\\b", "/a/b"), ("/%41", "/A"), ("/a b?c d", "/a%20b?c d"), ("/a?b/../c", "/a?b/../c"), ("/a#b", None),
    ],
)  # fmt: skip
def test_normalised_paths(path: str, clean: str | None) -> None:
    assert normalized(path, {"normalize_path": True}) == clean


def test_more_normalisation() -> None:
    assert normalized("//a///b", {"merge_slashes": True}) == "/a/b"
    assert normalized("/a%2fb%5C", {"path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD"}) == "/a/b\\"
    assert stripped_host("a:80", 80, {"strip_matching_host_port": True}) == "a"
    assert stripped_host("a:81", 80, {"strip_matching_host_port": True}) == "a:81"
    assert stripped_host("[::1]:81", 80, {"strip_any_host_port": True}) == "[::1]"


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        ("a.test", "exact"), ("A.TEST:80", "exact"), ("b.a.test", "suffix"), ("x.test", "short"), (".test", "all"),
        ("foo.x", "prefix"), ("other", "all"), ("", "all"),
    ],
)  # fmt: skip
def test_virtual_hosts(authority: str, name: str) -> None:
    domains = {"exact": "A.test", "suffix": "*.a.test", "short": "*.test", "prefix": "foo.*", "all": "*"}
    hosts = [{"name": n, "domains": [d]} for n, d in domains.items()]
    configuration = {"virtual_hosts": hosts, "ignore_port_in_host_matching": True}
    found = choose_virtual_host(configuration, authority, "RDS x", Trace())
    assert found is not None
    assert found[1]["name"] == name


@pytest.mark.parametrize(
    ("match", "path", "holds"),
    [
        ({"prefix": "/a"}, "/ab?x", True),
        ({"prefix": "/a"}, "/A", False),
        ({"prefix": "/a", "case_sensitive": False}, "/A", True),
        ({"path": "/a"}, "/a?x=1", True),
        ({"path": "/a"}, "/a/", False),
        ({"path_separated_prefix": "/a"}, "/a/b", True),
        ({"path_separated_prefix": "/a"}, "/ab", False),
        ({"path_separated_prefix": "/a"}, "/a", True),
        ({"safe_regex": {"regex": "/a.c"}}, "/abc?d", True),
        ({"safe_regex": {"regex": "/a"}}, "/ab", False),
    ],
)
def test_paths(match: dict[str, Any], path: str, holds: bool) -> None:
    assert path_matches(match, Request(authority="a", path=path)) is holds


ONE = {"name": "x", "string_match": {"exact": "1"}}


@pytest.mark.parametrize(
    ("matcher", "values", "holds"),
    [
        (ONE, ["1"], True),
        (ONE, ["2", "1"], True),
        (ONE, [], False),
        ({**ONE, "invert_match": True}, ["2"], True),
        ({**ONE, "invert_match": True}, ["2", "1"], False),
        ({**ONE, "invert_match": True}, [], False),
        ({**ONE, "invert_match": True, "treat_missing_header_as_empty": True}, [], True),
        ({"name": "x", "present_match": True}, [""], True),
        ({"name": "x", "present_match": True, "invert_match": True}, [], True),
        ({"name": "x", "present_match": True, "invert_match": True}, ["1"], False),
        ({"name": "x", "present_match": False}, [], True),
        ({"name": "x", "range_match": {"start": "-2", "end": "2"}}, ["-2"], True),
        ({"name": "x", "range_match": {"start": "-2", "end": "2"}}, ["2"], False),
        ({"name": "x", "string_match": {"contains": "B", "ignore_case": True}}, ["abc"], True),
        ({"name": "x", "suffix_match": "c"}, ["abc"], True),
    ],
)
def test_headers(matcher: dict[str, Any], values: list[str], holds: bool) -> None:
    request = Request(authority="a", headers=tuple(("x", value) for value in values))
    assert header_matches(matcher, request) is holds


def test_query_parameters() -> None:
    found = query_parameters("/a?q=1&q=2&r&s=%41")
    assert found == {"q": "1", "r": "", "s": "%41"}
    assert query_matches({"name": "q", "string_match": {"exact": "1"}}, found)
    assert query_matches({"name": "r", "present_match": True}, found)
    assert not query_matches({"name": "z", "string_match": {"exact": ""}}, found)


def test_expressions() -> None:
    assert full_match(r"[[:alpha:]]+\Q.\E", "ab.")
    assert not full_match("(?i)a", "b")
    assert replace_all("a*", "baac", "x") == "xbxcx"  # RE2's, not Python's
    assert replace_all("(b)", "abc", r"<\1\0\\>") == r"a<bb\>c"
    assert replace_all("b", "abc", r"\1") == "abc"
    with pytest.raises(UnsupportedError):
        full_match(r"\pL", "a")
    with pytest.raises(UnsupportedError):
        string_matches({"custom": {}}, "a")


@pytest.mark.parametrize(
    ("action", "authority", "where"),
    [
        ({}, "a.test:81", "http://a.test:81/p?q"),
        ({"host_redirect": "b"}, "a.test:81", "http://b/p?q"),
        ({"port_redirect": 90}, "a.test:81", "http://a.test:90/p?q"),
        ({"https_redirect": True}, "a.test:80", "https://a.test/p?q"),
        ({"https_redirect": True}, "a.test:81", "https://a.test:81/p?q"),
        ({"path_redirect": "/n"}, "a", "http://a/n?q"),
        ({"path_redirect": "/n?m"}, "a", "http://a/n?m"),
        ({"strip_query": True}, "a", "http://a/p"),
    ],
)
def test_redirects(action: dict[str, Any], authority: str, where: str) -> None:
    assert location(action, Request(authority=authority, path="/p?q"), "/p?q") == where


def ask(route: dict[str, Any], request: Request | None = None, **more: Any) -> Any:
    resources = holding(x=listener("0.0.0.0", 80, http(route, **more)))
    return simulate(resources, Connection(destination="10.0.0.1", port=80), request or Request(authority="a"))


def to(cluster: str, **action: Any) -> dict[str, Any]:
    return {"match": {"prefix": "/"}, "route": {"cluster": cluster, **action}}


def test_clusters_that_are_not_there_and_clusters_without_endpoints() -> None:
    assert ask(to("gone")).outcome == Reply(503, "NC", "cluster_not_found")
    gone = to("gone", cluster_not_found_response_code="INTERNAL_SERVER_ERROR")
    assert ask(gone).outcome.status == 500
    empty = ask(to("none")).outcome
    assert (empty.status, empty.flags, empty.body) == (503, "UH", b"no healthy upstream")


def test_no_route_and_a_part_of_the_requests() -> None:
    half = {"default_value": {"numerator": 50}}
    verdict = ask({**to("a"), "match": {"prefix": "/", "runtime_fraction": half}})
    assert [chance.probability for chance in verdict] == [Fraction(1, 2)] * 2
    assert isinstance(verdict.outcomes[0], Forward)
    assert verdict.outcomes[1] == Reply(404, "NR", "route_not_found")


def test_levels_of_header_operations() -> None:
    def put(value: str) -> list[dict[str, Any]]:
        return [{"header": {"key": "x", "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]

    share = {"name": "a", "weight": 1, "request_headers_to_add": put("share"), "host_rewrite_literal": "h"}
    route = {
        "match": {"prefix": "/"},
        "route": {"weighted_clusters": {"clusters": [share]}},
        "request_headers_to_add": put("route"),
    }
    outcome = ask(route).outcome
    assert (outcome.request.value("x"), outcome.request.authority) == ("route", "h")
    specific = http(route)
    specific["filters"][0]["typed_config"]["route_config"]["most_specific_header_mutations_wins"] = True
    resources = holding(x=listener("0.0.0.0", 80, specific))
    won = simulate(resources, Connection(destination="10.0.0.1", port=80), Request(authority="a")).outcome
    assert isinstance(won, Forward)
    assert won.request.value("x") == "share"


def test_faults_draw_lots() -> None:
    fault = {
        "delay": {"fixed_delay": "2s", "percentage": {"numerator": 50}},
        "abort": {"http_status": 418, "percentage": {"numerator": 10}},
    }
    filters = [{"name": "fault", "typed_config": {"@type": FAULT}}]
    verdict = ask({**to("a"), "typed_per_filter_config": {"fault": fault}}, http_filters=filters)
    found = {(getattr(chance.outcome, "status", 200), chance.outcome.delay): chance.probability for chance in verdict}
    assert found == {
        (418, 2): Fraction(1, 20), (200, 2): Fraction(9, 20), (418, 0): Fraction(1, 20), (200, 0): Fraction(9, 20),
    }  # fmt: skip


def test_what_is_asked_of_the_upstream() -> None:
    retry = {"num_retries": 2, "retry_on": "5xx,reset"}
    mirrors = [{"cluster": "b", "runtime_fraction": {"default_value": {"numerator": 10}}}]
    outcome = ask(
        to("a", timeout="3s", retry_policy=retry, request_mirror_policies=mirrors, prefix_rewrite="/n/")
    ).outcome
    assert (outcome.timeout, outcome.attempts, outcome.retry_on) == (3, 3, ("5xx", "reset"))
    assert (outcome.mirrors[0].cluster, outcome.mirrors[0].probability) == ("b", Fraction(1, 10))
    assert (outcome.request.path, outcome.endpoints[0].address) == ("/n/", "10.0.0.1:80")
    assert ask(to("a")).outcome.timeout == 15
    assert ask(to("a", timeout="0s")).outcome.timeout is None


def test_an_unknown_filter_is_named() -> None:
    filters = [{"name": "lua", "typed_config": {"@type": TYPE + "envoy.extensions.filters.http.lua.v3.Lua"}}]
    assert any("lua" in step.said for step in ask(to("a"), http_filters=filters).steps)


def test_endpoints_with_their_transport_sockets() -> None:
    tls = {
        "typed_config": {
            "@type": TYPE + "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": "s",
            "common_tls_context": {"alpn_protocols": ["istio"]},
        }
    }
    cluster = static("10.0.0.1", "10.0.0.2")
    first = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]
    first["metadata"] = {"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": "istio"}}}
    cluster["transport_socket_matches"] = [
        {"name": "tls", "match": {"tlsMode": "istio"}, "transport_socket": tls},
        {"name": "plain", "match": {}, "transport_socket": {}},
    ]
    resources = Resources(listeners={"x": listener("0.0.0.0", 80, tcp("c"))}, clusters={"c": cluster})
    outcome = simulate(resources, Connection(destination="10.0.0.1", port=80)).outcome
    assert isinstance(outcome, Tunnel)
    assert [(e.transport, e.tls, e.sni, e.alpn) for e in outcome.endpoints] == [
        ("tls", True, "s", ("istio",)),
        ("plain", False, "", ()),
    ]
