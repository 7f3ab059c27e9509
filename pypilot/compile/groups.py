"""Parts in groups, each a chunk of its own: after a change only the group that it touches is joined anew.

A part's group follows from its service alone, so that one service more or less leaves the other groups as they are;
views that see a group alike share its chunk.
"""

from collections.abc import Callable, Hashable, Iterable
from typing import TypeAlias
from zlib import crc32

from pypilot.compile.parts import Part
from pypilot.wire.resource import Chunk, Resource, ResourceSet
from pypilot.world.reader import Reader

CompilePart: TypeAlias = Callable[..., tuple[Resource, ...]]
_PARTS_IN_A_GROUP = 32
_MOST_GROUPS = 256


class PartGroup:
    """Some parts, as a key whose hash is made once."""

    __slots__ = ("_hash", "parts")

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self.parts = parts
        self._hash = hash(parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, PartGroup) and self.parts == other.parts)

    def __repr__(self) -> str:
        return f"PartGroup of {len(self.parts)}"


def _count(parts: int) -> int:
    """A power of two, so that it seldom changes."""
    groups = 1
    while groups * _PARTS_IN_A_GROUP < parts and groups < _MOST_GROUPS:
        groups *= 2
    return groups


def grouped(parts: Iterable[Part]) -> tuple[PartGroup, ...]:
    """The groups of the parts, each in the order of the parts; at least one."""
    listed = tuple(parts)
    groups: list[list[Part]] = [[] for _ in range(_count(len(listed)))]
    for part in listed:
        groups[crc32(part.service.hostname.encode()) % len(groups)].append(part)
    return tuple(PartGroup(tuple(group)) for group in groups if group) or (PartGroup(()),)


def _chunk(reader: Reader, compile_part: CompilePart, group: PartGroup, traits: tuple[Hashable, ...]) -> Chunk:
    return Chunk(
        resource
        for part in group.parts
        for resource in reader.call(compile_part, part.service, part.selection, *traits, part.place, part.ports)
    )


def group_chunks(
    reader: Reader, compilers: Iterable[CompilePart], groups: Iterable[PartGroup], *traits: Hashable
) -> tuple[Chunk, ...]:
    """A chunk for each group and compiler, which is called with service, selection, `traits`, place and ports."""
    listed = tuple(groups)
    return tuple(reader.call(_chunk, compiler, group, traits) for compiler in compilers for group in listed)


def _together(_reader: Reader, chunks: tuple[Chunk, ...]) -> ResourceSet:
    return ResourceSet(chunks)


def shared_set(reader: Reader, chunks: tuple[Chunk, ...]) -> ResourceSet:
    """One object for all that have the same chunks, so that what is made of it is made once."""
    return reader.call(_together, chunks)
