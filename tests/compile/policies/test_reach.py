"""Whom a PeerAuthentication concerns, and whom not (PA-016, PA-018)."""

from collections.abc import Iterable, Mapping
from typing import Any

from pypilot.compile.generators import GENERATORS
from pypilot.kinds.base import Object
from pypilot.wire.node import Proxy
from pypilot.wire.types import BY_SHORT
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.reader import Reader
from pypilot.world.world import World
from tests.golden import node
from tests.world.objects import endpoint_slice, make, pod, service

SERVER = [service("web", "shop"), pod("web", "10.1.0.5", "shop"), endpoint_slice("web", {"web": "10.1.0.5"}, "shop")]
CLIENT = node({"name": "client", "namespace": "other"})


def mode(said: str, namespace: str = "shop", **spec: Any) -> Object:
    return make("PeerAuthentication", "default", namespace, spec={"mtls": {"mode": said}, **spec})


def served(proxy: Proxy, objects: Iterable[Object]) -> Mapping[str, dict[str, bytes]]:
    reader = Reader(advance(World(), Delta(upserts=tuple(objects))))
    return {
        kind: {r.name: r.any_bytes for r in GENERATORS[BY_SHORT[kind]](reader, proxy)} for kind in ("CDS", "EDS", "LDS")
    }


def changed(proxy: Proxy, policy: Object, *others: Object) -> set[tuple[str, str]]:
    """(type, name) of what is other with the policy."""
    before, after = served(proxy, [*SERVER, *others]), served(proxy, [*SERVER, *others, policy])
    return {
        (kind, name)
        for kind in before
        for name in before[kind].keys() | after[kind].keys()
        if before[kind].get(name) != after[kind].get(name)
    }


def test_gateways_serve_what_they_say_whatever_is_demanded_of_workloads() -> None:
    """PA-016."""
    edge = node({"type": "router", "name": "edge", "namespace": "shop", "ip": "10.1.0.9"})
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    gateway = make("Gateway", "edge", "shop", spec={"selector": {"app": "edge"}, "servers": [server]})
    assert served(edge, [gateway])["LDS"]
    assert not changed(edge, mode("STRICT"), gateway)
    assert not changed(edge, mode("STRICT", "istio-system"), gateway)


def test_what_is_demanded_reaches_servers_and_what_is_refused_their_clients() -> None:
    """PA-018."""
    web = node({"name": "web", "namespace": "shop", "ip": "10.1.0.5"})
    cluster = "outbound|80||web.shop.svc.cluster.local"
    assert changed(web, mode("STRICT")) == {("LDS", "virtualInbound")}
    assert not changed(CLIENT, mode("STRICT"))
    assert changed(CLIENT, mode("DISABLE")) == {("CDS", cluster), ("EDS", cluster)}
    assert not changed(CLIENT, mode("DISABLE", "third"))


def test_a_workload_that_refuses_changes_its_endpoint_alone() -> None:
    """PA-015, PA-018."""
    single = mode("DISABLE", selector={"matchLabels": {"app": "web"}})
    assert changed(CLIENT, single) == {("EDS", "outbound|80||web.shop.svc.cluster.local")}
