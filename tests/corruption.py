"""One field of one object made wrong: positions that a kind's own types know, and values that do not fit there."""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
import yaml

from pypilot.kinds import KINDS, kind_of
from pypilot.kinds.base import Kind, Spec
from pypilot.kinds.parse import convert
from tests import golden

Path = tuple[str | int, ...]
Document = dict[str, Any]

DEEP: Any = [[[[[[{"a": [{"b": {}}]}]]]]]]
VALUES: tuple[Any, ...] = (
    *("", "x", "*", "*.", ".", "/", "-", "(", "[a-", "(?=a)", "a b", "a\nb", "\x00", "é", "%REQ(", "%", "{}", "~"),
    *("NO_SUCH_VALUE", "true", "1", "-1", "1.5", "soon", "1s", "0s", "-1s", "1ns", "9999999h", "1e400"),
    *("10.0.0.1", "10.0.0.0/33", "::1", "fe80::1%eth0", "0.0.0.0/0", "a.b.c.d.example.com", "x" * 300, "x" * 70000),
    *(0, 1, -1, 80, 15001, 65535, 65536, 2**31, 2**32 - 1, 2**32, 2**63, 10**30),
    *(0.5, -0.5, 100.5, 1e30, True, False),
    *([], {}, [{}], [[]], ["", ""], ["*"], [1, "x"], {"": ""}, {"a": 1}, {"a": {"b": "c"}}, [{"name": "x"}] * 2, DEEP),
)
"""Wrong at most places; what is right at one of them must do no harm either."""
ABSENT = object()
"""In place of a value: the field is taken away."""


@dataclass(frozen=True)
class Position:
    """A place in a document and the type that its kind declares there."""

    path: Path
    type: Any

    def refuses(self, value: Any) -> bool:
        """Whether the declared type cannot hold the value, whatever the rest of the object is."""
        try:
            convert(value, self.type)
        except msgspec.ValidationError:
            return True
        return False


def _bare(declared: Any) -> Any:
    """The type without its annotation and without None."""
    while True:
        origin = get_origin(declared)
        if origin is Annotated:
            declared = get_args(declared)[0]
        elif origin in (Union, UnionType):
            inner = [arg for arg in get_args(declared) if arg is not type(None)]
            if len(inner) != 1:
                return declared
            declared = inner[0]
        else:
            return declared


def positions(declared: Any, data: Any, path: Path = ()) -> Iterator[Position]:
    """Every place that the type knows: below `data`, and in messages that the data leaves out."""
    bare = _bare(declared)
    origin = get_origin(bare)
    inner: list[tuple[str | int, Any]] = []
    if isinstance(bare, type) and issubclass(bare, Spec):
        inner = [(f.encode_name, f.type) for f in msgspec.structs.fields(bare)]
        data = data if isinstance(data, Mapping) else {}
    elif origin is tuple and isinstance(data, list):
        inner = [(i, get_args(bare)[0]) for i in range(len(data))]
    elif origin in (dict, Mapping) and isinstance(data, Mapping):
        inner = [(key, get_args(bare)[1]) for key in data]
    for step, of in inner:
        here = (*path, step)
        yield Position(here, of)
        yield from positions(of, data.get(step) if isinstance(data, Mapping) else data[step], here)


def places(kind: Kind, document: Document) -> list[Position]:
    """Where the document can be made wrong, all but what says which object it is."""
    identity = {("apiVersion",), ("metadata",), ("metadata", "name"), ("metadata", "namespace")}
    return [p for p in positions(kind.type, document) if p.path not in identity]


def corrupted(document: Document, path: Path, value: Any) -> Document:
    """A copy of the document with the value at the path."""
    out = copy.deepcopy(document)
    at: Any = out
    for step in path[:-1]:
        at = at.setdefault(step, {}) if isinstance(at, dict) else at[step]
    if value is not ABSENT:
        at[path[-1]] = copy.deepcopy(value)
    elif isinstance(at, list):
        del at[path[-1]]
    else:
        at.pop(path[-1], None)
    return out


def kind_for(document: Document) -> Kind | None:
    """The kind of a document that pypilot reads."""
    if not isinstance(document, dict) or "kind" not in document or "metadata" not in document:
        return None
    return kind_of(str(document.get("apiVersion", "")), str(document["kind"]))


def json_documents(text: str) -> list[Document]:
    """The documents of pypilot's kinds in a YAML text, as JSON has them."""
    loaded = yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return [json.loads(json.dumps(d, default=str)) for d in loaded if kind_for(d) is not None]


def golden_documents() -> dict[str, list[Document]]:
    """Kind -> the documents of all golden pairs, and one with nothing in it."""
    found: dict[str, list[Document]] = {}
    for kind in KINDS:
        version = f"{kind.group}/{kind.versions[0]}" if kind.group else kind.versions[0]
        meta = {"name": "empty", **({"namespace": "default"} if kind.namespaced else {})}
        found[kind.name] = [{"apiVersion": version, "kind": kind.name, "metadata": meta, "spec": {}}]
    for case in golden.cases():
        for document in json_documents((golden.ROOT / case / "in.yaml").read_text()):
            kind = kind_for(document)
            if kind is not None:
                if kind.namespaced:
                    document["metadata"].setdefault("namespace", "default")
                found[kind.name].append(document)
    return found
