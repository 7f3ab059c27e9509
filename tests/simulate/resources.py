"""What a proxy holds: its resources in protobuf JSON, by type and name. Must not interpret them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pypilot.wire import types
from tests.simulate.fields import Message


@dataclass(frozen=True, slots=True)
class Resources:
    """Listeners, routes, clusters and endpoints by name."""

    listeners: Mapping[str, Message] = field(default_factory=dict)
    routes: Mapping[str, Message] = field(default_factory=dict)
    clusters: Mapping[str, Message] = field(default_factory=dict)
    endpoints: Mapping[str, Message] = field(default_factory=dict)

    @staticmethod
    def held(by_type: Mapping[str, Mapping[str, Message]]) -> "Resources":
        """From what `wire.references.held_by` gives."""
        return Resources(
            listeners=by_type.get(types.LISTENER, {}),
            routes=by_type.get(types.ROUTE, {}),
            clusters=by_type.get(types.CLUSTER, {}),
            endpoints=by_type.get(types.ENDPOINT, {}),
        )
