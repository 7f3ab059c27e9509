"""The memo: a cache for compile functions whose only key is what they really read.

Every `Reader.call` becomes an entry that remembers, in order, each bucket and each other entry that it read. A change
of the world marks the entries that read a changed bucket, and everything above them, as stale. A stale entry is used
again as it is if all that it read is still the same object; else it is computed anew, and if the new value equals the
old one, the old object stays, so that nothing above it is computed. Nothing is declared, and nothing can be forgotten.

Entries that no other entry and no root uses are dropped at once. Not thread-safe: one event loop owns it.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar, cast

from pypilot.world.reader import Reader
from pypilot.world.world import BucketId, Table, World

R = TypeVar("R")


class _Cell:
    """One bucket of the world, as the current world holds it."""

    __slots__ = ("bucket", "users", "value")

    def __init__(self, bucket: BucketId, value: Any) -> None:
        self.bucket = bucket
        self.value = value
        self.users: set[_Entry] = set()


class _Entry:
    """One remembered call."""

    __slots__ = ("function", "is_root", "is_running", "is_stale", "key", "reads", "seen", "users", "value")

    def __init__(self, function: Callable[..., Any], key: tuple[Hashable, ...]) -> None:
        self.function = function
        self.key = key
        self.value: Any = None
        self.reads: tuple[_Cell | _Entry, ...] = ()
        self.seen: tuple[Any, ...] = ()
        """The value of each of `reads` when this entry was computed."""
        self.users: set[_Entry] = set()
        self.is_root = False
        self.is_stale = True
        self.is_running = False


class _Trace(Reader):
    """The reader of one computation: records what is read."""

    def __init__(self, memo: "Memo", world: World, entry: _Entry) -> None:
        super().__init__(world)
        self._memo = memo
        self._entry = entry
        self.reads: dict[_Cell | _Entry, Any] = {}

    def _read(self, table: Table, key: Hashable) -> Any:
        cell = self._memo.cell((table, key))
        cell.users.add(self._entry)
        self.reads[cell] = cell.value
        return cell.value

    def call(self, function: Callable[..., R], *key: Hashable) -> R:
        """See `Reader.call`."""
        entry = self._memo.fresh(function, key)
        # At once, not at the end: something computed meanwhile may let go of what only we use.
        entry.users.add(self._entry)
        self.reads[entry] = entry.value
        return cast(R, entry.value)


class Memo:
    """The cache over one sequence of worlds."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._cells: dict[BucketId, _Cell] = {}
        self._entries: dict[tuple[Callable[..., Any], tuple[Hashable, ...]], _Entry] = {}
        self.computed: Counter[str] = Counter()
        """How often each compile function ran, by name."""

    # -- for the engine -----------------------------------------------------------------------------------------------

    def advance(self, world: World, changed: Iterable[BucketId]) -> None:
        """Move to the next world. `changed` holds at least the buckets that are different objects there."""
        self._world = world
        for bucket in changed:
            cell = self._cells.get(bucket)
            if cell is None:
                continue
            value = self._bucket(bucket)
            if value is cell.value:
                continue
            cell.value = value
            self._mark(cell.users)
            if value is None and not cell.users:
                del self._cells[bucket]

    def root(self, function: Callable[..., R], *key: Hashable) -> R:
        """The value of a call that is kept until `release`."""
        entry = self.fresh(function, key)
        entry.is_root = True
        return cast(R, entry.value)

    def release(self, function: Callable[..., Any], *key: Hashable) -> None:
        """Let go of a root, and of everything that only it used."""
        entry = self._entries.get((function, key))
        if entry is not None:
            entry.is_root = False
            self._drop_unused([entry])

    def provenance(self, function: Callable[..., Any], *key: Hashable) -> frozenset[BucketId]:
        """All buckets that a remembered call read, through however many other calls, the empty ones left out."""
        found: set[BucketId] = set()
        seen: set[_Entry] = set()
        todo = [e for e in (self._entries.get((function, key)),) if e is not None]
        while todo:
            entry = todo.pop()
            seen.add(entry)
            for read in entry.reads:
                if isinstance(read, _Cell):
                    if read.value is not None:
                        found.add(read.bucket)
                elif read not in seen:
                    todo.append(read)
        return frozenset(found)

    def statistics(self) -> dict[str, int]:
        """Sizes, for `/debug` and tests."""
        return {"entries": len(self._entries), "buckets": len(self._cells), "computed": self.computed.total()}

    # -- for the trace ------------------------------------------------------------------------------------------------

    def _bucket(self, bucket: BucketId) -> Any:
        table, key = bucket
        return self._world.tables.get(table, {}).get(key)

    def cell(self, bucket: BucketId) -> _Cell:
        """The cell of a bucket, empty or not."""
        cell = self._cells.get(bucket)
        if cell is None:
            cell = self._cells[bucket] = _Cell(bucket, self._bucket(bucket))
        return cell

    def fresh(self, function: Callable[..., Any], key: tuple[Hashable, ...]) -> _Entry:
        """The entry of a call, computed or verified against the current world.

        Raises:
            RecursionError: the call needs itself.
        """
        entry = self._entries.get((function, key))
        if entry is None:
            entry = self._entries[function, key] = _Entry(function, key)
            try:
                self._compute(entry)
            except BaseException:
                del self._entries[function, key]
                raise
        elif entry.is_stale:
            if entry.is_running:
                raise RecursionError(f"{function.__name__}{key} needs itself")
            if not self._still_holds(entry):
                self._compute(entry)
        return entry

    # -- the machine --------------------------------------------------------------------------------------------------

    def _still_holds(self, entry: _Entry) -> bool:
        """In the order of reading: a later read may only make sense if the earlier ones are what they were."""
        entry.is_running = True
        try:
            for read, seen in zip(entry.reads, entry.seen, strict=True):
                if isinstance(read, _Entry) and read.is_stale:
                    self.fresh(read.function, read.key)
                if read.value is not seen:
                    return False
        finally:
            entry.is_running = False
        entry.is_stale = False
        return True

    def _compute(self, entry: _Entry) -> None:
        trace = _Trace(self, self._world, entry)
        entry.is_running = True
        try:
            value = entry.function(trace, *entry.key)
        except BaseException:
            self._let_go(entry, [read for read in trace.reads if read not in entry.reads])
            raise
        finally:
            entry.is_running = False
        self.computed[entry.function.__name__] += 1
        old_reads, old_value = entry.reads, entry.value
        entry.reads, entry.seen = tuple(trace.reads), tuple(trace.reads.values())
        entry.value = old_value if old_value is not None and old_value == value else value
        entry.is_stale = False
        self._let_go(entry, [read for read in old_reads if read not in trace.reads])

    def _let_go(self, entry: _Entry, reads: Iterable[_Cell | _Entry]) -> None:
        lost = list(reads)
        for read in lost:
            read.users.discard(entry)
        self._drop_unused(lost)

    def _mark(self, users: Iterable[_Entry]) -> None:
        todo = list(users)
        while todo:
            entry = todo.pop()
            if not entry.is_stale:
                entry.is_stale = True
                todo.extend(entry.users)

    def _drop_unused(self, nodes: Iterable[_Cell | _Entry]) -> None:
        todo = list(nodes)
        while todo:
            node = todo.pop()
            if node.users:
                continue
            if isinstance(node, _Cell):
                self._cells.pop(node.bucket, None)
            elif (
                not (node.is_root or node.is_running) and self._entries.pop((node.function, node.key), None) is not None
            ):
                for read in node.reads:
                    read.users.discard(node)
                todo.extend(node.reads)
