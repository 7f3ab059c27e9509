"""What there is to say about the fields that somebody set: unknown ones, those without effect, and deprecated ones.

All three are warnings, and all derive from the types of a message (`base.unsupported`, `base.deprecated`). Pure; must
not say anything about values.
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

import msgspec

from pypilot.kinds.base import Finding, Spec

Path = tuple[str | int, ...]


class FieldNote(NamedTuple):
    """A field of a message."""

    type: Any
    """Without its annotations."""
    unsupported: str = ""
    """Why it has no effect; empty if it has one."""
    deprecated: str = ""
    """What to use instead; empty if it is not deprecated."""
    in_api: bool = True


@cache
def fields_of(cls: type[Spec]) -> Mapping[str, FieldNote]:
    """The fields of a message by the API's names."""
    return {f.encode_name: _note(f.type) for f in msgspec.structs.fields(cls)}


def _note(annotation: Any) -> FieldNote:
    extra: dict[str, Any] = {}
    while get_origin(annotation) is Annotated:
        annotation, *metas = get_args(annotation)
        for meta in metas:
            extra |= getattr(meta, "extra", None) or {}
    return FieldNote(annotation, extra.get("unsupported", ""), extra.get("deprecated", ""), extra.get("api", True))


def message_in(annotation: Any) -> tuple[str, type[Spec] | None]:
    """The message that a field holds, with `[]` if it holds a list and `{}` if a map of them; None if it holds none."""
    annotation = _note(annotation).type
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        for part in get_args(annotation):
            if (found := message_in(part))[1] is not None:
                return found
        return "", None
    if origin in (tuple, dict):
        suffix, inner = message_in(get_args(annotation)[1 if origin is dict else 0])
        return ("{}" if origin is dict else "[]") + suffix, inner
    return "", annotation if isinstance(annotation, type) and issubclass(annotation, Spec) else None


def field_findings(cls: type[Spec], data: Mapping[str, Any], path: Path = ()) -> Iterator[Finding]:
    """A warning for each field in plain data that has no effect or a successor."""
    known = fields_of(cls)
    for key, value in data.items():
        if value is None:  # counts as absent
            continue
        here = (*path, key)
        note = known.get(key)
        if note is None:
            message = f"unknown field, it has no effect{_meant(str(key), known)}"
            yield Finding(field_path(here), message, "warning", "unknown-field")
        elif note.unsupported:
            yield Finding(field_path(here), f"has no effect: {note.unsupported}", "warning", "unsupported-field")
        else:
            if note.deprecated:
                message = f"is deprecated, use {note.deprecated}"
                yield Finding(field_path(here), message, "warning", "deprecated-field")
            suffix, message_type = message_in(note.type)
            if message_type is not None:
                yield from _within(message_type, suffix, value, here)


def _within(cls: type[Spec], suffix: str, value: Any, path: Path) -> Iterator[Finding]:
    """`suffix` says what is around the messages, as `message_in` does."""
    if suffix.startswith("[]"):
        for i, item in enumerate(value if isinstance(value, Sequence) and not isinstance(value, str) else ()):
            yield from _within(cls, suffix[2:], item, (*path, i))
    elif suffix:
        for key, item in value.items() if isinstance(value, Mapping) else ():
            yield from _within(cls, suffix[2:], item, (*path, key))
    elif isinstance(value, Mapping):
        yield from field_findings(cls, value, path)


def _meant(key: str, known: Mapping[str, FieldNote]) -> str:
    names = [name for name, note in known.items() if note.in_api and not note.unsupported]
    close = get_close_matches(key, names, 1, 0.75) or [n for n in names if n.lower() == key.lower()]
    return f"; did you mean {close[0]}?" if close else ""


def field_path(path: Path) -> str:
    """`("spec", "http", 0)` -> `spec.http[0]`."""
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")
