"""What makes an EnvoyFilter wrong beyond its types (VAL-010), and its registry entry.

Whether a value is a message of Envoy's is found out when it is compiled: kinds do not know Envoy.
"""

from collections.abc import Iterable

from pypilot.kinds.base import Finding, Kind
from pypilot.kinds.envoy_filter import EnvoyConfigObjectPatch, EnvoyFilter, FilterMatch
from pypilot.kinds.re2 import is_re2
from pypilot.kinds.re2_search import Search, compile_search

MANAGER = "envoy.filters.network.http_connection_manager"
MAX_VERSION_PATTERN = 1024
"""Longer expressions match no proxy (EF-004)."""
INSERTS = frozenset({"INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST"})
LISTENER_PARTS = frozenset({"LISTENER", "LISTENER_FILTER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER"})
ROUTE_PARTS = frozenset({"ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"})
_WANTED_MATCH = {
    **dict.fromkeys(LISTENER_PARTS, "listener"),
    **dict.fromkeys(ROUTE_PARTS, "routeConfiguration"),
    "CLUSTER": "cluster",
}
_LISTS = {"MERGE", "MERGE_AND_REPLACE_LIST"}
_OPERATIONS = {
    "LISTENER": {"ADD", "REMOVE", *_LISTS},
    "LISTENER_FILTER": {"ADD", "REMOVE", "REPLACE", "MERGE", *INSERTS},
    "FILTER_CHAIN": {"ADD", "REMOVE", *_LISTS},
    "NETWORK_FILTER": {"ADD", "REMOVE", "REPLACE", "MERGE", *INSERTS},
    "HTTP_FILTER": {"ADD", "REMOVE", "REPLACE", "MERGE", *INSERTS},
    "ROUTE_CONFIGURATION": _LISTS,
    "VIRTUAL_HOST": {"ADD", "REMOVE", "REPLACE", *_LISTS},
    "HTTP_ROUTE": {"ADD", "REMOVE", *_LISTS, *INSERTS},
    "CLUSTER": {"ADD", "REMOVE", *_LISTS},
    "EXTENSION_CONFIG": {"ADD"},
}
"""What does something; INSERT_* on kinds without order counts as ADD (EF-007)."""
_OLD_NAMES = {
    "envoy.buffer": "envoy.filters.http.buffer",
    "envoy.cors": "envoy.filters.http.cors",
    "envoy.csrf": "envoy.filters.http.csrf",
    "envoy.fault": "envoy.filters.http.fault",
    "envoy.grpc_http1_bridge": "envoy.filters.http.grpc_http1_bridge",
    "envoy.grpc_json_transcoder": "envoy.filters.http.grpc_json_transcoder",
    "envoy.grpc_web": "envoy.filters.http.grpc_web",
    "envoy.health_check": "envoy.filters.http.health_check",
    "envoy.http_connection_manager": MANAGER,
    "envoy.ip_tagging": "envoy.filters.http.ip_tagging",
    "envoy.lua": "envoy.filters.http.lua",
    "envoy.mongo_proxy": "envoy.filters.network.mongo_proxy",
    "envoy.rate_limit": "envoy.filters.http.ratelimit",
    "envoy.ratelimit": "envoy.filters.network.ratelimit",
    "envoy.redis_proxy": "envoy.filters.network.redis_proxy",
    "envoy.router": "envoy.filters.http.router",
    "envoy.tcp_proxy": "envoy.filters.network.tcp_proxy",
    "envoy.listener.http_inspector": "envoy.filters.listener.http_inspector",
    "envoy.listener.original_dst": "envoy.filters.listener.original_dst",
    "envoy.listener.original_src": "envoy.filters.listener.original_src",
    "envoy.listener.proxy_protocol": "envoy.filters.listener.proxy_protocol",
    "envoy.listener.tls_inspector": "envoy.filters.listener.tls_inspector",
}
"""Names that Envoy had before 1.14: nothing that is generated carries them."""


def counts_as(patch: EnvoyConfigObjectPatch) -> str:
    """The operation that is done: without an order to insert into, a thing is added (EF-007)."""
    operation = patch.patch.operation
    ordered = "INSERT_FIRST" in _OPERATIONS.get(patch.apply_to, ())
    return "ADD" if operation in INSERTS and not ordered else operation


def version_search(text: str) -> Search | None:
    """The expression of `proxyVersion`; None for one that matches no proxy (EF-004)."""
    return compile_search(text) if len(text) <= MAX_VERSION_PATTERN else None


def _validate_proxy(patch: EnvoyConfigObjectPatch, path: str) -> Iterable[Finding]:
    text = patch.match.proxy.proxy_version if patch.match.proxy is not None else ""
    field = f"{path}.match.proxy.proxyVersion"
    if len(text) > MAX_VERSION_PATTERN:
        yield Finding(field, f"longer than {MAX_VERSION_PATTERN} characters: it matches no proxy", "warning")
    elif text and not is_re2(text):
        yield Finding(field, f"not an expression of RE2: {text!r} (VAL-010)")
    elif text and version_search(text) is None:
        yield Finding(field, f"{text!r} has parts of RE2 that pypilot cannot match (nesting, Unicode classes)")


