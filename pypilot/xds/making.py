"""Clusters that a client is sent for the first time, until it can use them.

Envoy warms a new cluster until it has its endpoints. A route that comes meanwhile answers 503 NC (`cluster_not_found`);
so whatever may refer to clusters waits until nothing is in the making ("make before break", XDS-004). Knows names only:
no resources, no clock.
"""

from collections.abc import Set as AbstractSet
from typing import Final

from pypilot.wire.types import CLUSTER, ENDPOINT, EXTENSION_CONFIG, LISTENER, NAME_TABLE, ROUTE

REFERRING: Final = frozenset({LISTENER, ROUTE, EXTENSION_CONFIG, NAME_TABLE})
"""Types whose resources may refer to clusters, or to what refers to them."""


class Making:
    """Of one stream."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[str]] = {CLUSTER: set(), ENDPOINT: set()}
        """Type -> names of which the client has not said yet that it took them."""

    def __bool__(self) -> bool:
        return any(self._waiting.values())

    def begin(self, clusters: AbstractSet[str], endpoints: AbstractSet[str]) -> None:
        """New clusters are sent; the client will ask for these endpoints of them, and must have both."""
        self._waiting[CLUSTER] |= clusters
        self._waiting[ENDPOINT] |= endpoints

    def settle(self, type_url: str, names: AbstractSet[str]) -> None:
        """The client took these, or dropped them."""
        if waiting := self._waiting.get(type_url):
            waiting -= names

    def forget(self, clusters: AbstractSet[str]) -> None:
        """The client refused these clusters, or they are gone: it will not ask for their endpoints."""
        for waiting in self._waiting.values():
            waiting -= clusters

    def end(self) -> None:
        """Nothing is waited for any more."""
        for waiting in self._waiting.values():
            waiting.clear()
