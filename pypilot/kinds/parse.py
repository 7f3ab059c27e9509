"""From plain data (decoded YAML or JSON) to kinds, with every defect named and as little as possible rejected.

A wrong field rejects the smallest list item that its kind declares as a unit (`Kind.units`), else the object. Fields
without effect are warnings (`field_findings`). Pure: the caller knows where the data came from.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec

from pypilot.kinds.base import Duration, Finding, Kind, Object, Spec
from pypilot.kinds.field_findings import Path, field_findings, field_path, fields_of

_AT = re.compile(r"^(?P<text>.*?) - at `\$(?P<path>.*)`$", re.DOTALL)
_NOT_OURS = frozenset({"apiVersion", "kind", "metadata", "status"})
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+|\.\.\.)\]")
S = TypeVar("S", bound=Spec)


@dataclass(frozen=True, slots=True)
class Parsed:
    """The outcome: the object, if any of it could be used, and what was found wrong."""

    object: Object | None
    findings: tuple[Finding, ...] = ()

    @property
    def clean(self) -> bool:
        """True if nothing had to be rejected."""
        return self.object is not None and not any(f.severity == "error" for f in self.findings)


def _decode_hook(kind: type, value: Any) -> Any:
    if kind is Duration:
        if isinstance(value, str):
            return Duration.parse(value)
        raise ValueError(f"invalid duration {value!r}, want a string such as 1.5s")
    raise NotImplementedError


def convert(data: Any, into: type[S]) -> S:
    """Strictly convert plain data.

    Raises:
        msgspec.ValidationError: a field is wrong; the message carries its path.
    """
    return msgspec.convert(data, into, strict=False, dec_hook=_decode_hook)


def without_nulls(data: Any, declared: Any = None) -> Any:
    """A copy in which a null counts as absent, as Kubernetes has it; what is declared as `Any` stays as it is."""
    if declared is Any:
        return data
    if isinstance(data, Mapping):
        return {k: without_nulls(v, _type_at(declared, k)) for k, v in data.items() if v is not None}
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return [without_nulls(v, _type_at(declared, 0)) for v in data if v is not None]
    return data


def _type_at(declared: Any, step: Any) -> Any:
    """The type that a message, list or map declares for what it holds there; None if it declares none."""
    origin = get_origin(declared)
    if origin in (Union, UnionType):
        found = [_type_at(arg, step) for arg in get_args(declared) if arg is not type(None)]
        return next((of for of in found if of is not None), None)
    if origin is tuple:
        return get_args(declared)[0]
    if origin is dict:
        return get_args(declared)[1]
    if isinstance(declared, type) and issubclass(declared, Spec):
        note = fields_of(declared).get(step)
        return note.type if note is not None else None
    return None


def _steps(path: str) -> Path:
    return tuple(int(i) if i.isdigit() else (key or i) for key, i in _STEP.findall(path))


def _bad_key(into: type[Spec], data: Any, path: Path, text: str) -> str | None:
    """msgspec does not name the key of a map whose value is wrong: leave the keys out, one by one."""
    values = _at(data, path)
    for key in values if isinstance(values, Mapping) else ():
        try:
            convert(_remove(data, (*path, key)), into)
        except msgspec.ValidationError as error:
            if str(error) == text:
                continue
        return str(key)
    return None


def locate(error: msgspec.ValidationError, data: Any, into: type[Spec], confidential: bool = False) -> tuple[Path, str]:
    """The path of the wrong field and what is wrong with it; with its value unless that is confidential."""
    text = str(error)
    match = _AT.match(text)
    if match is None:
        return (), text
    path = _steps(match["path"])
    message = match["text"]
    if "..." in path:
        cut = path.index("...")
        key = _bad_key(into, data, path[:cut], text)
        path = path[:cut] if key is None else (*path[:cut], key, *path[cut + 1 :])
    missing = re.match(r"Object missing required field `(\w+)`", message)
    if missing:
        path, message = (*path, missing[1]), "required field is missing"
    value = _at(data, path)
    if confidential or value is _ABSENT or isinstance(value, Mapping | list):
        return path, message
    if repr(value) not in message:
        message = f"{message}, got {value!r}"
    return path, message


_ABSENT = object()


def _at(data: Any, path: Path) -> Any:
    for step in path:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return _ABSENT
    return data


def _unit_of(path: Path, units: tuple[str, ...]) -> Path | None:
    """The longest prefix of `path` that is an item of one of the `units`."""
    for length in range(len(path), 0, -1):
        if isinstance(path[length - 1], int):
            shape = "".join("[]" if isinstance(p, int) else f".{p}" for p in path[:length]).lstrip(".")
            if shape in units:
                return path[:length]
    return None


def _remove(data: Any, path: Path) -> Any:
    """A copy of `data` without what is at `path`; only the containers on the way are copied."""
    head, *rest = path
    if isinstance(head, int):
        items = list(data)
        if rest:
            items[head] = _remove(items[head], tuple(rest))
        else:
            del items[head]
        return items
    if not rest:
        return {k: v for k, v in data.items() if k != head}
    return {**data, head: _remove(data[head], tuple(rest))}


class _Removals:
    """Translates paths in pruned data back to paths in the original."""

    def __init__(self) -> None:
        self._paths: list[Path] = []

    def add(self, original: Path) -> None:
        self._paths.append(original)

    def emptied(self, path: Path) -> bool:
        """True if something below `path` was removed: an error there only says what is now missing."""
        return any(gone[: len(path)] == path for gone in self._paths)

    def original(self, path: Path) -> Path:
        out: list[str | int] = []
        for step in path:
            if isinstance(step, int):
                prefix = tuple(out)
                gone = sorted(p[-1] for p in self._paths if p[:-1] == prefix and isinstance(p[-1], int))
                for index in gone:
                    if index <= step:
                        step += 1
            out.append(step)
        return tuple(out)


def _held(kind: Kind, data: Any, errors: Sequence[tuple[Path, str]]) -> tuple[Any, list[tuple[Path, str]]]:
    """What the object is held as for these errors, and what there is to say of each for which it is."""
    said = []
    for path, message in errors:
        held = kind.hold(data, path) if kind.hold is not None else None
        if held is not None:
            data = held.data
            said.append((path, f"{message}; {held.meaning}"))
    return data, said


def parse_object(kind: Kind, data: Mapping[str, Any]) -> Parsed:
    """Read one object of `kind` from plain data in the API's JSON form."""
    findings = list(_set_fields(kind, data))
    removals = _Removals()
    pruned: Any = data
    nulls_gone = False
    while True:
        try:
            obj: Object = msgspec.convert(pruned, kind.type, strict=False, dec_hook=_decode_hook)
        except msgspec.ValidationError as error:
            if not nulls_gone:
                pruned, nulls_gone = without_nulls(pruned, kind.type), True
                continue
            path, message = locate(error, pruned, kind.type, kind.confidential)
            errors = [(path, message)]
        else:
            found = [f for f in kind.validate(obj) if f.severity == "error"]
            if found and all(kind.without is not None and kind.without(pruned, _steps(f.field)) == () for f in found):
                return Parsed(obj, (*findings, *found))
            findings.extend(f for f in kind.validate(obj) if f.severity != "error" and not found)
            if not found:
                is_whole = not any(f.severity == "error" for f in findings)
                return Parsed(obj, (*findings, *(_warnings(kind, obj) if is_whole else ())))
            errors = [(_steps(f.field), f.message) for f in found]
        if not nulls_gone:  # indexes below must count what the converter counts
            pruned, nulls_gone = without_nulls(pruned, kind.type), True
            continue
        held, meanings = _held(kind, pruned, errors)
        if meanings:
            findings.extend(Finding(field_path(removals.original(p)), text) for p, text in meanings)
            if held == pruned:
                return Parsed(None, tuple(findings))
            pruned = held
            continue
        units: dict[Path, Path] = {}
        for path, message in errors:
            if kind.without is not None and kind.without(pruned, path) == ():
                continue  # told at the end
            original = removals.original(path)
            unit = _unit_of(path, kind.units)
            part = kind.without(pruned, path) if kind.without is not None and unit is not None else None
            if (unit is not None and part is None) or not removals.emptied(original):
                findings.append(Finding(field_path(original), message))
            if unit is None:
                return Parsed(None, tuple(findings))
            gone = part or unit
            if not any(gone[: len(other)] == other for other in units):
                units = {other: of for other, of in units.items() if other[: len(gone)] != gone}
                units[gone] = removals.original(gone)
        for unit in sorted(units, key=lambda u: [str(s).zfill(9) for s in u], reverse=True):
            pruned = _remove(pruned, unit)
        for original in units.values():
            removals.add(original)


