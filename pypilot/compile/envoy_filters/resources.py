"""Patches applied to one finished resource, or to a chunk of them. What no patch can mean is passed on as it is.

A call's key holds only the patches that can mean the resource, so that a resource is patched once for all who share
both. ADD to a whole set is `sets.py`'s.
"""

from collections.abc import Callable
from typing import NamedTuple

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from google.protobuf import any_pb2

from pypilot.compile.envoy_filters.clusters import patch_cluster
from pypilot.compile.envoy_filters.listeners import ListenerPatcher
from pypilot.compile.envoy_filters.matching import ServicePorts, cluster_matches, configuration_matches
from pypilot.compile.envoy_filters.model import (
    NOTHING_DONE,
    Applied,
    Patch,
    PatchKeys,
    Report,
    Side,
    Trace,
    all_of,
    apply_soundly,
)
from pypilot.compile.envoy_filters.routes import patch_configuration
from pypilot.compile.envoy_filters.values import patches_named
from pypilot.compile.listeners.inbound_tunnel import CONNECT_TERMINATE
from pypilot.compile.naming import CONNECT_ORIGINATE, INBOUND_PASSTHROUGH_CLUSTER, MAIN_INTERNAL
from pypilot.wire import types
from pypilot.wire.resource import Chunk, Resource
from pypilot.world.reader import Reader

Hosts = tuple[tuple[str, tuple[str, ...]], ...]
"""Inbound cluster -> the services that it serves."""


class PatchedResource(NamedTuple):
    """A resource, None if it was removed, and what patches did to it."""

    resource: Resource | None
    report: Report


class PatchedChunk(NamedTuple):
    """A chunk, and what patches did to it."""

    chunk: Chunk
    report: Report


def _body(resource: Resource) -> bytes:
    return any_pb2.Any.FromString(resource.any_bytes).value


def _remade(resource: Resource, type_url: str, applied: Applied[tuple[str, bytes] | None]) -> PatchedResource:
    """The same resource where nothing was done to it."""
    if not applied.report.used:
        return PatchedResource(resource, applied.report)
    if applied.made is None:
        return PatchedResource(None, applied.report)
    return PatchedResource(Resource.of(applied.made[0], type_url, applied.made[1]), applied.report)


def _patched(chunk: Chunk, one: Callable[[Resource], PatchedResource]) -> PatchedChunk:
    """The very chunk where nothing was done to any of its resources."""
    results = [one(resource) for resource in chunk.resources.values()]
    report = all_of(r.report for r in results)
    return PatchedChunk(Chunk(r.resource for r in results if r.resource is not None) if report.used else chunk, report)


# -- listeners --------------------------------------------------------------------------------------------------------


def _side_of(listener: listener_pb2.Listener, is_router: bool) -> Side:
    if is_router:
        return "GATEWAY"
    inbound = listener.traffic_direction == base_pb2.TrafficDirection.INBOUND or listener.name == CONNECT_TERMINATE
    return "SIDECAR_INBOUND" if inbound else "SIDECAR_OUTBOUND"


def patched_listener(reader: Reader, resource: Resource, keys: PatchKeys, is_router: bool) -> PatchedResource:
    """One listener."""
    body = _body(resource)
    side = _side_of(listener_pb2.Listener.FromString(body), is_router)
    patches = tuple(patch for patch in patches_named(reader, keys) if patch.is_for(side))

    def work(remaining: tuple[Patch, ...], trace: Trace) -> tuple[str, bytes] | None:
        listener = listener_pb2.Listener.FromString(body)
        if not ListenerPatcher(listener, remaining, trace, side == "SIDECAR_INBOUND").apply():
            return None
        return listener.name, listener.SerializeToString(deterministic=True)

    return _remade(resource, types.LISTENER, apply_soundly(patches, work))


