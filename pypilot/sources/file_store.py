"""What a set of files defines, kept from one reading to the next: last good objects, duplicates, and who wins.

Pure bookkeeping: contents come in (`put`), an `Update` goes out (`refresh`). Objects that did not change stay the same
Python objects. The outcome does not depend on the order in which files are put.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import NamedTuple

from pypilot.kinds.base import Object, Origin, Ref
from pypilot.kinds.yaml_data import Chunk, split_documents
from pypilot.sources.update import Update
from pypilot.sources.yaml_documents import Defect, Document, Item, Unknown, field_line, join, read_document
from pypilot.world.delta import Delta, Problem


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Content that could not be had; what the file gave before stays."""

    reason: str


class Place(NamedTuple):
    """Where a definition stands; the order decides which of two wins."""

    path: str
    document: int
    item: int


class _Definition(NamedTuple):
    place: Place
    line: int
    """Counted from 1, in the file."""
    item: Item


@dataclass(frozen=True, slots=True)
class _Placed:
    """A document and where it is."""

    line: int
    """Counted from 0, in the file."""
    digest: bytes
    document: Document


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One version of a file, read but not yet believed."""

    path: str
    digest: bytes = b""
    documents: tuple[_Placed, ...] = ()
    definitions: Mapping[Ref, tuple[_Definition, ...]] = field(default_factory=dict)
    reason: str = ""
    """Why the file could not be read; empty if it could."""
    exists: bool = True
    is_whole: bool = True
    """False if some document in it could not be told; then what the file gave before stays."""
    takes_away: bool = False
    """Something that the version before gave is missing or unreadable: worth a second look if just written."""

    @property
    def keeps(self) -> bool:
        """True if something in force is of an earlier version of the file."""
        return not self.is_whole and any(
            d.place.document >= len(self.documents) or d.item not in self.documents[d.place.document].document.items
            for ds in self.definitions.values()
            for d in ds
        )

    @property
    def defects(self) -> Iterator[tuple[int, int, Defect]]:
        """All defects with the lines (from 0) of their document and of their object."""
        for placed in self.documents:
            for defect in placed.document.defects:
                yield placed.line, placed.line + defect.line, defect
            for item in placed.document.items:
                for defect in item.defects:
                    yield placed.line, placed.line + item.line, defect

    @property
    def unknown(self) -> Iterator[tuple[int, Unknown]]:
        """All objects of unknown kinds with the line (from 1)."""
        for placed in self.documents:
            for unknown in placed.document.unknown:
                yield placed.line + unknown.line + 1, unknown


def _digest(text: str) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


class FileStore:
    """The files of one source."""

    def __init__(self) -> None:
        self._files: dict[str, Reading] = {}
        self._definitions: dict[Ref, dict[str, tuple[_Definition, ...]]] = {}
        self._delivered: dict[Ref, Object] = {}
        self._good: dict[Ref, Object] = {}
        self._origins: dict[Ref, Origin] = {}
        self._touched: set[Ref] = set()

    # -- input --------------------------------------------------------------------------------------------------------

    def read(self, path: str, content: str | Unreadable | None) -> Reading:
        """Read a version of a file without believing it yet; None for a file that is gone."""
        old = self._files.get(path)
        if isinstance(content, Unreadable):
            known = old or Reading(path)
            return Reading(path, b"", known.documents, known.definitions, content.reason, takes_away=old is not None)
        if content is None:
            return Reading(path, exists=False, takes_away=old is not None)
        digest = _digest(content)
        if old is not None and old.digest == digest:
            return old
        content = content.removeprefix("\ufeff")
        is_json = path.endswith(".json")
        chunks = [Chunk(0, content)] if is_json else list(split_documents(content))
        cache = {p.digest: p.document for p in old.documents} if old is not None else {}
        placed = []
        for chunk in chunks:
            key = _digest(chunk.text)
            placed.append(_Placed(chunk.line, key, cache.get(key) or read_document(chunk.text, is_json)))
        found: dict[Ref, list[_Definition]] = {}
        for i, part in enumerate(placed):
            for j, item in enumerate(part.document.items):
                definition = _Definition(Place(path, i, j), part.line + item.line + 1, item)
                found.setdefault(item.ref, []).append(definition)
        definitions = {ref: tuple(items) for ref, items in found.items()}
        missing = {} if old is None else {r: d for r, d in old.definitions.items() if r not in definitions}
        is_whole = all(p.document.has_identity for p in placed)
        if not is_whole:
            definitions.update(missing)
        takes_away = bool(missing) or (old is not None and not is_whole)
        return Reading(path, digest, tuple(placed), definitions, is_whole=is_whole, takes_away=takes_away)

    def put(self, reading: Reading) -> None:
        """Believe it."""
        old = self._files.get(reading.path)
        if old is reading:
            return
        before = old.definitions if old is not None else {}
        for ref in before.keys() | reading.definitions.keys():
            after = reading.definitions.get(ref)
            if before.get(ref) == after:
                continue
            self._touched.add(ref)
            by_path = self._definitions.setdefault(ref, {})
            if after is None:
                del by_path[reading.path]
            else:
                by_path[reading.path] = after
        if reading.exists:
            self._files[reading.path] = reading
        else:
            self._files.pop(reading.path, None)

    # -- output -------------------------------------------------------------------------------------------------------

    @property
    def paths(self) -> frozenset[str]:
        return frozenset(self._files)

    def refresh(self) -> Update:
        """What changed since the last call, and all problems."""
        upserts: list[Object] = []
        removals: list[Ref] = []
        origins: dict[Ref, Origin] = {}
        for ref in sorted(self._touched):
            before = self._delivered.get(ref)
            now = self._settle(ref)
            if now is None:
                if before is not None:
                    del self._delivered[ref]
                    removals.append(ref)
                self._origins.pop(ref, None)
                continue
            if now is not before:
                self._delivered[ref] = now
                upserts.append(now)
            winner = self._ordered(ref)[0]
            origin = Origin(winner.place.path, winner.line)
            if self._origins.get(ref) != origin:
                origins[ref] = self._origins[ref] = origin
        self._touched.clear()
        return Update(Delta(tuple(upserts), tuple(removals), origins), self.problems())

    def _ordered(self, ref: Ref) -> list[_Definition]:
        return sorted((d for ds in self._definitions.get(ref, {}).values() for d in ds), key=lambda d: d.place)

    def _settle(self, ref: Ref) -> Object | None:
        """The object that is in force for a reference: of the first definition, or its last good version."""
        ordered = self._ordered(ref)
        if not ordered:
            self._definitions.pop(ref, None)
            self._good.pop(ref, None)
            return None
        item, before = ordered[0].item, self._delivered.get(ref)
        now = item.object if item.is_clean else self._good.get(ref, item.object)
        if before is not None and before == now:
            now = before
        if item.is_clean and now is not None:
            self._good[ref] = now
        return now

    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong now, by file and object; of an object, the cause before what follows."""
        found: list[tuple[str, int, Problem]] = []
        for path, file in self._files.items():
            if file.reason:
                message = f"cannot be read: {file.reason}; what it gave before stays in force"
                found.append((path, 0, Problem(message, code="unreadable", origin=Origin(path))))
            for start, line, defect in file.defects:
                found.append((path, line + 1, self._problem(path, start, defect)))
        found.extend(self._unknown_kinds())
        found.extend(self._duplicates())
        return tuple(p for _, _, p in sorted(found, key=lambda f: f[:2]))

    def _problem(self, path: str, start: int, defect: Defect) -> Problem:
        message = defect.message
        if defect.severity == "error" and defect.ref in self._good:
            message += "; its last good version stays in force"
        if defect.severity == "error" and defect.ref is None and self._files[path].keeps:
            message += "; what the file gave before stays in force"
        origin = Origin(path, start + defect.line + 1)
        return Problem(message, defect.severity, defect.code, defect.ref, defect.field, origin)

    def _unknown_kinds(self) -> Iterator[tuple[str, int, Problem]]:
        seen: dict[tuple[str, str], list[tuple[str, int]]] = {}
        for path, file in sorted(self._files.items()):
            for line, unknown in file.unknown:
                group = unknown.api_version.rpartition("/")[0]
                seen.setdefault((group, unknown.kind), []).append((path, line))
        for (group, kind), places in seen.items():
            path, line = places[0]
            name = f"{kind}.{group}" if group else kind
            more = f" (the first of {len(places)})" if len(places) > 1 else ""
            message = f"pypilot does not read objects of kind {name}{more}"
            yield path, line, Problem(message, "warning", "unknown-kind", origin=Origin(path, line))

    def _duplicates(self) -> Iterator[tuple[str, int, Problem]]:
        for ref, by_path in self._definitions.items():
            if len(by_path) < 2 and all(len(d) < 2 for d in by_path.values()):
                continue
            first, *others = self._ordered(ref)
            for other in others:
                where = f"{first.place.path}:{first.line}"
                if other.item.object == first.item.object:
                    problem = Problem(f"the same definition stands at {where}", "warning", "duplicate", ref)
                else:
                    problem = Problem(f"already defined at {where}, which wins", "error", "duplicate", ref)
                origin = Origin(other.place.path, other.line)
                yield other.place.path, other.line, replace(problem, origin=origin)

    # -- looking up ---------------------------------------------------------------------------------------------------

    def path_of(self, ref: Ref) -> str:
        """The file whose definition of `ref` is in force; empty if there is none."""
        ordered = self._ordered(ref)
        return ordered[0].place.path if ordered else ""

    def line_of(self, ref: Ref, field_path: str, content: str) -> int:
        """The line (from 1) of a field of an object in its file's `content`; of the object if it changed."""
        winner = self._ordered(ref)[0]
        file, place = self._files.get(winner.place.path), winner.place
        if file is None or place.document >= len(file.documents):
            return winner.line
        placed = file.documents[place.document]
        is_json = place.path.endswith(".json")
        chunks = [Chunk(0, content)] if is_json else list(split_documents(content.removeprefix("\ufeff")))
        if place.document >= len(chunks) or winner.item not in placed.document.items:
            return winner.line
        text = chunks[place.document].text
        if _digest(text) != placed.digest:
            return winner.line
        return placed.line + field_line(text, join(winner.item.path, field_path), is_json) + 1
