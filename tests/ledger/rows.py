"""The rows of the ledger: every field of every kind, with what consumes it or why nothing does."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import msgspec

from pypilot.kinds import KINDS
from pypilot.kinds.base import Kind, Spec
from pypilot.kinds.field_findings import FieldNote, fields_of, message_in
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.kinds.mesh_networks import MeshNetworks
from tests.ledger.consumption import BY_NAME, consumption, names_in
from tests.ledger.official import Tree, official

BOTH_FORMS = frozenset({"LabelSelector.labels", "LabelSelector.matchLabels"})
"""One message stands for the API's two forms of a selector, so that it has a field more wherever it is used."""
MESH = {"MeshConfig": MeshConfig, "MeshNetworks": MeshNetworks}


class Row(NamedTuple):
    """One field."""

    path: str
    consumers: tuple[str, ...] = ()
    reason: str = ""
    """Why it has no effect."""
    instead: str = ""
    """What it is deprecated for."""
    same_as: str = ""
    """The path of an equal message that is listed there."""
    below: int = 0
    """How many fields are below one that has no effect."""
    defect: str = ""
    """Why the ledger cannot be right."""


@dataclass(frozen=True)
class Section:
    """One kind."""

    name: str
    rows: tuple[Row, ...]
    is_istio: bool

    @property
    def fields(self) -> int:
        """How many fields of the API these rows are about."""
        return sum(1 + row.below for row in self.rows if not row.same_as)

    @property
    def unsupported(self) -> int:
        return sum(1 + row.below for row in self.rows if row.reason)


class _Texts(NamedTuple):
    """How a message is consumed that is read as plain data: the texts of the files that do it."""

    names: frozenset[str]
    files: tuple[str, ...]


def _naming(texts: _Texts, name: str) -> tuple[str, ...]:
    return tuple(file for file in texts.files if name in names_in(file))


class _Walk:
    """The rows of one kind."""

    def __init__(self, has_official: bool, is_open: bool) -> None:
        self._has_official = has_official
        self._is_open = is_open
        self._listed: dict[tuple[type[Spec], _Texts | None, str], str] = {}
        self._read, _ = consumption()

    def rows(self, cls: type[Spec], known: Tree, path: str = "", texts: _Texts | None = None) -> Iterator[Row]:
        """`known`: the official fields of the message."""
        files = BY_NAME.get(f"{cls.__module__}.{cls.__name__}")
        if files is not None:
            texts = _Texts(frozenset().union(*map(names_in, files)), files)
        attributes = {f.encode_name: f.name for f in msgspec.structs.fields(cls)}
        left = dict(known)
        for name, note in fields_of(cls).items():
            here = f"{path}.{name}".lstrip(".")
            if here in ("metadata", "apiVersion"):
                continue
            key = next((k for k in left if k.rstrip("[]{}") == name), None)
            below = left.pop(key) if key is not None else None
            if below is None and self._has_official and not self._may_be_foreign(cls, name, note, here):
                yield Row(here, defect="is not in the API; mark it NOT_IN_API if it must be there")
            elif note.unsupported:
                row = self._row(cls, attributes[name], name, note, here, texts)
                yield row._replace(below=_size(below or {}))
            else:
                yield self._row(cls, attributes[name], name, note, here, texts)
                if note.in_api:
                    yield from self._below(note, here, below or {}, texts)
        for name in left:
            yield Row(f"{path}.{name}".lstrip("."), defect="is in the API, but the kind does not declare it")

    def _may_be_foreign(self, cls: type[Spec], name: str, note: FieldNote, path: str) -> bool:
        """The lists of official fields are without status, which has no schema."""
        return not note.in_api or f"{cls.__name__}.{name}" in BOTH_FORMS or path.startswith("status")

    def _row(self, cls: type[Spec], attribute: str, name: str, note: FieldNote, path: str, texts: _Texts | None) -> Row:
        found = (self._read.get(f"{base.__module__}.{base.__name__}.{attribute}") for base in cls.__mro__)
        consumers = tuple(sorted(next(filter(None, found), ())))
        if not consumers and texts is not None and name in texts.names:
            consumers = _naming(texts, name)
        if consumers and note.unsupported:
            return Row(path, defect=f"is marked unsupported, but read by {', '.join(consumers)}")
        if consumers or note.unsupported:
            return Row(path, consumers, note.unsupported, note.deprecated)
        if self._is_open or path.startswith("status."):
            return Row(path, reason="kept, but nothing depends on it")
        return Row(path, defect="is read by nothing: consume it, or mark it with unsupported(reason)")

    def _below(self, note: FieldNote, path: str, known: Tree, texts: _Texts | None) -> Iterator[Row]:
        suffix, message = message_in(note.type)
        if message is None:
            yield from self._plain(path, known, texts)
            return
        key = (message, texts, repr(known))
        before = self._listed.setdefault(key, path + suffix)
        if before != path + suffix and len(fields_of(message)) > 2:
            yield Row(f"{path}{suffix}.*", same_as=before)
        else:
            yield from self.rows(message, known, path + suffix, texts)

    def _plain(self, path: str, known: Tree, texts: _Texts | None) -> Iterator[Row]:
        """Official fields below one that the kind keeps as plain data."""
        for key, deeper in known.items():
            here = f"{path}.{key}"
            if texts is not None and key.rstrip("[]{}") in texts.names:
                yield Row(here, _naming(texts, key.rstrip("[]{}")))
            else:
                yield Row(here, defect="is in the API, but the kind does not declare it")
            yield from self._plain(here, deeper, texts)


def _size(tree: Tree) -> int:
    return sum(1 + _size(below) for below in tree.values())


def section(name: str, cls: type[Spec], is_open: bool = False) -> Section:
    """The rows of one kind or configuration."""
    known = official(name)
    walk = _Walk(bool(known), is_open)
    return Section(name, tuple(walk.rows(cls, known)), bool(known))


def _is_istio(kind: Kind) -> bool:
    return kind.group.endswith("istio.io")


@cache
def sections() -> tuple[Section, ...]:
    """Istio's kinds, the mesh's configuration, then what is read of Kubernetes."""
    kinds = sorted(KINDS, key=lambda k: k.name)
    istio = [section(k.name, k.type) for k in kinds if _is_istio(k)]
    mesh = [section(name, cls) for name, cls in MESH.items()]
    others = [section(k.name, k.type, is_open=True) for k in kinds if not _is_istio(k)]
    return tuple(s for s in (*istio, *mesh, *others) if s.rows)


def defects() -> list[str]:
    """What is wrong with the ledger."""
    return [f"{s.name}: {row.path} {row.defect}" for s in sections() for row in s.rows if row.defect]
