"""One ADS stream as plain data: what a client wants, what it was sent, what it answered. The part both variants share.

Theory. A session keeps no table of versions. For each type it remembers the `ResourceSet` up to which the client was
brought (`Watch.base`, shared with every stream of the same view) and what it owes besides: names that were asked for,
names whose parent was sent again, names whose last response was rejected. A request changes only this state
(`on_request`); everything that is due is computed in one pass over the types in push order (`push`), so requests and
changes that come while a stream waits merge into one answer, and make-before-break holds by construction.

`SotwSession` and `DeltaSession` (sotw.py, delta.py) add the rules of their variant. No I/O, no clock, no gRPC.

Source: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol; XDS-002..010.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from pypilot.wire.resource import EMPTY, ResourceSet
from pypilot.wire.types import CLUSTER, ENDPOINT, PUSH_ORDER, WILDCARD
from pypilot.xds.response import Frames, Response
from pypilot.xds.shared import Shared, SharedChange
from pypilot.xds.subscription import NO_NAMES, Subscription

MAX_TYPES: Final = 64
"""Types one stream may watch; more is a broken client."""

MAX_UNANSWERED: Final = 64
"""Responses of one type that are remembered until the client answers them."""

CHILD: Final[Mapping[str, str]] = {CLUSTER: ENDPOINT}
"""Envoy warms a cluster that is sent again until its endpoints come again, though they did not change (XDS-009).

Until then it says nothing more of clusters, not even on a new stream. So the endpoints follow a cluster that is sent,
and those first asked for on a stream are sent whatever the client holds. They have the cluster's own name (DR-013).
"""

Variant = Literal["sotw", "delta"]
Kind = Literal["subscribe", "ack", "nack", "stale"]


class ProtocolError(ValueError):
    """A request that no client may send; the stream ends."""


@dataclass(frozen=True, slots=True)
class SotwRequest:
    """A DiscoveryRequest."""

    type_url: str
    names: frozenset[str] = NO_NAMES
    version: str = ""
    nonce: str = ""
    error: str | None = None
    """The message of `error_detail`; None if the field is absent."""


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    """A DeltaDiscoveryRequest."""

    type_url: str
    subscribe: frozenset[str] = NO_NAMES
    unsubscribe: frozenset[str] = NO_NAMES
    nonce: str = ""
    error: str | None = None
    initial_versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Received:
    """What a request turned out to be."""

    kind: Kind
    error: str | None = None
    """The client's reason, if it rejected a response (with `kind` "nack", or "stale" for an older response)."""


@dataclass(frozen=True, slots=True)
class TypeStatus:
    """One type of one stream, for people."""

    type_url: str
    sent_version: str
    sent_nonce: str
    acked_version: str
    acked_nonce: str
    error: str
    """Why the client rejected what it was sent last; empty if it did not."""
    watched: int
    """How many names are watched; with a wildcard, how many resources it stands for."""
    wildcard: bool
    synced: bool
    """True if the client accepted the last response."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A response the client has not answered yet."""

    nonce: str
    version: str
    names: tuple[frozenset[str], ...]


@dataclass(slots=True)
class Watch:
    """One type of one stream."""

    type_url: str
    subscription: Subscription
    base: ResourceSet | None = None
    """The set up to which the client was brought; None: it was sent nothing that counts."""
    everything: bool = False
    """All that is subscribed to is owed."""
    must_answer: bool = False
    """A response is owed even if it is empty."""
    answer: frozenset[str] = NO_NAMES
    """Names that were asked for and not answered yet."""
    again: frozenset[str] = NO_NAMES
    """Names whose parent was sent, so that they are due though they did not change."""
    leaving: frozenset[str] = NO_NAMES
    """Names that are gone, of which the client is told when nothing can refer to them any more."""
    rejected: frozenset[str] = NO_NAMES
    """What was new in rejected responses: the client may not hold it. Offered again with the next change."""
    client_version: str = ""
    """State of the world: the version a reconnecting client says it has."""
    known: Mapping[str, str] | None = None
    """Incremental: `initial_resource_versions` not compared yet."""
    responses: int = 0
    sent_version: str = ""
    sent_nonce: str = ""
    acked_version: str = ""
    acked_nonce: str = ""
    error: str = ""
    unanswered: deque[Sent] = field(default_factory=lambda: deque(maxlen=MAX_UNANSWERED))

    @property
    def owes(self) -> bool:
        return bool(self.everything or self.must_answer or self.answer or self.again or self.known is not None)

    def settle(self) -> None:
        """Nothing is owed."""
        self.everything = self.must_answer = False
        self.answer = self.again = NO_NAMES

    def release(self) -> None:
        """The client wants nothing of this type: forget what it holds."""
        self.settle()
        self.base = self.known = None
        self.rejected = self.leaving = NO_NAMES

    def status(self) -> TypeStatus:
        subscription = self.subscription
        return TypeStatus(
            self.type_url,
            self.sent_version,
            self.sent_nonce,
            self.acked_version,
            self.acked_nonce,
            self.error,
            len(self.base or EMPTY) if subscription.wildcard else len(subscription.names),
            subscription.wildcard,
            not self.owes and not self.error and self.sent_nonce == self.acked_nonce,
        )


