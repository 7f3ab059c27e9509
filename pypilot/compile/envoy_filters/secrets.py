"""Secrets that patches name, for gateways: a patched transport socket may ask for a credential over ADS (SDS-004).

Under the rules that hold for credentials of Gateways: Secrets of the proxy's own namespace, and of no other.
"""

from collections.abc import Iterator
from typing import Any

from google.protobuf import any_pb2
from google.protobuf.message import Message

from pypilot.compile.envoy_filters.merge import open_any
from pypilot.compile.envoy_filters.model import PatchKeys
from pypilot.compile.envoy_filters.selection import patches_of
from pypilot.compile.envoy_filters.values import patches_named
from pypilot.compile.secrets import compile_secrets, secret_resource
from pypilot.wire.node import Proxy
from pypilot.wire.resource import Chunk, ResourceSet
from pypilot.world.reader import Reader

_REFERENCE = "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig"


def _secret_names(message: Any) -> Iterator[str]:
    """Names of all secrets in a message that are to come over ADS."""
    if isinstance(message, any_pb2.Any):
        inside = open_any(message)
        if inside is not None:
            yield from _secret_names(inside)
        return
    if message.DESCRIPTOR.full_name == _REFERENCE and message.sds_config.HasField("ads"):
        yield message.name
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if isinstance(value, Message):
            yield from _secret_names(value)
            continue
        for part in value.values() if field.message_type.GetOptions().map_entry else value:
            if isinstance(part, Message):
                yield from _secret_names(part)


def _named(reader: Reader, keys: PatchKeys) -> tuple[str, ...]:
    values = (patch.value for patch in patches_named(reader, keys) if patch.value is not None)
    return tuple(dict.fromkeys(name for value in values for name in _secret_names(value)))


def _secrets(reader: Reader, names: tuple[str, ...], namespace: str) -> Chunk:
    made = (reader.call(secret_resource, name, namespace) for name in names)
    return Chunk(resource for resource in made if resource is not None)


def generate_secrets(reader: Reader, proxy: Proxy) -> ResourceSet:
    """The credentials that a proxy's configuration refers to, patches included."""
    made = compile_secrets(reader, proxy)
    patches = patches_of(reader, proxy)
    if proxy.type != "router" or not patches.keys:
        return made
    keys = (*patches.listeners, *patches.clusters, *patches.extensions)
    names = tuple(name for name in reader.call(_named, keys) if made.get(name) is None)
    added = reader.call(_secrets, names, proxy.namespace)
    return ResourceSet((*made.chunks, added)) if added.resources else made
