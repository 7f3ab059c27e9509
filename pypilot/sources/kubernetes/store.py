"""What the objects of one kind are, as far as this process was told, and what a list or an event changes about that.

Pure bookkeeping. Objects that did not change stay the same Python objects, so that a new list after a fault changes
nothing unless something changed. An object with errors leaves its last good version in force.
"""

from collections.abc import Iterator, Mapping

from pypilot.kinds.base import Kind, Object, Origin, Ref
from pypilot.sources.kubernetes.decoding import Item, Key
from pypilot.world.delta import Problem

Changes = dict[Ref, Object | None]
"""What must be told to the world: new states, None for what is gone."""


class KindStore:
    """The objects of one kind (of one namespace, where namespaces are listed one by one)."""

    def __init__(self, kind: Kind, origin: Origin) -> None:
        self.kind = kind
        self._origin = origin
        self._objects: dict[Key, Object] = {}
        self._partial: set[Key] = set()
        """Those in force of which something had to be rejected: there is no good version yet."""
        self._problems: dict[Key, tuple[Problem, ...]] = {}
        self.has_new_problems = False
        """True if the last `update` or `replace` changed what is wrong."""

    def __len__(self) -> int:
        return len(self._objects)

    @property
    def objects(self) -> Mapping[Key, Object]:
        """What is in force."""
        return self._objects

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the objects, by name."""
        for key in sorted(self._problems):
            yield from self._problems[key]

    def replace(self, listed: Mapping[Key, Item]) -> Changes:
        """Take a complete list: what is not in it is gone."""
        gone = (self._objects.keys() | self._problems.keys()) - listed.keys()
        return self.update({**dict.fromkeys(gone), **listed})

    def update(self, items: Mapping[Key, Item | None]) -> Changes:
        """Take new states; None for objects that are gone."""
        changes: Changes = {}
        self.has_new_problems = False
        for key, item in items.items():
            before, wrong_before = self._objects.get(key), self._problems.get(key)
            now = None if item is None else self._settle(key, item)
            if now is None:
                self._objects.pop(key, None)
                self._partial.discard(key)
            if item is None:
                self._problems.pop(key, None)
            if self._problems.get(key) != wrong_before:
                self.has_new_problems = True
            if now is not before:
                changes[Ref(self.kind.name, *key)] = now
        return changes

    def clear(self) -> Changes:
        """The kind is no longer served."""
        return self.replace({})

    def _settle(self, key: Key, item: Item) -> Object | None:
        """The object in force after `item`: itself, its usable part, or the last good version."""
        before = self._objects.get(key)
        # What was deleted and made again is another object: the old one's good version is not its own.
        is_same = before is not None and not item.is_new and before.metadata.creation_timestamp == item.created
        stays = not item.is_clean and is_same and key not in self._partial
        if item.findings:
            self._problems[key] = tuple(self._problem(key, item, i, stays) for i in range(len(item.findings)))
        else:
            self._problems.pop(key, None)
        if stays:
            return before
        now = item.object
        if now is None:
            return None
        if before is not None and before == now:
            now = before
        self._objects[key] = now
        if item.is_clean:
            self._partial.discard(key)
        else:
            self._partial.add(key)
        return now

    def _problem(self, key: Key, item: Item, index: int, stays: bool) -> Problem:
        finding = item.findings[index]
        message = finding.message
        if finding.severity == "error" and stays:
            message += "; its last good version stays in force"
        ref = Ref(self.kind.name, *key)
        return Problem(message, finding.severity, finding.code, ref, finding.field, self._origin)