class Session(ABC):
    """The protocol state of one stream."""

    variant: Variant

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._watches: dict[str, Watch] = {}

    @abstractmethod
    def _push_type(self, watch: Watch, current: ResourceSet) -> list[Response]:
        """What is due of one type, given that something may be."""

    @abstractmethod
    def _answered(self, watch: Watch, sent: Sent, *, accepted: bool) -> None:
        """The client took or rejected a response, or answered a later one."""

    @property
    @abstractmethod
    def is_waiting(self) -> bool:
        """True if something that changed is held back until the client has answered."""

    @abstractmethod
    def wait_no_longer(self) -> None:
        """Let the next push send what was held back, whatever the client says."""

    def watched(self) -> tuple[str, ...]:
        """The types the client wants something of, in push order."""
        active = [url for url, watch in self._watches.items() if watch.subscription.active]
        return tuple(url for url in PUSH_ORDER if url in active) + tuple(u for u in active if u not in PUSH_ORDER)

    def owes(self) -> bool:
        """True if the client waits for an answer."""
        return any(watch.owes for watch in self._watches.values())

    def push(self, current: Callable[[str], ResourceSet | None]) -> list[Response]:
        """Everything that is due, in the order it must be written ("Eventual consistency considerations", XDS-004).

        `current` gives the present set of a type, or None if there is none to be had now: what is owed stays owed.
        """
        responses: list[Response] = []
        for type_url in self.watched():
            resources = current(type_url)
            if resources is not None:
                responses += self.push_type(type_url, resources)
        return sorted(responses, key=lambda response: response.late)

    def push_type(self, type_url: str, current: ResourceSet) -> list[Response]:
        """What is due of one type."""
        watch = self._watches.get(type_url)
        if (
            watch is None
            or not watch.subscription.active
            or (current is watch.base and not watch.owes and not watch.leaving)
        ):
            return []
        return self._push_type(watch, current)

    def status(self) -> tuple[TypeStatus, ...]:
        """Every type the client ever asked for on this stream."""
        return tuple(watch.status() for watch in self._watches.values())

    def _watch(self, type_url: str) -> tuple[Watch, bool]:
        """The watch of a type, and whether this is its first request on the stream."""
        watch = self._watches.get(type_url)
        if watch is not None:
            return watch, False
        if not type_url:
            raise ProtocolError("a request on an aggregated stream needs a type_url")
        if len(self._watches) >= MAX_TYPES:
            raise ProtocolError(f"more than {MAX_TYPES} resource types on one stream")
        watch = self._watches[type_url] = Watch(type_url, Subscription(legacy=type_url in WILDCARD))
        return watch, True

    def _reply(self, watch: Watch, nonce: str, error: str | None) -> Kind:
        """Take an ACK or NACK to the response it belongs to ("ACK and NACK semantics summary")."""
        found = next((sent for sent in watch.unanswered if sent.nonce == nonce), None) if nonce else None
        if found is not None:
            while (sent := watch.unanswered.popleft()) is not found:
                self._answered(watch, sent, accepted=True)
            self._answered(watch, found, accepted=error is None)
        if error is not None:
            watch.error = error or "rejected without a message"
            if found is not None:
                newer = frozenset[str]().union(*(names for sent in watch.unanswered for names in sent.names))
                watch.rejected |= frozenset[str]().union(*found.names) - newer
            return "nack"
        if found is None:
            return "subscribe" if nonce in ("", watch.sent_nonce) else "stale"
        watch.acked_nonce, watch.acked_version, watch.error = found.nonce, found.version, ""
        return "ack"

    def _change(self, watch: Watch, current: ResourceSet) -> SharedChange | None:
        """What differs from what the client was brought up to; None if nothing does."""
        base = watch.base
        if base is None or base is current or base.version == current.version:
            return None
        return self._shared.difference(base, current)

    def _due_children(self, watch: Watch, everything: bool, names: frozenset[str]) -> None:
        """Resources of `watch` are sent: what hangs on them is due again."""
        child = self._watches.get(CHILD.get(watch.type_url, ""))
        if child is not None and child.subscription.active:
            child.everything = child.everything or everything
            child.again |= child.subscription.covered(names)

    def _respond(
        self,
        watch: Watch,
        current: ResourceSet,
        frames: Frames,
        news: tuple[frozenset[str], ...],
        *,
        removed: frozenset[str] = NO_NAMES,
        late: bool = False,
    ) -> Response:
        """Make the next response of a type. `news` are the names that count as not sent if it is rejected."""
        watch.responses += 1
        nonce = str(watch.responses)
        watch.unanswered.append(Sent(nonce, current.version, (*news, removed) if removed else news))
        watch.sent_version, watch.sent_nonce = current.version, nonce
        return Response(watch.type_url, current.version, nonce, frames, tuple(sorted(removed)), late)
