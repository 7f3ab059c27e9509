"""A small world with EnvoyFilters, and what proxies get in it."""

from collections.abc import Iterable, Mapping
from typing import Any

from pypilot.compile.generators import GENERATORS
from pypilot.engine.memo import Memo
from pypilot.kinds.base import Object
from pypilot.wire import types
from pypilot.wire.node import Proxy
from pypilot.wire.resource import ResourceSet
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.world import World
from tests.golden import node
from tests.world.objects import endpoint_slice, make, pod, service

MANAGER = "envoy.filters.network.http_connection_manager"
SHOP = node({"name": "web", "namespace": "shop", "ip": "10.1.0.1"})
SHOP_TOO = node({"name": "api", "namespace": "shop", "ip": "10.1.0.2"})
ELSEWHERE = node({"name": "far", "namespace": "elsewhere", "ip": "10.1.0.3"})
GATEWAY = node({"type": "router", "name": "gw", "namespace": "shop", "ip": "10.1.0.4"})
PROXIES = (SHOP, SHOP_TOO, ELSEWHERE, GATEWAY)


def base() -> list[Object]:
    servers = [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]
    return [
        service("web", "shop"),
        service("db", "shop", port=5432, protocol="tcp"),
        pod("web-1", "10.1.0.1", "shop", app="web"),
        endpoint_slice("web", {"web-1": "10.1.0.1"}, "shop"),
        make("Gateway", "front", "shop", spec={"selector": {"app": "gw"}, "servers": servers}),
    ]


def envoy_filter(*patches: Mapping[str, Any], name: str = "f", namespace: str = "shop", **spec: Any) -> Object:
    return make("EnvoyFilter", name, namespace, spec={"configPatches": list(patches), **spec})


def patch(apply_to: str, operation: str, value: Any = None, **match: Any) -> dict[str, Any]:
    body = {"operation": operation} if value is None else {"operation": operation, "value": value}
    return {"applyTo": apply_to, "match": match, "patch": body}


def world(*filters: Object) -> World:
    return advance(World(), Delta(upserts=(*base(), *filters)))


def compiled(memo: Memo, proxy: Proxy) -> dict[str, ResourceSet]:
    return {types.SHORT[url]: memo.root(generator, proxy) for url, generator in GENERATORS.items()}


def bodies(memo: Memo, proxies: Iterable[Proxy] = PROXIES) -> dict[tuple[str, str, str], bytes]:
    """(proxy, type, name) -> bytes."""
    return {
        (proxy.id, short, resource.name): resource.any_bytes
        for proxy in proxies
        for short, found in compiled(memo, proxy).items()
        for resource in found
    }
