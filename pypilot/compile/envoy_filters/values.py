"""From the plain data of patches to messages of Envoy's, once a patch (EF-005, EF-006). Applies nothing.

A value that cannot be read drops its patch and no other. Types are looked up by the names that the value mentions; an
`Any` of a `TypedStruct` is a type like others, whatever is inside.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from pypilot.compile.envoy_filters.model import Patch, PatchKey
from pypilot.kinds.base import Ref
from pypilot.kinds.envoy_filter import ApplyTo, EnvoyConfigObjectPatch
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


class Unusable(NamedTuple):
    """A patch that is left out."""

    position: int
    reason: str


class FilterPatches(NamedTuple):
    """The patches of one EnvoyFilter."""

    patches: tuple[Patch, ...] = ()
    unusable: tuple[Unusable, ...] = ()


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


def parse_value(apply_to: ApplyTo, value: Mapping[str, Any]) -> Message:
    """The message that a patch of a kind holds. Fields that it does not have are passed over, as istiod does.

    Raises:
        ValueError: the value is not such a message, or holds an unknown type.
    """
    for name in _type_names(value):
        if find_descriptor(name) is None:
            hint = "; only version 3 of the API is known" if ".v2." in name else ""
            raise ValueError(f"unknown type {name!r}{hint}")
    message = _TYPES[apply_to]()
    try:
        json_format.ParseDict(dict(value), message, ignore_unknown_fields=True)
        message.SerializeToString(deterministic=True)
    except (json_format.ParseError, TypeError, AttributeError, KeyError, RecursionError, OverflowError) as error:
        raise ValueError(f"not a {message.DESCRIPTOR.name}: {error}") from error
    return message


def _parse(key: PatchKey, patch: EnvoyConfigObjectPatch) -> Patch:
    value = patch.patch.value
    message = parse_value(patch.apply_to, value) if value is not None else None
    return Patch(key, patch.apply_to, counts_as(patch), patch.match, message)


def filter_patches(reader: Reader, ref: Ref) -> FilterPatches:
    """The patches of an EnvoyFilter that can be used, and why others cannot."""
    found = reader.envoy_filter(ref)
    patches: list[Patch] = []
    unusable: list[Unusable] = []
    for position, patch in enumerate(found.spec.config_patches if found is not None else ()):
        try:
            patches.append(_parse(PatchKey(ref, position), patch))
        except ValueError as error:
            unusable.append(Unusable(position, str(error)))
    return FilterPatches(tuple(patches), tuple(unusable))


def patches_named(reader: Reader, keys: tuple[PatchKey, ...]) -> tuple[Patch, ...]:
    """The patches of these keys, in the order of the keys."""
    found = {
        patch.key: patch
        for ref in dict.fromkeys(key.filter for key in keys)
        for patch in reader.call(filter_patches, ref).patches
    }
    return tuple(found[key] for key in keys if key in found)
