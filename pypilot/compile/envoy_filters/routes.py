"""Patches to route configurations, virtual hosts and routes (EF-018…020). Works on a copy that its caller made."""

from typing import Any

from pypilot.compile.envoy_filters.matching import (
    ServicePorts,
    configuration_matches,
    host_matches,
    names_route,
    route_matches,
)
from pypilot.compile.envoy_filters.merge import merge
from pypilot.compile.envoy_filters.model import Patch, Trace
from pypilot.compile.envoy_filters.sequence import first_match, insert, insert_relative


def _merge(target: Any, patch: Patch) -> None:
    merge(target, patch.value, patch.operation == "MERGE_AND_REPLACE_LIST")


def patch_configuration(
    config: Any, patches: tuple[Patch, ...], trace: Trace, gateway: bool, ports: ServicePorts = ()
) -> None:
    """Apply all patches to one configuration: itself, then its hosts with their routes, then added hosts."""
    for patch in patches:
        if patch.apply_to == "ROUTE_CONFIGURATION" and configuration_matches(config.name, patch, gateway, ports):
            trace.begin(patch)
            if patch.merges:
                _merge(config, patch)
            trace.done(patch, patch.merges)
    inside = [p for p in patches if configuration_matches(config.name, p, gateway, ports)]
    hosts = [p for p in inside if p.apply_to == "VIRTUAL_HOST"]
    routes = [p for p in inside if p.apply_to == "HTTP_ROUTE"]
    gone = {host.name for host in config.virtual_hosts if not _patch_host(host, hosts, routes, trace)}
    for patch in hosts:
        if patch.operation == "ADD":
            trace.begin(patch)
            insert(config.virtual_hosts, len(config.virtual_hosts), patch.value)
            trace.done(patch)
    for i in reversed(range(len(config.virtual_hosts))):
        if config.virtual_hosts[i].name in gone:
            del config.virtual_hosts[i]


def _patch_host(host: Any, patches: list[Patch], route_patches: list[Patch], trace: Trace) -> bool:
    """False if the host is removed."""
    for patch in patches:
        if patch.operation == "ADD" or not host_matches(host, patch):
            continue
        trace.begin(patch)
        if patch.operation == "REMOVE":
            trace.done(patch)
            return False
        if patch.operation == "REPLACE":
            host.CopyFrom(patch.value)
            trace.done(patch)
        elif patch.merges:
            _merge(host, patch)
            trace.done(patch)
    _patch_routes(host, route_patches, trace)
    return True


def _patch_routes(host: Any, patches: list[Patch], trace: Trace) -> None:
    gone = [i for i, route in enumerate(host.routes) if not _patch_route(host, route, patches, trace)]
    for i in reversed(gone):
        del host.routes[i]
    for patch in patches:
        if host_matches(host, patch):
            trace.begin(patch)
            trace.done(patch, _insert_route(host.routes, patch))


def _patch_route(host: Any, route: Any, patches: list[Patch], trace: Trace) -> bool:
    """False if the route is removed."""
    for patch in patches:
        if not (patch.merges or patch.operation == "REMOVE"):
            continue
        if not (host_matches(host, patch) and route_matches(route, patch)):
            continue
        trace.begin(patch)
        trace.done(patch)
        if patch.operation == "REMOVE":
            return False
        _merge(route, patch)
    return True


def _insert_route(routes: Any, patch: Patch) -> bool:
    """INSERT_FIRST with a route named: at the front, provided that route is there."""

    def matches(route: Any) -> bool:
        return route_matches(route, patch)

    named = names_route(patch)
    match patch.operation:
        case "ADD":
            insert(routes, len(routes), patch.value)
        case "INSERT_FIRST":
            if named and first_match(routes, matches) is None:
                return False
            insert(routes, 0, patch.value)
        case "INSERT_BEFORE" | "INSERT_AFTER":
            return insert_relative(routes, patch, matches if named else None)
        case _:
            return False
    return True
