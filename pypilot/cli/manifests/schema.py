"""OpenAPI v3 schemas, structural in the sense of Kubernetes, from the types of a kind's fields.

A schema is no stricter than the parser of the kind, and keeps fields that the kind does not have: objects written for
Istio lose nothing.
"""

from collections.abc import Callable
from typing import Any

from msgspec import inspect

from pypilot.cli.manifests.field_docs import field_docs
from pypilot.kinds.base import Duration, Kind

Schema = dict[str, Any]
KEEP_UNKNOWN = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING = {inspect.IntType, inspect.StrType}
_DURATION = r"^-?(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$"
_FROM_THE_SERVER = ("apiVersion", "metadata")


def kind_schema(kind: Kind) -> Schema:
    """The schema of all objects of a kind."""
    info = inspect.type_info(kind.type)
    assert isinstance(info, inspect.StructType)
    schema = _of_struct(info)
    del schema[KEEP_UNKNOWN]  # beside spec and status there is nothing to keep
    properties = {name: part for name, part in schema["properties"].items() if name not in _FROM_THE_SERVER}
    properties.setdefault("status", {"type": "object", KEEP_UNKNOWN: True})
    required = [name for name in schema.get("required", ()) if name not in _FROM_THE_SERVER]
    out: Schema = {"type": "object", "properties": properties}
    if "description" in properties.get("spec", {}):
        out["description"] = properties["spec"]["description"]
    return {**out, "required": required} if required else out


def _of(info: inspect.Type) -> Schema:
    for cls, make in _MAKERS.items():
        if isinstance(info, cls):
            return make(info)
    raise TypeError(f"no schema for {info}")


def _of_metadata(info: inspect.Metadata) -> Schema:
    return _of(info.type)


def _of_union(info: inspect.UnionType) -> Schema:
    given = [part for part in info.types if not isinstance(part, inspect.NoneType)]
    if len(given) == 1:
        return _of(given[0])
    if {type(part) for part in given} == _INT_OR_STRING:
        return {"x-kubernetes-int-or-string": True}
    raise TypeError(f"no schema for {info}")


def _of_number(info: inspect.IntType | inspect.FloatType) -> Schema:
    schema: Schema = {"type": "integer" if isinstance(info, inspect.IntType) else "number"}
    bounds = {"minimum": info.ge, "maximum": info.le}
    return schema | {name: value for name, value in bounds.items() if value is not None}


def _of_text(info: inspect.StrType) -> Schema:
    return {"type": "string"} | ({"pattern": info.pattern} if info.pattern else {})


def _of_literal(info: inspect.LiteralType) -> Schema:
    return {"type": "string", "enum": [value for value in info.values if value != ""]}


def _of_sequence(info: inspect.VarTupleType | inspect.ListType) -> Schema:
    return {"type": "array", "items": _of(info.item_type)}


def _of_map(info: inspect.DictType) -> Schema:
    return {"type": "object", "additionalProperties": _of(info.value_type)}


def _of_custom(info: inspect.CustomType) -> Schema:
    if info.cls is Duration:
        return {"type": "string", "pattern": _DURATION}
    raise TypeError(f"no schema for {info.cls}")


def _of_struct(info: inspect.StructType) -> Schema:
    docs = field_docs(info.cls)
    properties: Schema = {}
    required = []
    for field in info.fields:
        if isinstance(field.type, inspect.Metadata) and (field.type.extra or {}).get("api") is False:
            continue
        schema = _of(field.type)
        if field.name in docs:
            schema = {"description": docs[field.name], **schema}
        properties[field.encode_name] = schema
        if field.required:
            required.append(field.encode_name)
    out: Schema = {"type": "object", "properties": properties, KEEP_UNKNOWN: True}
    return {**out, "required": required} if required else out


def _of_anything(_: inspect.Type) -> Schema:
    return {KEEP_UNKNOWN: True}


_MAKERS: dict[type[inspect.Type], Callable[[Any], Schema]] = {
    inspect.Metadata: _of_metadata,
    inspect.UnionType: _of_union,
    inspect.StructType: _of_struct,
    inspect.BoolType: lambda _: {"type": "boolean"},
    inspect.IntType: _of_number,
    inspect.FloatType: _of_number,
    inspect.StrType: _of_text,
    inspect.LiteralType: _of_literal,
    inspect.VarTupleType: _of_sequence,
    inspect.ListType: _of_sequence,
    inspect.DictType: _of_map,
    inspect.CustomType: _of_custom,
    inspect.AnyType: _of_anything,
    inspect.RawType: _of_anything,
}