def patched_listeners(reader: Reader, chunk: Chunk, keys: PatchKeys, is_router: bool) -> PatchedChunk:
    """All listeners of a chunk, but the end of tunnels, which istiod adds after patching."""
    named = [(p.key, p.match.listener.name if p.match.listener else "") for p in patches_named(reader, keys)]

    def one(resource: Resource) -> PatchedResource:
        meant = tuple(key for key, name in named if name in ("", resource.name))
        if resource.name == CONNECT_ORIGINATE or not meant:
            return PatchedResource(resource, NOTHING_DONE)
        return reader.call(patched_listener, resource, meant, is_router)

    return _patched(chunk, one)


# -- routes -----------------------------------------------------------------------------------------------------------


def patched_configuration(
    reader: Reader, resource: Resource, keys: PatchKeys, is_router: bool, ports: ServicePorts
) -> PatchedResource:
    """One route configuration."""
    body = _body(resource)

    def work(remaining: tuple[Patch, ...], trace: Trace) -> tuple[str, bytes]:
        config = route_pb2.RouteConfiguration.FromString(body)
        patch_configuration(config, remaining, trace, is_router, ports)
        return config.name, config.SerializeToString(deterministic=True)

    return _remade(resource, types.ROUTE, apply_soundly(patches_named(reader, keys), work))


def patched_routes(reader: Reader, chunk: Chunk, keys: PatchKeys, is_router: bool, ports: ServicePorts) -> PatchedChunk:
    """All route configurations of a chunk."""
    patches = patches_named(reader, keys)

    def one(resource: Resource) -> PatchedResource:
        meant = tuple(p.key for p in patches if configuration_matches(resource.name, p, is_router, ports))
        if not meant:
            return PatchedResource(resource, NOTHING_DONE)
        return reader.call(patched_configuration, resource, meant, is_router, ports)

    return _patched(chunk, one)


# -- clusters ---------------------------------------------------------------------------------------------------------


def cluster_side(name: str, is_router: bool) -> Side | None:
    """None for clusters that are not patched."""
    if name in (CONNECT_ORIGINATE, MAIN_INTERNAL):
        return None
    if is_router:
        return "GATEWAY"
    inbound = name.startswith("inbound|") or name == INBOUND_PASSTHROUGH_CLUSTER
    return "SIDECAR_INBOUND" if inbound else "SIDECAR_OUTBOUND"


def patched_cluster(reader: Reader, resource: Resource, keys: PatchKeys, hosts: tuple[str, ...]) -> PatchedResource:
    """One cluster."""
    body = _body(resource)

    def work(remaining: tuple[Patch, ...], trace: Trace) -> tuple[str, bytes] | None:
        cluster = cluster_pb2.Cluster.FromString(body)
        if not patch_cluster(cluster, remaining, trace, hosts):
            return None
        return cluster.name, cluster.SerializeToString(deterministic=True)

    return _remade(resource, types.CLUSTER, apply_soundly(patches_named(reader, keys), work))


def meant_for_cluster(
    name: str, patches: tuple[Patch, ...], is_router: bool, hosts: tuple[str, ...] = ()
) -> tuple[Patch, ...]:
    """The patches that can mean a cluster of that name: all, if an earlier one of them could rename it."""
    side = cluster_side(name, is_router)
    if side is None:
        return ()
    patches = tuple(p for p in patches if p.operation != "ADD" and p.is_for(side))
    meant = tuple(p for p in patches if cluster_matches(name, p, hosts))
    return patches if any(p.value is not None and p.value.name for p in meant) else meant


def patched_clusters(reader: Reader, chunk: Chunk, keys: PatchKeys, is_router: bool, hosts: Hosts) -> PatchedChunk:
    """All clusters of a chunk."""
    patches = patches_named(reader, keys)
    served = dict(hosts)

    def one(resource: Resource) -> PatchedResource:
        own = served.get(resource.name, ())
        meant = meant_for_cluster(resource.name, patches, is_router, own)
        if not meant:
            return PatchedResource(resource, NOTHING_DONE)
        return reader.call(patched_cluster, resource, tuple(p.key for p in meant), own)

    return _patched(chunk, one)
