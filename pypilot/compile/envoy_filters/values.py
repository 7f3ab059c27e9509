"""From the plain data of patches to messages of Envoy's, once a patch (EF-005, EF-006). Applies nothing.

A value that cannot be read drops its patch and no other. Types are looked up by the names that the value mentions; an
`Any` of a `TypedStruct` is a type like others, whatever is inside.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from pypilot.compile.envoy_filters.model import Patch, PatchKey
from pypilot.kinds.base import Finding, Ref
from pypilot.kinds.envoy_filter import ApplyTo, EnvoyConfigObjectPatch, EnvoyFilter
from pypilot.kinds.envoy_filter_validation import counts_as
from pypilot.wire.decode import find_descriptor
from pypilot.world.reader import Reader

_TYPES: Mapping[ApplyTo, type[Message]] = {
    "LISTENER": listener_pb2.Listener,
    "LISTENER_FILTER": listener_components_pb2.ListenerFilter,
    "FILTER_CHAIN": listener_components_pb2.FilterChain,
    "NETWORK_FILTER": listener_components_pb2.Filter,
    "HTTP_FILTER": http_connection_manager_pb2.HttpFilter,
    "ROUTE_CONFIGURATION": route_pb2.RouteConfiguration,
    "VIRTUAL_HOST": route_components_pb2.VirtualHost,
    "HTTP_ROUTE": route_components_pb2.Route,
    "CLUSTER": cluster_pb2.Cluster,
    "EXTENSION_CONFIG": extension_pb2.TypedExtensionConfig,
    "BOOTSTRAP": bootstrap_pb2.Bootstrap,
}
_DEPTH = 90
"""Protobuf's own limit is 100."""


def _type_names(value: Any, depth: int = 0) -> Iterator[str]:
    """The types of all `Any`s in plain data."""
    if depth > _DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, Mapping):
        named = value.get("@type")
        if isinstance(named, str):
            yield named.rpartition("/")[2]
        for part in value.values():
            yield from _type_names(part, depth + 1)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _type_names(part, depth + 1)


def _is_old(name: str) -> bool:
    return name.startswith("envoy.") and any(part == "v2" or part.startswith("v2alpha") for part in name.split("."))


def parse_value(apply_to: ApplyTo, value: Mapping[str, Any]) -> Message:
    """The message that a patch of a kind holds. Fields that it does not have are passed over, as istiod does.

    Raises:
        ValueError: the value is not such a message, or holds an unknown type.
    """
    for name in _type_names(value):
        if _is_old(name):
            raise ValueError(f"type {name!r} is of version 2 of Envoy's API, which no Envoy knows any more")
        if find_descriptor(name) is None:
            raise ValueError(f"unknown type {name!r}")
    message = _TYPES[apply_to]()
    try:
        json_format.ParseDict(dict(value), message, ignore_unknown_fields=True)
        message.SerializeToString(deterministic=True)
    except (json_format.ParseError, TypeError, AttributeError, KeyError, RecursionError, OverflowError) as error:
        raise ValueError(f"not a {message.DESCRIPTOR.name}: {error}") from error
    return message


def value_findings(envoy_filter: EnvoyFilter) -> Iterator[Finding]:
    """The patches of an EnvoyFilter that cannot be used, for their values are no messages of Envoy's."""
    for position, patch in enumerate(envoy_filter.spec.config_patches):
        if patch.patch.value is None:
            continue
        field = f"spec.configPatches[{position}].patch.value"
        try:
            parse_value(patch.apply_to, patch.patch.value)
        except ValueError as error:
            what = f"{patch.patch.operation} {patch.apply_to} is left out: {error} (EF-005)"
            yield Finding(field, what, code="bad-patch-value")


def _parse(key: PatchKey, patch: EnvoyConfigObjectPatch) -> Patch:
    value = patch.patch.value
    message = parse_value(patch.apply_to, value) if value is not None else None
    return Patch(key, patch.apply_to, counts_as(patch), patch.match, message)


def filter_patches(reader: Reader, ref: Ref) -> tuple[Patch, ...]:
    """The patches of an EnvoyFilter that can be used; why others cannot, `value_findings` says."""
    found = reader.envoy_filter(ref)
    patches: list[Patch] = []
    for position, patch in enumerate(found.spec.config_patches if found is not None else ()):
        try:
            patches.append(_parse(PatchKey(ref, position), patch))
        except ValueError:
            continue
    return tuple(patches)


def patches_named(reader: Reader, keys: tuple[PatchKey, ...]) -> tuple[Patch, ...]:
    """The patches of these keys, in the order of the keys."""
    found = {
        patch.key: patch
        for ref in dict.fromkeys(key.filter for key in keys)
        for patch in reader.call(filter_patches, ref)
    }
    return tuple(found[key] for key in keys if key in found)
