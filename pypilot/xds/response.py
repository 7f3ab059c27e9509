"""A response: a small header and the shared frames of its resources, joined only when it is written.

Source: envoy.service.discovery.v3 DiscoveryResponse{version_info=1, resources=2, type_url=4, nonce=5} and
DeltaDiscoveryResponse{system_version_info=1, resources=2, type_url=4, nonce=5, removed_resources=6}. Repeated fields
concatenate on the wire, so the frames of a chunk are used as they are. Nothing here decides what to send.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from pypilot.wire.resource import Chunk, Resource, ResourceSet, length_delimited

_VERSION, _TYPE_URL, _NONCE, _REMOVED = 0x0A, 0x22, 0x2A, 0x32


@dataclass(frozen=True, slots=True)
class Frames:
    """Some resources: the bytes to send and, as sets that are shared where possible, their names."""

    pieces: tuple[bytes, ...] = ()
    names: tuple[frozenset[str], ...] = ()
    count: int = 0

    def all_names(self) -> frozenset[str]:
        return frozenset().union(*self.names)


def frame_of(delta: bool) -> Callable[[Resource], bytes]:
    """How one resource is framed in a variant."""
    return Resource.delta_frame if delta else Resource.sotw_frame


def frames_of_chunk(chunk: Chunk, delta: bool) -> bytes:
    """The joined frames of a whole chunk."""
    return chunk.delta_frames if delta else chunk.sotw_frames


def select(resources: ResourceSet, wanted: AbstractSet[str] | None, delta: bool) -> Frames:
    """The resources named in `wanted` (None: all of them); whole chunks keep their joined frames."""
    pieces: list[bytes] = []
    names: list[frozenset[str]] = []
    count = 0
    frame = frame_of(delta)
    for chunk in resources.chunks:
        if wanted is None or (len(chunk.resources) <= len(wanted) and chunk.names <= wanted):
            if chunk.resources:
                pieces.append(frames_of_chunk(chunk, delta))
                names.append(chunk.names)
                count += len(chunk.resources)
        elif some := chunk.names.intersection(wanted):
            pieces.append(b"".join(frame(chunk.resources[name]) for name in sorted(some)))
            names.append(some)
            count += len(some)
    return Frames(tuple(pieces), tuple(names), count)


@dataclass(frozen=True, slots=True)
class Response:
    """One DiscoveryResponse or DeltaDiscoveryResponse, ready to be encoded."""

    type_url: str
    version: str
    nonce: str
    frames: Frames = Frames()
    removed: tuple[str, ...] = ()
    """Names that do not exist (any more); only in the incremental variant."""
    late: bool = False
    """To be written after all else of the same push: it takes away what others may still refer to."""

    @property
    def size(self) -> int:
        """Roughly the encoded size in bytes."""
        return sum(map(len, self.frames.pieces)) + sum(map(len, self.removed)) + 128

    def encode(self) -> bytes:
        """The serialised message."""
        return b"".join(
            (
                length_delimited(_VERSION, self.version.encode()),
                length_delimited(_TYPE_URL, self.type_url.encode()),
                length_delimited(_NONCE, self.nonce.encode()),
                *(length_delimited(_REMOVED, name.encode()) for name in self.removed),
                *self.frames.pieces,
            )
        )
