"""YAML text to plain data, and the line of every field, by libyaml's events.

Scalars resolve as Kubernetes' tools resolve them (YAML 1.1 without dates and base-60 numbers), so a timestamp stays
text. Duplicate keys, deep nesting and exploding aliases are errors. Pure: no I/O, knows no kind; never quotes a value.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_DEPTH = 100
_MAX_ALIASED_VALUES = 100_000
_MAX_DIGITS = 400
"""No field takes a longer number, and Python neither reads nor prints any number of digits."""
_TAG = "tag:yaml.org,2002:"

_TAGGED: Mapping[str, tuple[type, ...]] = {
    _TAG + "int": (int,),
    _TAG + "float": (int, float),
    _TAG + "bool": (bool,),
    _TAG + "null": (type(None),),
}

_DOCUMENT_MARK = re.compile(r"^(?:---|\.\.\.)(?=[ \t\r\n]|\Z)", re.MULTILINE)
_DIRECTIVES_ONLY = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?\n|%[^\n]*\n)*\Z")
_INTEGER = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|0|[1-9][0-9_]*)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_WORDS: Mapping[str, bool | None] = {
    **{w: True for word in ("true", "yes", "on") for w in (word, word.title(), word.upper())},
    **{w: False for word in ("false", "no", "off") for w in (word, word.title(), word.upper())},
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
}


class YamlError(ValueError):
    """Text that is not acceptable YAML; `line` counts from 0, `column` from 1."""

    def __init__(self, message: str, line: int, column: int = 0) -> None:
        """The message must not quote a value: it may be secret."""
        super().__init__(message)
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class Position:
    """Where a value is: its line (from 0) and the positions of its parts."""

    line: int
    fields: Mapping[str, "Position"] | None = None
    items: Sequence["Position"] | None = None
    block: tuple[int, str] | None = field(default=None, repr=False)
    """Of a literal block scalar: the line where its text begins, and the text."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The text of one document in a stream, and the line (from 0) at which it starts."""

    line: int
    text: str


def split_documents(text: str) -> Iterator[Chunk]:
    """Cut a stream at its document markers, which YAML allows nowhere else at the start of a line."""
    start, line = 0, 0
    for mark in [*_DOCUMENT_MARK.finditer(text), None]:
        begins = mark is not None and mark[0] == "---"
        end = len(text) if mark is None else mark.start() if begins else mark.end()
        chunk = text[start:end]
        if begins and "%" in chunk and _DIRECTIVES_ONLY.match(chunk):
            continue
        if chunk.strip():
            yield Chunk(line, chunk)
        line += chunk.count("\n")
        start = end


def _line(event: yaml.Event) -> int:
    return event.start_mark.line if event.start_mark else 0


def _resolve(text: str) -> Any:
    """The value of a plain scalar."""
    first = text[:1]
    if first in "0123456789+-.":
        if _INTEGER.match(text):
            digits = text.replace("_", "")
            sign, body = (-1, digits[1:]) if digits[:1] == "-" else (1, digits.lstrip("+"))
            base = 0 if body[:2] in ("0x", "0b", "0o") else 8 if len(body) > 1 and body[0] == "0" else 10
            try:
                return sign * int(body, base) if len(body) <= _MAX_DIGITS else text
            except ValueError:  # `0x_`: no digits at all
                return text
        if _FLOAT.match(text) and abs(number := float(text)) != float("inf"):
            return int(number) if number.is_integer() and text.strip("+-").isdigit() else number
    return _WORDS.get(text, text)


