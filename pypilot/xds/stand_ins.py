"""What is sent in place of a resource that a client asks for and that does not exist (RDS-015).

Envoy holds a listener back until its routes are there, however long; so a name that nobody knows gets routes that
answer 404 to everything. What was there and goes stays with the client while the stream lasts: connections that are
drained still use it.
Nothing here knows what a name means.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Final

from envoy.config.route.v3 import route_pb2

from pypilot.wire.resource import Resource
from pypilot.wire.types import ROUTE
from pypilot.xds.response import Frames, frame_of


def _no_routes(name: str) -> Resource:
    config = route_pb2.RouteConfiguration(name=name)
    config.validate_clusters.value = False
    return Resource.of(name, ROUTE, config.SerializeToString(deterministic=True))


_MAKERS: Final[Mapping[str, Callable[[str], Resource]]] = MappingProxyType({ROUTE: _no_routes})


def with_stand_ins(type_url: str, frames: Frames, asked: AbstractSet[str], delta: bool) -> Frames:
    """The frames, with stand-ins for those names that were asked for and are not among them."""
    make = _MAKERS.get(type_url)
    if make is None or not (missing := frozenset(asked).difference(*frames.names)):
        return frames
    frame = frame_of(delta)
    piece = b"".join(frame(make(name)) for name in sorted(missing))
    return Frames((*frames.pieces, piece), (*frames.names, missing), frames.count + len(missing))