@cache
def _json_decoder(into: type[Object]) -> msgspec.json.Decoder[Object]:
    return msgspec.json.Decoder(into, strict=False, dec_hook=_decode_hook)


def decode_object(kind: Kind, text: bytes | msgspec.Raw) -> Parsed:
    """Like `parse_object`, from JSON; where nothing is wrong no plain data is made, which is what makes it fast.

    Raises:
        msgspec.DecodeError: the text is not JSON.
    """
    try:
        obj = _json_decoder(kind.type).decode(text)
        findings = tuple(kind.validate(obj))
    except msgspec.ValidationError:
        return parse_object(kind, msgspec.json.decode(text))
    if any(f.severity == "error" for f in findings):
        return parse_object(kind, msgspec.json.decode(text))
    if "*" in kind.open_fields:
        return Parsed(obj, findings)
    return Parsed(obj, (*_set_fields(kind, msgspec.json.decode(text)), *findings, *_warnings(kind, obj)))


def _warnings(kind: Kind, obj: Object) -> Iterator[Finding]:
    """Of an object without errors."""
    yield from kind.advise(obj)
    yield from kind.refusals(obj)


def _set_fields(kind: Kind, data: Mapping[str, Any]) -> tuple[Finding, ...]:
    """What there is to say about the fields that are set; Kubernetes kinds are open."""
    if "*" in kind.open_fields:
        return ()
    body = {k: v for k, v in data.items() if k not in _NOT_OURS}
    return tuple(field_findings(kind.type, body))