class _Reader:
    """Walks the events of one document. Subclasses decide what a node becomes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._loader = _LOADER(text)
        self._next: Callable[[], yaml.Event] = self._loader.get_event
        self.line = 0
        """Where the root begins."""
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._built = 0
        self._aliased = 0

    def document(self) -> Any:
        """The root node, or None for a stream without a document."""
        try:
            self._next()
            if isinstance(self._next(), yaml.StreamEndEvent):
                return None
            event = self._next()
            self.line = _line(event)
            root = self._node(event, 0)
            self._next()
            if not isinstance(event := self._next(), yaml.StreamEndEvent):
                raise YamlError("a second document begins without `---`", _line(event))
            return root
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            message = ", ".join(part for part in (error.context, error.problem) if part) or "invalid"
            raise YamlError(message, mark.line if mark else 0, mark.column + 1 if mark else 0) from None
        except yaml.reader.ReaderError as error:
            line = self._text.encode(errors="replace")[: error.position].count(b"\n")
            raise YamlError(str(error.reason), line) from None
        except yaml.YAMLError:
            raise YamlError("invalid", 0) from None
        finally:
            self._loader.dispose()

    def _node(self, event: yaml.Event, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._error(event, f"alias *{event.anchor} has no anchor before it")
            node, size = self._anchors[event.anchor]
            self._aliased += size
            if self._aliased > _MAX_ALIASED_VALUES:
                raise self._error(event, f"aliases expand to more than {_MAX_ALIASED_VALUES} values")
            return node
        if depth > _MAX_DEPTH:
            raise self._error(event, f"nested more than {_MAX_DEPTH} deep")
        before = self._built + self._aliased
        self._built += 1
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent):
            node = self._mapping(event, depth)
        else:
            node = self._sequence(event, depth)
        anchor = getattr(event, "anchor", None)
        if anchor:
            self._anchors[anchor] = (node, self._built + self._aliased - before)
        return node

    def _key(self, event: yaml.Event) -> str:
        if isinstance(event, yaml.AliasEvent):
            node = self._node(event, 1)
            if isinstance(node, str):
                return node
        if not isinstance(event, yaml.ScalarEvent):
            raise self._error(event, "a mapping key must be a string")
        if event.anchor:
            self._anchors[event.anchor] = (event.value, 1)
        return str(event.value)

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        raise NotImplementedError

    def _mapping(self, start: yaml.Event, depth: int) -> Any:
        raise NotImplementedError

    def _sequence(self, start: yaml.Event, depth: int) -> Any:
        raise NotImplementedError

    @staticmethod
    def _error(event: yaml.Event, message: str) -> YamlError:
        return YamlError(message, _line(event), event.start_mark.column + 1 if event.start_mark else 0)


class _Data(_Reader):
    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        tag = event.tag
        if tag is None:
            return _resolve(event.value) if event.implicit[0] else event.value
        if tag in ("!", _TAG + "str"):
            return event.value
        value = _resolve(event.value)
        wanted = _TAGGED.get(tag)
        if wanted is None:
            raise self._error(event, f"tag {tag.removeprefix(_TAG)} is not supported")
        if not isinstance(value, wanted):
            raise self._error(event, f"not a value of tag {tag.removeprefix(_TAG)}")
        return value

    def _mapping(self, _: yaml.Event, depth: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        merged: list[Any] = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(event)
            value = self._node(self._next(), depth + 1)
            if key == "<<" and isinstance(event, yaml.ScalarEvent) and event.implicit[0]:
                merged.extend(value if isinstance(value, list) else [value])
                if not all(isinstance(m, dict) for m in merged):
                    raise self._error(event, "`<<` merges mappings only")
            elif key in out:
                raise self._error(event, f"key {key!r} is given twice")
            else:
                out[key] = value
        for mapping in merged:
            for key, value in mapping.items():
                out.setdefault(key, value)
        return out

    def _sequence(self, _: yaml.Event, depth: int) -> list[Any]:
        out = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            out.append(self._node(event, depth + 1))
        return out


class _Positions(_Reader):
    def _key(self, event: yaml.Event) -> str:
        if isinstance(event, yaml.AliasEvent):
            return ""
        return super()._key(event)

    def _scalar(self, event: yaml.ScalarEvent) -> Position:
        line = _line(event)
        return Position(line, block=(line + 1, event.value) if event.style == "|" else None)

    def _mapping(self, start: yaml.Event, depth: int) -> Position:
        fields: dict[str, Position] = {}
        merged: list[Position] = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key, line = self._key(event), _line(event)
            value = self._node(self._next(), depth + 1)
            if key == "<<" and isinstance(value, Position):
                merged.extend(value.items or (value,))
            elif isinstance(value, Position):
                fields.setdefault(key, Position(line, value.fields, value.items, value.block))
        for mapping in merged:
            for key, value in (mapping.fields or {}).items():
                fields.setdefault(key, value)
        return Position(_line(start), fields=fields)

    def _sequence(self, start: yaml.Event, depth: int) -> Position:
        items = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return Position(_line(start), items=items)


def load_document(text: str) -> tuple[Any, int]:
    """The data of the only document in `text`, and the line (from 0) where it begins. No document is None.

    Raises:
        YamlError: not acceptable; nothing of the document can be used.
    """
    reader = _Data(text)
    return reader.document(), reader.line


def load_positions(text: str) -> Position | None:
    """The positions of a document that `load_document` accepts."""
    try:
        root = _Positions(text).document()
    except YamlError:
        return None
    return root if isinstance(root, Position) else None


def line_of(root: Position | None, path: str) -> int:
    """The line (from 0) of the field at `spec.http[0].timeout`, or of the nearest part around it that exists."""
    return _find(root, path)[0].line if root is not None else 0


def _find(position: Position, path: str) -> tuple[Position, str]:
    """Follow `path` as far as it exists; keys may hold dots, so the longest key that fits is taken."""
    while path:
        if path[0] == "[":
            index, _, rest = path[1:].partition("]")
            if not index.isdigit() or not position.items or int(index) >= len(position.items):
                break
            position, path = position.items[int(index)], rest.removeprefix(".")
            continue
        keys = [k for k in position.fields or () if path == k or path.startswith((k + ".", k + "[", k + ":"))]
        if not keys:
            break
        key = max(keys, key=len)
        assert position.fields is not None
        position, path = position.fields[key], path[len(key) :].removeprefix(".")
    return position, path


def block_of(root: Position, path: str) -> tuple[int, str] | None:
    """The line (from 0) where the text of the block scalar at `path` begins, and the text; None if it is not one."""
    found, rest = _find(root, path)
    return None if rest else found.block
