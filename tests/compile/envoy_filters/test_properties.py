"""Whatever patches say: nothing raises, what they do not mean stays byte for byte, and the memo makes no difference."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pypilot.compile.envoy_filters.findings import bad_values, idle_patches, outcome
from pypilot.compile.envoy_filters.values import filter_patches
from pypilot.compile.generators import GENERATORS
from pypilot.engine.memo import Memo
from pypilot.kinds import kind_of
from pypilot.kinds.base import Object
from pypilot.kinds.parse import parse_object
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.reader import Reader
from pypilot.world.world import World
from tests.compile.envoy_filters.worlds import ELSEWHERE, GATEWAY, MANAGER, PROXIES, base, bodies

LISTENER_KINDS = ("LISTENER", "LISTENER_FILTER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER")
ROUTE_KINDS = ("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE")
KINDS = (*LISTENER_KINDS, *ROUTE_KINDS, "CLUSTER", "EXTENSION_CONFIG", "BOOTSTRAP")
OPERATIONS = (
    "MERGE",
    "ADD",
    "REMOVE",
    "INSERT_BEFORE",
    "INSERT_AFTER",
    "INSERT_FIRST",
    "REPLACE",
    "MERGE_AND_REPLACE_LIST",
)
TYPE = "type.googleapis.com/envoy.extensions."
ANYS: list[Any] = [
    {"@type": TYPE + "filters.http.router.v3.Router", "suppress_envoy_headers": True},
    {"@type": TYPE + "filters.network.tcp_proxy.v3.TcpProxy", "idle_timeout": "3s", "stat_prefix": "p"},
    {
        "@type": TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stream_idle_timeout": "4.5s",
        "http_filters": [{"name": "appended"}],
    },
    {"@type": "type.googleapis.com/udpa.type.v1.TypedStruct", "type_url": "x/y", "value": {"a": [1, None]}},
    {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "text"},
    {"@type": "type.googleapis.com/no.such.Type"},
    {"@type": 7},
    {},
]
NAMES = st.sampled_from(["", "x", "envoy.filters.http.router", "envoy.filters.network.tcp_proxy", MANAGER])
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
FILTER = st.fixed_dictionaries({}, optional={"name": NAMES, "typed_config": st.sampled_from(ANYS), "is_optional": JUNK})
SOCKET = st.fixed_dictionaries({"name": st.sampled_from(["x", "tls", "envoy.transport_sockets.tls"])})
VALUES = st.one_of(
    FILTER,
    st.fixed_dictionaries(
        {},
        optional={
            "name": NAMES,
            "filters": st.lists(FILTER, max_size=2),
            "filter_chains": st.lists(st.fixed_dictionaries({"filters": st.lists(FILTER, max_size=2)}), max_size=2),
            "default_filter_chain": st.fixed_dictionaries({"filters": st.lists(FILTER, max_size=2)}),
            "address": st.just({"socket_address": {"address": "127.0.0.1", "port_value": 80}}),
            "transport_socket": SOCKET,
            "connect_timeout": st.sampled_from(["1s", "0.5s", "never"]),
            "bind_to_port": st.booleans(),
            "metadata": st.just({"filter_metadata": {"istio": {"a": 1}, "own": {"b": "c"}}}),
        },
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "name": NAMES,
            "domains": st.lists(NAMES, max_size=2),
            "routes": st.lists(st.just({"match": {"prefix": "/"}, "redirect": {"path_redirect": "/x"}}), max_size=2),
            "route": st.just({"timeout": "1s", "cluster": "c"}),
            "direct_response": st.just({"status": 200}),
            "virtual_hosts": st.lists(st.just({"name": "v", "domains": ["v"]}), max_size=1),
        },
    ),
    st.dictionaries(st.sampled_from(["name", "filters", "domains", "typed_config", "metadata", "type"]), JUNK),
)


CHAIN = st.fixed_dictionaries(
    {},
    optional={
        "name": NAMES,
        "sni": NAMES,
        "destinationPort": st.sampled_from([80, 15001, 15006]),
        "transportProtocol": st.sampled_from(["", "tls", "raw_buffer"]),
        "applicationProtocols": st.sampled_from(["", "istio", "http/1.1,h2c"]),
        "filter": st.fixed_dictionaries(
            {"name": NAMES}, optional={"subFilter": st.fixed_dictionaries({"name": NAMES})}
        ),
    },
)
VHOST = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["allow_any", "web.shop.svc.cluster.local:80", "inbound|http|80", "x"]),
        "domainName": st.sampled_from(["*", "web"]),
        "route": st.fixed_dictionaries(
            {}, optional={"name": st.sampled_from(["default", "x"]), "action": st.sampled_from(["ANY", "ROUTE"])}
        ),
    },
)
MATCHES = {
    "listener": st.fixed_dictionaries(
        {},
        optional={
            "name": st.sampled_from(["virtualInbound", "virtualOutbound", "0.0.0.0_80", "x"]),
            "portNumber": st.sampled_from([80, 5432, 15001]),
            "filterChain": CHAIN,
            "listenerFilter": st.sampled_from(["x", "envoy.filters.listener.tls_inspector"]),
        },
    ),
    "routeConfiguration": st.fixed_dictionaries(
        {},
        optional={
            "name": st.sampled_from(["80", "http.80", "inbound|80||"]),
            "portNumber": st.sampled_from([80, 81]),
            "gateway": st.just("shop/front"),
            "vhost": VHOST,
        },
    ),
    "cluster": st.fixed_dictionaries(
        {},
        optional={
            "name": st.sampled_from(["BlackHoleCluster", "inbound|80||", "x"]),
            "service": st.just("web.shop.svc.cluster.local"),
            "portNumber": st.just(80),
            "subset": st.just("v1"),
        },
    ),
}


@st.composite
def patches(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(KINDS))
    wanted = "listener" if kind in LISTENER_KINDS else "routeConfiguration" if kind in ROUTE_KINDS else "cluster"
    match: dict[str, Any] = {
        "context": draw(st.sampled_from(["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY"]))
    }
    if draw(st.booleans()):
        match[wanted] = draw(MATCHES[wanted])
    return {
        "applyTo": kind,
        "match": match,
        "patch": {"operation": draw(st.sampled_from(OPERATIONS)), "value": draw(VALUES)},
    }


def filter_of(found: list[dict[str, Any]]) -> Object | None:
    kind = kind_of("networking.istio.io/v1alpha3", "EnvoyFilter")
    assert kind is not None
    return parse_object(kind, {"metadata": {"name": "f", "namespace": "shop"}, "spec": {"configPatches": found}}).object


def world(found: list[dict[str, Any]]) -> World:
    made = filter_of(found)
    return advance(World(), Delta(upserts=(*base(), *((made,) if made is not None else ()))))


ROUNDS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@ROUNDS
@given(st.lists(patches(), min_size=1, max_size=5))
def test_nothing_raises_and_the_memo_makes_no_difference(found: list[dict[str, Any]]) -> None:
    now = world(found)
    reader, memo = Reader(now), Memo(now)
    for proxy in PROXIES:
        for type_url, generator in GENERATORS.items():
            plain = generator(reader, proxy)
            assert plain == memo.root(generator, proxy), type_url
            names = [resource.name for resource in plain]
            assert len(names) == len(set(names)), type_url
    told = [*bad_values(reader), *idle_patches(reader, (memo.root(outcome, proxy) for proxy in PROXIES))]
    assert all(finding.field.startswith("spec.configPatches[") for _, finding in told)
    for ref in reader.envoy_filter_refs():  # what was applied is as it was read
        assert memo.root(filter_patches, ref) == filter_patches(reader, ref)


UNPATCHED = bodies(Memo(world([])))


@ROUNDS
@given(st.lists(patches(), min_size=1, max_size=5))
def test_proxies_that_do_not_have_the_patches_keep_their_bytes(found: list[dict[str, Any]]) -> None:
    memo = Memo(world(found))
    bodies(memo, PROXIES)
    far = {key: body for key, body in UNPATCHED.items() if key[0] == ELSEWHERE.id}
    assert bodies(memo, (ELSEWHERE,)) == far
    for_gateways = [
        {**p, "match": {**p["match"], "context": "GATEWAY"}} for p in found if p["applyTo"] != "EXTENSION_CONFIG"
    ]
    memo = Memo(world(for_gateways))
    bodies(memo, (GATEWAY,))
    sidecars = tuple(proxy for proxy in PROXIES if proxy != GATEWAY)
    mine = {key: body for key, body in UNPATCHED.items() if key[0] != GATEWAY.id}
    assert bodies(memo, sidecars) == mine


@ROUNDS
@given(patches(), st.sampled_from(sorted({name for _, short, name in UNPATCHED if short in ("LDS", "RDS", "CDS")})))
def test_a_patch_for_one_name_leaves_the_others_alone(one: dict[str, Any], name: str) -> None:
    kind = one["applyTo"]
    if kind not in (*LISTENER_KINDS, *ROUTE_KINDS, "CLUSTER") or one["patch"]["operation"] in ("ADD",):
        return
    short = "LDS" if kind in LISTENER_KINDS else "RDS" if kind in ROUTE_KINDS else "CDS"
    wanted = {"LDS": "listener", "RDS": "routeConfiguration", "CDS": "cluster"}[short]
    one = {**one, "match": {**one["match"], wanted: {**one["match"].get(wanted, {}), "name": name}}}
    after = bodies(Memo(world([one])))
    others = {key: body for key, body in UNPATCHED.items() if (key[1], key[2]) != (short, name)}
    # Routes inside an inbound listener are routes, too.
    inside = {key for key in others if short == "RDS" and key[1:] == ("LDS", "virtualInbound")}
    added = kind in ("LISTENER", "CLUSTER") and one["patch"]["operation"].startswith("INSERT")
    if not added:
        assert {k: v for k, v in after.items() if k in others and k not in inside} == {
            k: v for k, v in others.items() if k not in inside
        }
