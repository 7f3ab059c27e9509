"""From the text of one YAML or JSON document to objects, with every defect at the line of its field.

Pure. Lines are counted from the start of the document, so that a document that only moved is not read again. Positions
are looked up only for documents that have defects.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pypilot.kinds import KINDS, kind_of
from pypilot.kinds.base import Finding, Kind, Object, Ref, Severity
from pypilot.kinds.parse import Parsed, parse_object
from pypilot.kinds.yaml_data import Position, YamlError, block_of, line_of, load_document, load_positions

DEFAULT_NAMESPACE = "default"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
_HALF = re.compile(r"\\\\|\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w|(?P<half>\\u[dD][89a-fA-F])")
_LISTS = {f"{kind.name}List": kind for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Defect:
    """Something wrong in a document; `line` counts from 0 at its first line."""

    line: int
    message: str
    severity: Severity = "error"
    code: str = "invalid"
    ref: Ref | None = None
    field: str = ""


class Unknown(NamedTuple):
    """An object of a kind that pypilot does not read."""

    api_version: str
    kind: str
    line: int


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One object that a document defines."""

    ref: Ref
    object: Object | None
    """What of it can be used."""
    is_clean: bool
    """Nothing had to be rejected."""
    line: int
    path: str
    """Where it is in its document: empty, or `items[3]` of a list."""
    defects: tuple[Defect, ...] = ()


@dataclass(slots=True)
class Document:
    """What one document says."""

    items: list[Item] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    """Defects of what has no identity: these hide which object was meant."""
    unknown: list[Unknown] = field(default_factory=list)

    @property
    def has_identity(self) -> bool:
        """False if some object in it cannot be told: what the file gave before must then stay."""
        return not any(d.severity == "error" for d in self.defects)


class _Lines:
    """Line numbers of fields, looked up at the first question."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._root: Position | None = None
        self._known = False

    def of(self, path: str) -> int:
        if not self._known:
            self._root, self._known = load_positions(self._text), True
        return line_of(self._root, path)


def field_line(text: str, path: str, is_json: bool = False) -> int:
    """The line (from 0) of a field in a document; `data.mesh: a.b` goes on in the text of a block scalar (MESH-001)."""
    root = load_positions(_for_yaml(text) if is_json else text)
    outer, _, inner = path.partition(": ")
    if inner and root is not None and (block := block_of(root, outer)) is not None:
        return block[0] + field_line(block[1], inner)
    return line_of(root, outer)


def _for_yaml(text: str) -> str:
    """JSON text as YAML reads it: YAML wants no tabs between tokens, and JSON has none within strings."""
    return text.replace("\t", " ")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        keys = [k for k, _ in pairs]
        raise ValueError(f"key {next(k for k in keys if keys.count(k) > 1)!r} is given twice")
    return out


def _load_json(text: str) -> Any:
    half = next((found for found in _HALF.finditer(text) if found["half"]), None)
    if half is not None:  # Python takes it, but it cannot be encoded: nothing could be compiled with it
        raise YamlError("an escape is half of a character", text.count("\n", 0, half.start()))
    try:
        return json.loads(text, object_pairs_hook=_refuse_duplicates)
    except json.JSONDecodeError as error:
        raise YamlError(error.msg, error.lineno - 1, error.colno) from None
    except RecursionError:
        raise YamlError("nested too deep", 0) from None
    except ValueError as error:
        raise YamlError(str(error), 0) from None


def read_document(text: str, is_json: bool = False) -> Document:
    """Read one document; never raises."""
    out = Document()
    try:
        if is_json:
            data, line = _load_json(text), 0
            text = _for_yaml(text)
        else:
            data, line = load_document(text)
    except YamlError as error:
        at = f" at column {error.column}" if error.column else ""
        name = "JSON" if is_json else "YAML"
        out.defects.append(Defect(error.line, f"not valid {name}{at}: {error}", code="syntax"))
        return out
    if data is not None:
        _read_value(out, data, line, "", _Lines(text), None)
    return out


class _IdentityError(ValueError):
    """An object whose identity cannot be told."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


