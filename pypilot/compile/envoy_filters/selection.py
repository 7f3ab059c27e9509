"""Which patches are for a proxy, and in which order (EF-001…004). Looks at no resource.

A proxy's labels and metadata count only as far as some EnvoyFilter that it can see asks for them, so that proxies that
are alike in these get the very same patches.
"""

from collections.abc import Iterable
from typing import NamedTuple

from pypilot.compile.envoy_filters.model import Patch, PatchKey, PatchKeys
from pypilot.compile.envoy_filters.values import filter_patches
from pypilot.compile.targets import workload_labels
from pypilot.kinds.envoy_filter import EnvoyFilter, PolicyTargetReference, ProxyMatch
from pypilot.kinds.envoy_filter_validation import LISTENER_PARTS, ROUTE_PARTS, version_search
from pypilot.wire.node import Labels, Proxy
from pypilot.world.reader import Reader

GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
"""Label of proxies that a Gateway of the Gateway API made."""


class ProxyPatches(NamedTuple):
    """The patches of a proxy by what they are applied to, each in order of application."""

    listeners: PatchKeys = ()
    """To listeners, and to the routes inside inbound ones."""
    routes: PatchKeys = ()
    clusters: PatchKeys = ()
    extensions: PatchKeys = ()

    @property
    def keys(self) -> frozenset[PatchKey]:
        """All of them."""
        return frozenset((*self.listeners, *self.routes, *self.clusters, *self.extensions))


NO_PATCHES = ProxyPatches()


class _Asked(NamedTuple):
    """What the EnvoyFilters that a namespace sees want to know of a proxy."""

    labels: frozenset[str]
    metadata: frozenset[str]
    version: bool


def _visible(reader: Reader, namespace: str) -> tuple[EnvoyFilter, ...]:
    """EF-001, EF-002: those of the root namespace and of the proxy's own, in order of application."""
    root = reader.mesh().root_namespace
    found = [*reader.envoy_filters(root), *(reader.envoy_filters(namespace) if namespace != root else ())]

    def order(item: EnvoyFilter) -> tuple[int, bool, str, str]:
        priority, created, name = item.order_key
        return (priority, item.namespace != root, created, f"{name}.{item.namespace}")

    return tuple(sorted(found, key=order))


def _selector(item: EnvoyFilter) -> dict[str, str]:
    selector = item.spec.workload_selector
    return (selector.labels or selector.match_labels) if selector is not None else {}


def _asked(reader: Reader, namespace: str) -> _Asked | None:
    """None where there is nothing to ask: no EnvoyFilter is seen."""
    filters = reader.call(_visible, namespace)
    if not filters:
        return None
    proxies = [p.match.proxy for item in filters for p in item.spec.config_patches if p.match.proxy is not None]
    return _Asked(
        frozenset((GATEWAY_NAME, *(key for item in filters for key in _selector(item)))),
        frozenset(key for proxy in proxies for key in proxy.metadata),
        any(proxy.proxy_version for proxy in proxies),
    )


def _is_target(target: PolicyTargetReference, gateway: str, item: EnvoyFilter, namespace: str) -> bool:
    return (
        (target.group, target.kind, target.name) == ("gateway.networking.k8s.io", "Gateway", gateway)
        and item.namespace == namespace
        and target.namespace in ("", namespace)
    )


def _attaches(item: EnvoyFilter, namespace: str, labels: Labels) -> bool:
    """By targetRefs if there are any, which mean gateways of the Gateway API alone; else by the selector."""
    carried = dict(labels)
    if item.spec.target_refs:
        gateway = carried.get(GATEWAY_NAME)
        return gateway is not None and any(_is_target(t, gateway, item, namespace) for t in item.spec.target_refs)
    return all(carried.get(key) == value for key, value in _selector(item).items())


def _is_proxy(wanted: ProxyMatch | None, version: str, metadata: Labels) -> bool:
    """EF-004."""
    if wanted is None:
        return True
    if wanted.proxy_version:
        search = version_search(wanted.proxy_version)
        if search is None or not version or not search.found_in(version):
            return False
    carried = dict(metadata)
    return all(carried.get(key) == value for key, value in wanted.metadata.items())


def _select(
    reader: Reader, namespace: str, is_router: bool, labels: Labels, version: str, metadata: Labels
) -> ProxyPatches:
    sides = {"ANY", "GATEWAY"} if is_router else {"ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND"}
    found: list[Patch] = []
    extensions: list[Patch] = []
    for item in reader.call(_visible, namespace):
        if not _attaches(item, namespace, labels):
            continue
        for patch in reader.call(filter_patches, item.ref):
            if not _is_proxy(patch.match.proxy, version, metadata):
                continue
            if patch.apply_to == "EXTENSION_CONFIG":
                extensions.append(patch)
            elif patch.match.context in sides:
                found.append(patch)

    def keys(patches: Iterable[Patch]) -> PatchKeys:
        return tuple(patch.key for patch in patches)

    routes = [p for p in found if p.apply_to in ROUTE_PARTS]
    inline = {p.key for p in routes if not is_router and p.match.context != "SIDECAR_OUTBOUND"}
    return ProxyPatches(
        keys(p for p in found if p.apply_to in LISTENER_PARTS or p.key in inline),
        keys(p for p in routes if p.match.context != "SIDECAR_INBOUND"),
        keys(p for p in found if p.apply_to == "CLUSTER"),
        keys(extensions),
    )


def patches_of(reader: Reader, proxy: Proxy) -> ProxyPatches:
    """The patches of a proxy. Waypoints and ztunnels have none."""
    if proxy.type not in ("sidecar", "router"):
        return NO_PATCHES
    asked = reader.call(_asked, proxy.namespace)
    if asked is None:
        return NO_PATCHES
    return reader.call(
        _select,
        proxy.namespace,
        proxy.type == "router",
        tuple((k, v) for k, v in workload_labels(reader, proxy) if k in asked.labels),
        proxy.istio_version if asked.version else "",
        tuple((k, v) for k, v in proxy.metadata if k in asked.metadata),
    )