def _validate_filter(patch: EnvoyConfigObjectPatch, wanted: FilterMatch, path: str) -> Iterable[Finding]:
    if patch.apply_to in ("LISTENER", "FILTER_CHAIN"):
        yield Finding(path, f"has no effect with applyTo {patch.apply_to}", "warning", "no-effect")
    if not wanted.name:
        yield Finding(f"{path}.name", "a filter match needs a name (VAL-010)")
        return
    names = [(f"{path}.name", wanted.name)]
    if wanted.sub_filter is not None:
        below = f"{path}.subFilter"
        if patch.apply_to != "HTTP_FILTER":
            yield Finding(below, "allowed only with applyTo HTTP_FILTER (VAL-010)")
        if _OLD_NAMES.get(wanted.name, wanted.name) != MANAGER:
            yield Finding(below, f"allowed only below the filter {MANAGER} (VAL-010)")
        if not wanted.sub_filter.name:
            yield Finding(f"{below}.name", "a filter match needs a name (VAL-010)")
        names.append((f"{below}.name", wanted.sub_filter.name))
    for field, name in names:
        if name in _OLD_NAMES:
            yield Finding(field, f"{name!r} is now called {_OLD_NAMES[name]!r}: it matches nothing", "warning")


def _validate_match(patch: EnvoyConfigObjectPatch, path: str) -> Iterable[Finding]:
    match = patch.match
    given = {
        "listener": match.listener,
        "routeConfiguration": match.route_configuration,
        "cluster": match.cluster,
        "waypoint": match.waypoint,
    }
    stated = [name for name, value in given.items() if value is not None]
    if len(stated) > 1:
        yield Finding(f"{path}.match", f"only one of {', '.join(stated)} may be given (VAL-010)")
        return
    wanted = _WANTED_MATCH.get(patch.apply_to)
    if stated and wanted is not None and stated != [wanted]:
        yield Finding(
            f"{path}.match.{stated[0]}", f"applyTo {patch.apply_to} matches by {wanted}, not by {stated[0]} (VAL-010)"
        )
        return
    listener = match.listener
    if listener is None:
        return
    chain = listener.filter_chain
    if chain is not None and chain.filter is not None:
        yield from _validate_filter(patch, chain.filter, f"{path}.match.listener.filterChain.filter")


def _validate_operation(patch: EnvoyConfigObjectPatch, path: str) -> Iterable[Finding]:
    operation = patch.patch.operation
    if operation != "REMOVE" and patch.patch.value is None:
        yield Finding(f"{path}.patch.value", f"operation {operation} needs a value (VAL-010)")
    if patch.apply_to == "BOOTSTRAP":
        message = "is for the proxy's own agent, which reads it when the proxy starts; it is not sent to proxies"
        yield Finding(f"{path}.applyTo", message, "warning", "agent-only")
    elif counts_as(patch) not in _OPERATIONS[patch.apply_to]:
        field = f"{path}.patch.operation"
        yield Finding(field, f"{operation} does nothing with applyTo {patch.apply_to}", "warning", "no-effect")


def _needs_named_filter(patch: EnvoyConfigObjectPatch) -> bool:
    """EF-014: of what REPLACE, REMOVE and a listener filter's MERGE shall change must be said."""
    listener = patch.match.listener
    chain = listener.filter_chain if listener is not None else None
    wanted = chain.filter if chain is not None else None
    named = {
        "LISTENER_FILTER": listener is not None and bool(listener.listener_filter),
        "NETWORK_FILTER": wanted is not None,
        "HTTP_FILTER": wanted is not None and wanted.sub_filter is not None,
    }.get(patch.apply_to, True)
    changing = {"REPLACE", "REMOVE"} | ({"MERGE"} if patch.apply_to == "LISTENER_FILTER" else set())
    return patch.patch.operation in changing and not named


def validate(envoy_filter: EnvoyFilter) -> Iterable[Finding]:
    """Checks of VAL-010."""
    spec = envoy_filter.spec
    if spec.workload_selector is not None:
        labels = spec.workload_selector.labels or spec.workload_selector.match_labels
        for key, value in labels.items():
            if not key or "*" in key + value:
                field = f"spec.workloadSelector.labels.{key}"
                yield Finding(field, f"a selector takes whole labels, got {f'{key}={value}'!r} (VAL-010)")
        if not labels:
            yield Finding("spec.workloadSelector", "without labels it selects every workload", "warning")
        if spec.target_refs:
            yield Finding("spec.targetRefs", "not together with workloadSelector (VAL-010)")
    for i, patch in enumerate(spec.config_patches):
        path = f"spec.configPatches[{i}]"
        yield from _validate_operation(patch, path)
        yield from _validate_proxy(patch, path)
        if patch.match.context == "WAYPOINT":
            continue  # its matches are for waypoints alone
        yield from _validate_match(patch, path)
        if _needs_named_filter(patch):
            field = f"{path}.match"
            message = f"{patch.patch.operation} of a {patch.apply_to} does nothing unless the match names the filter"
            yield Finding(field, message, "warning", "no-effect")


KIND = Kind(
    EnvoyFilter,
    "networking.istio.io",
    ("v1alpha3",),
    "envoyfilters",
    units=("spec.configPatches[]",),
    validate=validate,
)
