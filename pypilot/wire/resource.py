"""Serialised resources, and immutable sets of them that many proxies share.

A resource is serialised once. Repeated protobuf fields concatenate on the wire, so a response is a header followed by
the frames of its resources; a `Chunk` keeps its frames joined, so sending a thousand resources costs one reference.
Nothing here may depend on who asks.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from types import MappingProxyType

_VERSION_BYTES = 8


def varint(value: int) -> bytes:
    """Base-128 varint of a non-negative integer (protobuf encoding)."""
    out = bytearray()
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def length_delimited(tag: int, payload: bytes) -> bytes:
    """One length-delimited protobuf field: `tag` is the whole tag byte (field number << 3 | 2)."""
    return bytes((tag,)) + varint(len(payload)) + payload


def content_version(payload: bytes) -> str:
    """The version of some bytes: a short content hash, equal on every machine and run."""
    return blake2b(payload, digest_size=_VERSION_BYTES).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """One xDS resource, serialised. Two resources are the same if their name and version are."""

    name: str
    version: str
    any_bytes: bytes = field(repr=False)
    """The `google.protobuf.Any` that wraps the resource, serialised."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Resource) and (self.name, self.version) == (other.name, other.version)

    def __hash__(self) -> int:
        return hash((self.name, self.version))

    @staticmethod
    def of(name: str, type_url: str, body: bytes) -> "Resource":
        """Wrap the serialised message `body`."""
        return Resource(
            name,
            content_version(body),
            length_delimited(0x0A, type_url.encode()) + length_delimited(0x12, body),
        )

    def sotw_frame(self) -> bytes:
        """`DiscoveryResponse.resources` (field 2)."""
        return length_delimited(0x12, self.any_bytes)

    def delta_frame(self) -> bytes:
        """`DeltaDiscoveryResponse.resources` (field 2) holding a `Resource{version=1, resource=2, name=3}`."""
        inner = (
            length_delimited(0x0A, self.version.encode())
            + length_delimited(0x12, self.any_bytes)
            + length_delimited(0x1A, self.name.encode())
        )
        return length_delimited(0x12, inner)


class Chunk:
    """An immutable group of resources with unique names whose frames are joined once and shared by every stream."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        """Keep the given order. A second resource of a name is dropped: the first one made wins (DR-018)."""
        by_name: dict[str, Resource] = {}
        for resource in resources:
            by_name.setdefault(resource.name, resource)
        self.resources: Mapping[str, Resource] = MappingProxyType(by_name)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Chunk) and self.version == other.version)

    def __hash__(self) -> int:
        return hash(self.version)

    @cached_property
    def version(self) -> str:
        """Content hash over names and versions, in order."""
        return content_version("\n".join(f"{r.name}={r.version}" for r in self.resources.values()).encode())

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(self.resources)

    @cached_property
    def sotw_frames(self) -> bytes:
        return b"".join(r.sotw_frame() for r in self.resources.values())

    @cached_property
    def delta_frames(self) -> bytes:
        return b"".join(r.delta_frame() for r in self.resources.values())


@dataclass(frozen=True, slots=True, eq=False)
class ResourceSet:
    """Everything of one type that one proxy could ask for: a short tuple of shared chunks.

    Names are unique over all chunks by construction of the compiler; `get` answers with the first.
    """

    chunks: tuple[Chunk, ...] = ()
    version: str = field(init=False)

    def __post_init__(self) -> None:
        joined = "".join(c.version for c in self.chunks if c.resources)
        object.__setattr__(self, "version", content_version(joined.encode()))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, ResourceSet) and self.version == other.version)

    def __hash__(self) -> int:
        return hash(self.version)

    def __iter__(self) -> Iterator[Resource]:
        for chunk in self.chunks:
            yield from chunk.resources.values()

    def __len__(self) -> int:
        return sum(len(chunk.resources) for chunk in self.chunks)

    def get(self, name: str) -> Resource | None:
        """The resource of that name, or None."""
        for chunk in self.chunks:
            if (resource := chunk.resources.get(name)) is not None:
                return resource
        return None


EMPTY = ResourceSet()


@dataclass(frozen=True, slots=True)
class Change:
    """What differs between two sets: resources that are new or have another version, and names that are gone."""

    changed: Mapping[str, Resource]
    removed: frozenset[str]
    added: frozenset[str]
    """Those of `changed` that were not there before."""


def diff(old: ResourceSet, new: ResourceSet) -> Change:
    """Compare two sets; chunks that both share are skipped, so the cost follows the change."""
    shared = {id(chunk) for chunk in old.chunks} & {id(chunk) for chunk in new.chunks}
    before = {r.name: r for c in old.chunks if id(c) not in shared for r in c.resources.values()}
    after = {r.name: r for c in new.chunks if id(c) not in shared for r in c.resources.values()}
    known = {name: before.get(name) or old.get(name) for name in after}
    changed = {
        name: resource
        for name, resource in after.items()
        if (earlier := known[name]) is None or earlier.version != resource.version
    }
    removed = frozenset(name for name in before if name not in after and new.get(name) is None)
    return Change(changed, removed, frozenset(name for name, earlier in known.items() if earlier is None))
