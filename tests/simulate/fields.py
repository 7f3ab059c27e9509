"""Reading Envoy's messages in protobuf JSON with the API's own field names.

That is the form that `wire.decode` and Envoy's `/config_dump` give.
Absent fields have their proto3 defaults. Must not know what any message means.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

Message: TypeAlias = Mapping[str, Any]

_DENOMINATORS = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}
_TYPED_STRUCTS = ("udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct")


class UnsupportedError(NotImplementedError):
    """Configuration of which this simulator cannot say what Envoy does; says which field."""


def at(message: Message, *path: str) -> Message:
    """A message within a message; an empty one if it is absent."""
    for name in path:
        found = message.get(name)
        if not isinstance(found, Mapping):
            return {}
        message = found
    return message


def items(message: Message, name: str) -> Sequence[Any]:
    """A repeated field."""
    return message.get(name) or ()


def text(message: Message, name: str, default: str = "") -> str:
    """A string or an enum's name."""
    return str(message.get(name, default))


def number(message: Message, name: str, default: int = 0) -> int:
    """An integer, which JSON may hold as text (64 bits)."""
    return int(message.get(name, default))


def flag(message: Message, name: str, default: bool = False) -> bool:
    """A bool or a BoolValue."""
    return bool(message.get(name, default))


def seconds(message: Message, name: str) -> Fraction | None:
    """A Duration; None if it is absent."""
    value = message.get(name)
    return None if value is None else Fraction(str(value).removesuffix("s"))


def share(percent: Message) -> Fraction:
    """A `FractionalPercent` between 0 and 1."""
    denominator = _DENOMINATORS[text(percent, "denominator", "HUNDRED")]
    return min(Fraction(number(percent, "numerator"), denominator), Fraction(1))


def runtime_share(fraction: Message) -> Fraction:
    """A `RuntimeFractionalPercent`, with nothing overridden at run time."""
    return share(at(fraction, "default_value"))


def typed(message: Message, name: str = "typed_config") -> tuple[str, Message]:
    """The full name of the type in an Any, and its content; a TypedStruct is what it stands for."""
    packed = at(message, name)
    kind = text(packed, "@type").rpartition("/")[2]
    if kind in _TYPED_STRUCTS:
        inner = at(packed, "value") if "type_url" not in packed else packed
        return text(inner, "type_url").rpartition("/")[2], at(inner, "value")
    return kind, packed


def only(message: Message, names: Sequence[str]) -> str:
    """Which field of a oneof is set; empty for none."""
    return next((name for name in names if name in message), "")