def _text(data: Mapping[str, Any], name: str) -> str:
    """A field that must be a string with something in it."""
    value = data.get(name.rpartition(".")[2])
    if value is None or value == "":
        raise _IdentityError(f"{name} is missing", name)
    if not isinstance(value, str):
        raise _IdentityError(f"{name} must be a string", name)
    return value


def _named(metadata: Any) -> Mapping[str, Any]:
    """Check what makes an object's name unique."""
    if not isinstance(metadata, Mapping):
        raise _IdentityError("metadata is missing" if metadata is None else "metadata must be a mapping", "metadata")
    names = ["metadata.name", *(["metadata.namespace"] if metadata.get("namespace") not in (None, "") else [])]
    for name in names:
        if not _NAME.match(value := _text(metadata, name)):
            raise _IdentityError(f"{value!r} is not a valid name: want lower-case letters, digits, - and .", name)
    return metadata


def _read_value(out: Document, data: Any, line: int, path: str, lines: _Lines, default: Kind | None) -> None:
    """One object, or a list of them, at `path` of the document."""
    at = lines.of(path) if path else line
    try:
        if not isinstance(data, Mapping):
            raise _IdentityError("not a Kubernetes object: want a mapping with apiVersion, kind and metadata")
        if default is not None and "kind" not in data and "apiVersion" not in data:
            data = {**data, "apiVersion": f"{default.group}/{default.versions[0]}".lstrip("/"), "kind": default.name}
        api_version, kind_name = _text(data, "apiVersion"), _text(data, "kind")
        if "items" in data and (kind_name == "List" or kind_name in _LISTS):
            items = data["items"] if data["items"] is not None else []
            if not isinstance(items, list):
                raise _IdentityError("want a list of objects", "items")
            for i, item in enumerate(items):
                _read_value(out, item, line, join(path, f"items[{i}]"), lines, _LISTS.get(kind_name))
            return
        kind = kind_of(api_version, kind_name)
        if kind is None:
            out.unknown.append(Unknown(api_version, kind_name, at))
            return
        out.items.append(_read_object(kind, data, _named(data.get("metadata")), at, path, lines))
    except _IdentityError as wrong:
        name = join(path, wrong.name)
        out.defects.append(Defect(lines.of(name) if wrong.name else at, str(wrong), field=name))


def _read_object(
    kind: Kind, data: Mapping[str, Any], metadata: Mapping[str, Any], line: int, path: str, lines: _Lines
) -> Item:
    namespace = (metadata.get("namespace") or DEFAULT_NAMESPACE) if kind.namespaced else ""
    if metadata.get("namespace") != namespace:
        data = {**data, "metadata": {**metadata, "namespace": namespace}}
    ref = Ref(kind.name, namespace, metadata["name"])
    try:
        parsed = parse_object(kind, data)
    except Exception as error:  # one object must never take its neighbours along
        parsed = Parsed(None, (Finding("", f"cannot be read: {type(error).__name__}"),))
    defects = tuple(
        Defect(lines.of(join(path, f.field)), f.message, f.severity, f.code, ref, f.field)
        for f in (*_version_findings(kind, data), *parsed.findings)
    )
    return Item(ref, parsed.object, parsed.clean, line, path, defects)


def _version_findings(kind: Kind, data: Mapping[str, Any]) -> Iterator[Finding]:
    version = str(data.get("apiVersion", kind.versions[0])).rpartition("/")[2]
    if version not in kind.versions:
        message = f"unknown version {version!r}, read as {kind.versions[0]}"
        yield Finding("apiVersion", message, "warning", "unknown-version")


def join(path: str, name: str) -> str:
    """Two field paths, one within the other; either may be empty."""
    return f"{path}.{name}" if path and name else path or name
