"""What the streams of one server share: equal name sets, and the difference between two resource sets.

Five hundred sidecars of one view ask for the same two thousand names and see the same change. Here each of both is
kept once. Everything is held weakly, so a set that no stream uses any more is forgotten with the last stream. One
object a server; no I/O, no clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakValueDictionary, ref

from pypilot.wire.resource import Change, Chunk, ResourceSet, diff


class SharedChange:
    """A `Change` with the frames of all its resources, joined on first use."""

    def __init__(self, change: Change) -> None:
        self.changed = change.changed
        self.removed = change.removed
        self.added = change.added
        self.names = frozenset(change.changed)
        self._added_in: tuple[str, frozenset[str]] = ("", frozenset())

    @cached_property
    def sotw_frames(self) -> bytes:
        return b"".join(r.sotw_frame() for r in self.changed.values())

    @cached_property
    def delta_frames(self) -> bytes:
        return b"".join(r.delta_frame() for r in self.changed.values())

    def added_in(self, other: ResourceSet) -> frozenset[str]:
        """The added names that another type has too; computed once for streams with the same set of it in a row."""
        if self._added_in[0] != other.version:
            self._added_in = other.version, frozenset().union(*(chunk.names & self.added for chunk in other.chunks))
        return self._added_in[1]


@dataclass(frozen=True, slots=True)
class _Known:
    chunks: "tuple[ref[Chunk], ...]"
    """Weak, but of living chunks: with the first that dies the entry is forgotten."""
    change: SharedChange


class Shared:
    """Interned name sets and remembered differences of one server."""

    def __init__(self) -> None:
        self._names: WeakValueDictionary[int, frozenset[str]] = WeakValueDictionary()
        self._changes: dict[tuple[tuple[int, ...], tuple[int, ...]], _Known] = {}
        self.diffs_made = 0
        """How many differences were computed rather than remembered."""

    @property
    def remembered(self) -> int:
        """Differences that some stream may still ask for."""
        return len(self._changes)

    def names(self, names: Iterable[str]) -> frozenset[str]:
        """The one frozenset that stands for these names."""
        wanted = names if isinstance(names, frozenset) else frozenset(names)
        key = hash(wanted)
        known = self._names.get(key)
        if known is None:
            self._names[key] = wanted
        elif known == wanted:
            return known
        return wanted

    def difference(self, old: ResourceSet, new: ResourceSet) -> SharedChange:
        """`wire.resource.diff`, computed once for all streams that see the same chunks change.

        Chunks that both sets have are left out, so that proxies with chunks of their own share it too; a name is in
        one chunk of a set only.
        """
        kept = {id(chunk) for chunk in old.chunks} & {id(chunk) for chunk in new.chunks}
        before = tuple(chunk for chunk in old.chunks if id(chunk) not in kept)
        after = tuple(chunk for chunk in new.chunks if id(chunk) not in kept)
        key = (tuple(map(id, before)), tuple(map(id, after)))
        known = self._changes.get(key)
        if known is not None:
            return known.change

        def forget(_: "ref[Chunk]") -> None:
            self._changes.pop(key, None)

        change = SharedChange(diff(ResourceSet(before), ResourceSet(after)))
        self.diffs_made += 1
        self._changes[key] = _Known(tuple(ref(chunk, forget) for chunk in before + after), change)
        return change
