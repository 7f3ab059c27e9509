"""Resources made readable: protobuf JSON with every `Any` opened and every secret covered.

Generated modules are imported by the names of the types that are met, never all of them. What the API marks as
`udpa.annotations.sensitive` never leaves: private keys become their SHA-256, anything else a fixed word.
"""

import hashlib
import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any

from google.protobuf import any_pb2, descriptor_pool, json_format, message_factory, wrappers_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from udpa.annotations import sensitive_pb2

from pypilot.wire.istio_messages import find_istio_message
from pypilot.wire.resource import Resource
from pypilot.wire.types import PREFIX

REDACTED = "[redacted]"
_ROOTS = ("envoy", "udpa", "xds")
_WELL_KNOWN = ("any", "duration", "empty", "struct", "timestamp", "wrappers")
_ANY = "google.protobuf.Any"


Cover = Callable[[Message, FieldDescriptor, Any], bool]
"""Covers a set field of a message if it is secret, and says whether it did."""


def cover_sensitive(message: Message, field: FieldDescriptor, value: Any) -> bool:
    """Cover what the API marks as sensitive."""
    if not _is_sensitive(field):
        return False
    _cover(message, field, value)
    return True


def resource_to_dict(resource: Resource, cover: Cover = cover_sensitive) -> dict[str, Any]:
    """The resource as protobuf JSON with the API's own field names."""
    packed = any_pb2.Any.FromString(resource.any_bytes)
    message = _unpack(packed)
    if message is None:
        return {"@type": packed.type_url, "value": _undecoded(packed)}
    _open(message, cover)
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def type_url_of(resource: Resource) -> str:
    """The type URL in the resource's `Any`."""
    return any_pb2.Any.FromString(resource.any_bytes).type_url


@cache
def find_descriptor(name: str) -> Descriptor | None:
    """The descriptor of a message; its package's generated modules are imported if need be."""
    istio = find_istio_message(name)
    if istio is not None:
        return istio
    pool = descriptor_pool.Default()
    package, _, _ = name.rpartition(".")
    for module in _modules(package):
        try:
            return pool.FindMessageTypeByName(name)
        except KeyError:
            importlib.import_module(module)
    try:
        return pool.FindMessageTypeByName(name)
    except KeyError:
        return None


@cache
def _modules(package: str) -> tuple[str, ...]:
    """The generated modules of a protobuf package: Envoy's directories are named like its packages."""
    if package == "google.protobuf":
        return tuple(f"google.protobuf.{name}_pb2" for name in _WELL_KNOWN)
    if package.partition(".")[0] not in _ROOTS:
        return ()
    try:
        paths = importlib.import_module(package).__path__
    except (ImportError, AttributeError):
        return ()
    return tuple(f"{package}.{m.name}" for m in pkgutil.iter_modules(paths) if m.name.endswith("_pb2"))


def _unpack(packed: any_pb2.Any) -> Message | None:
    descriptor = find_descriptor(packed.type_url.rpartition("/")[2])
    if descriptor is None:
        return None
    message = message_factory.GetMessageClass(descriptor)()
    try:
        message.ParseFromString(packed.value)
    except DecodeError:
        return None
    return message


def _undecoded(packed: any_pb2.Any) -> str:
    name = packed.type_url.rpartition("/")[2]
    return f"undecoded {name} sha256:{hashlib.sha256(packed.value).hexdigest()}"


def _open(message: Message, cover: Cover) -> None:
    """Make every `Any` in the message printable and cover its secrets, in place."""
    if isinstance(message, any_pb2.Any):
        if message.type_url:
            _open_any(message, cover)
        return
    for field, value in message.ListFields():
        if not cover(message, field, value) and field.message_type is not None:
            for part in _parts(field, value):
                _open(part, cover)


def _open_any(packed: any_pb2.Any, cover: Cover) -> None:
    inner = _unpack(packed)
    if inner is None:
        text = wrappers_pb2.StringValue(value=_undecoded(packed))
        packed.type_url = PREFIX + "google.protobuf.StringValue"
        packed.value = text.SerializeToString()
        return
    _open(inner, cover)
    packed.value = inner.SerializeToString(deterministic=True)


def _parts(field: FieldDescriptor, value: Any) -> list[Message]:
    """The messages in the value of a message field."""
    if isinstance(value, Message):
        return [value]
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return [part for part in value.values() if isinstance(part, Message)]
    return list(value)


@cache
def _is_sensitive(field: FieldDescriptor) -> bool:
    return bool(field.GetOptions().Extensions[sensitive_pb2.sensitive])


def _cover(message: Message, field: FieldDescriptor, value: Any) -> None:
    if field.message_type is None:
        if isinstance(value, str):
            setattr(message, field.name, REDACTED)
        else:
            message.ClearField(field.name)
        return
    for part in _parts(field, value):
        if part.DESCRIPTOR.full_name == "envoy.config.core.v3.DataSource":
            _cover_source(part, field.name == "private_key")
        else:
            part.Clear()


def _cover_source(source: Any, is_key: bool) -> None:
    """Inline content is replaced; the name of a file or variable may be shown."""
    secret = source.inline_bytes or source.inline_string.encode()
    if secret:
        source.inline_string = f"sha256:{hashlib.sha256(secret).hexdigest()}" if is_key else REDACTED
