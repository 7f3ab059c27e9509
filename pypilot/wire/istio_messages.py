"""Messages of Istio's own Envoy filters: no generated module carries them, so their wire facts stand here.

Source: the names, numbers and types of the fields in Istio's API. Only what must be decoded by name is listed; filters
that are configured by a `TypedStruct` need nothing.
"""

from dataclasses import dataclass

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"string": _Field.TYPE_STRING, "bool": _Field.TYPE_BOOL}


@dataclass(frozen=True, slots=True)
class _Package:
    name: str
    messages: dict[str, tuple[tuple[int, str, str], ...]]
    """Message -> (number, field, type); a type that ends in `[]` is repeated."""
    enums: dict[str, tuple[str, ...]]


_PACKAGES = (
    _Package(
        "istio.envoy.config.filter.http.alpn.v2alpha1",
        {
            "FilterConfig": ((1, "alpn_override", "AlpnOverride[]"),),
            "AlpnOverride": ((1, "upstream_protocol", "Protocol"), (2, "alpn_override", "string[]")),
        },
        {"Protocol": ("HTTP10", "HTTP11", "HTTP2")},
    ),
    _Package(
        "envoy.tcp.metadataexchange.config",
        {"MetadataExchange": ((1, "protocol", "string"), (2, "enable_discovery", "bool"))},
        {},
    ),
)


def _file(package: _Package) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name=f"pypilot/{package.name}.proto", package=package.name, syntax="proto3"
    )
    for name, values in package.enums.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in package.messages.items():
        message = file.message_type.add(name=name)
        for number, field, kind in fields:
            label = _Field.LABEL_REPEATED if kind.endswith("[]") else _Field.LABEL_OPTIONAL
            kind = kind.removesuffix("[]")
            added = message.field.add(name=field, number=number, label=label)
            if kind in _SCALARS:
                added.type = _SCALARS[kind]
            else:
                added.type = _Field.TYPE_ENUM if kind in package.enums else _Field.TYPE_MESSAGE
                added.type_name = f".{package.name}.{kind}"
    return file


def find_istio_message(name: str) -> Descriptor | None:
    """The descriptor of an Istio message by its full name, None if it is not one of them."""
    for package in _PACKAGES:
        if name.startswith(package.name + ".") and name[len(package.name) + 1 :] in package.messages:
            pool = descriptor_pool.Default()
            try:
                return pool.FindMessageTypeByName(name)
            except KeyError:
                pool.AddSerializedFile(_file(package).SerializeToString())
                return pool.FindMessageTypeByName(name)
    return None
