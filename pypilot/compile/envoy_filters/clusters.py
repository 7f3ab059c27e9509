"""Patches to clusters (EF-021). Works on a copy that its caller made."""

from typing import Any

from pypilot.compile.envoy_filters.listeners import merge_socket
from pypilot.compile.envoy_filters.matching import cluster_matches
from pypilot.compile.envoy_filters.merge import merge
from pypilot.compile.envoy_filters.model import Patch, Trace


def patch_cluster(cluster: Any, patches: tuple[Patch, ...], trace: Trace, hosts: tuple[str, ...]) -> bool:
    """Apply patches in order; False if the cluster is removed."""
    for patch in patches:
        if patch.operation == "ADD" or not cluster_matches(cluster.name, patch, hosts):
            continue
        trace.begin(patch)
        if patch.operation == "REMOVE":
            trace.done(patch)
            return False
        if not patch.merges:
            continue
        if patch.value.HasField("transport_socket"):
            trace.done(patch, _merge_transport(cluster, patch, trace))
        else:
            merge(cluster, patch.value, patch.operation == "MERGE_AND_REPLACE_LIST")
            trace.done(patch)
    return True


def _merge_transport(cluster: Any, patch: Patch, trace: Trace) -> bool:
    """Merged into the socket of the same name; else the socket is replaced. Nothing else of the value is merged."""
    value = patch.value.transport_socket
    if cluster.transport_socket_matches:
        for entry in cluster.transport_socket_matches:
            if entry.HasField("transport_socket") and entry.transport_socket.name == value.name:
                return merge_socket(entry.transport_socket, patch, trace)
        trace.note(patch, f"no transport socket match of {cluster.name!r} is named {value.name!r}")
        return False
    if cluster.HasField("transport_socket") and cluster.transport_socket.name == value.name:
        return merge_socket(cluster.transport_socket, patch, trace)
    cluster.transport_socket.CopyFrom(value)
    return True
