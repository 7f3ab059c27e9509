"""Messages of Istio's own filters and of its agent: no generated module carries them, so their wire facts stand here.

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
    """Message -> (number, field, type). A type that ends in `[]` is repeated; `{}` is a map from strings. A name with a
    dot is a message inside another, which stands before it."""
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
    _Package("istio.mesh.v1alpha1", {"ProxyConfig": ((34, "ca_certificates_pem", "string[]"),)}, {}),
    _Package(
        "istio.networking.nds.v1",
        {
            "NameTable": ((1, "table", "NameTable.NameInfo{}"),),
            "NameTable.NameInfo": (
                (1, "ips", "string[]"),
                (2, "registry", "string"),
                (3, "shortname", "string"),
                (4, "namespace", "string"),
                (5, "alt_hosts", "string[]"),
            ),
        },
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
    made: dict[str, descriptor_pb2.DescriptorProto] = {}
    for name, fields in package.messages.items():
        outer, _, inner = name.rpartition(".")
        made[name] = made[outer].nested_type.add(name=inner) if outer else file.message_type.add(name=inner)
        for number, field, kind in fields:
            if kind.endswith("{}"):
                kind = _map_entry(package, made[name], name, field, kind.removesuffix("{}")) + "[]"
            _add_field(package, made[name], number, field, kind)
    return file


def _map_entry(package: _Package, message: descriptor_pb2.DescriptorProto, owner: str, field: str, value: str) -> str:
    """The message of a map's entries, as protoc makes it; its name in the package."""
    entry = message.nested_type.add(name=f"{field.title().replace('_', '')}Entry")
    entry.options.map_entry = True
    _add_field(package, entry, 1, "key", "string")
    _add_field(package, entry, 2, "value", value)
    return f"{owner}.{entry.name}"


def _add_field(package: _Package, message: descriptor_pb2.DescriptorProto, number: int, field: str, kind: str) -> None:
    label = _Field.LABEL_REPEATED if kind.endswith("[]") else _Field.LABEL_OPTIONAL
    kind = kind.removesuffix("[]")
    added = message.field.add(name=field, number=number, label=label)
    if kind in _SCALARS:
        added.type = _SCALARS[kind]
    else:
        added.type = _Field.TYPE_ENUM if kind in package.enums else _Field.TYPE_MESSAGE
        added.type_name = f".{package.name}.{kind}"


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
