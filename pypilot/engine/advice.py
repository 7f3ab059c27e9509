"""Asks the advisers about every object, through the memo: only what a change can have touched is looked at again.

Owned by the engine. An adviser that fails says nothing about that object and costs nobody else anything.
"""

from collections.abc import Callable, Mapping

import structlog

from pypilot.engine.memo import Memo
from pypilot.kinds.base import Finding, Ref
from pypilot.world.delta import Problem
from pypilot.world.reader import Reader
from pypilot.world.world import World

Adviser = Callable[[Reader, Ref], tuple[Finding, ...]]


class Advice:
    """The warnings about the objects of the kinds that have an adviser."""

    def __init__(self, memo: Memo, advisers: Mapping[str, Adviser]) -> None:
        self._memo = memo
        self._advisers = advisers
        self._asked: dict[str, frozenset[Ref]] = dict.fromkeys(advisers, frozenset())
        self._generation = -1
        self._found: tuple[Problem, ...] = ()
        self._failed: set[Ref] = set()
        self._log = structlog.get_logger("pypilot.engine")

    def problems(self, world: World) -> tuple[Problem, ...]:
        """All warnings about this world, by kind, namespace and name."""
        if world.generation != self._generation:
            self._found = tuple(p for kind in self._advisers for p in self._of_kind(world, kind))
            self._generation = world.generation
        return self._found

    def _of_kind(self, world: World, kind: str) -> list[Problem]:
        adviser = self._advisers[kind]
        refs = [Ref(kind, namespace, name) for namespace, name in world.objects.get(kind, {})]
        for gone in self._asked[kind].difference(refs):
            self._memo.release(adviser, gone)
            self._failed.discard(gone)
        self._asked[kind] = frozenset(refs)
        return [
            Problem(finding.message, finding.severity, finding.code, ref, finding.field)
            for ref in sorted(refs)
            for finding in self._ask(adviser, ref)
        ]

    def _ask(self, adviser: Adviser, ref: Ref) -> tuple[Finding, ...]:
        try:
            found = self._memo.root(adviser, ref)
        except Exception:
            if ref not in self._failed:
                self._failed.add(ref)
                self._log.exception("an object could not be looked over", object=str(ref))
            return ()
        self._failed.discard(ref)
        return found
