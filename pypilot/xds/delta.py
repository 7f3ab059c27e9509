"""The incremental variant: requests edit the subscription, responses hold what changed and what is gone.

No I/O, no clock, no gRPC.

Source: "Incremental xDS", "Subscribing to Resources", "Unsubscribing from Resources", "Knowing When a Requested
Resource Does Not Exist" in https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol; XDS-008..010.
"""

from collections.abc import Callable, Mapping

from pypilot.wire.resource import ResourceSet
from pypilot.wire.types import CLUSTER, ENDPOINT
from pypilot.xds.making import REFERRING, Making
from pypilot.xds.response import Frames, Response, select
from pypilot.xds.session import CHILD, DeltaRequest, Received, Sent, Session, Variant, Watch
from pypilot.xds.shared import Shared, SharedChange
from pypilot.xds.stand_ins import with_stand_ins
from pypilot.xds.subscription import NO_NAMES

_REMOVED_LAST = frozenset({CLUSTER, ENDPOINT})
"""Routes and listeners may still refer to these; they go once the others were sent."""


class DeltaSession(Session):
    """A stream of DeltaAggregatedResources."""

    variant: Variant = "delta"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._making = Making()
        self._new: SharedChange | None = None
        """The change of the clusters of which the push under way sends new ones."""
        self._held = False
        """The last push held something back, for something is in the making."""

    @property
    def is_waiting(self) -> bool:
        return self._held and bool(self._making)

    def wait_no_longer(self) -> None:
        self._making.end()

    def owes(self) -> bool:
        return super().owes() or (self._held and not self._making)

    def push(self, current: Callable[[str], ResourceSet | None]) -> list[Response]:
        self._new, self._held = None, False
        return super().push(current)

    def on_request(self, request: DeltaRequest, current: ResourceSet | None = None) -> Received:
        """Take in a request. What it asks for is answered by the next `push`.

        Changes of the subscription count whatever the nonce. With `current`, `initial_resource_versions` are compared
        at once, so that the table need not be kept until the push.
        """
        watch, first = self._watch(request.type_url)
        kind = self._reply(watch, request.nonce, request.error)
        self._making.settle(request.type_url, request.unsubscribe)
        subscription = watch.subscription
        before = subscription.names
        asked = subscription.edit(request.subscribe, request.unsubscribe)
        if subscription.names is not before:
            subscription.names = self._shared.names(subscription.names)
        if not subscription.active:
            watch.release()
            return Received(kind, request.error)
        watch.everything = watch.everything or asked.everything
        watch.must_answer = watch.must_answer or asked.everything
        # No needless copy: thousands of names for each of hundreds of streams that wait for their turn.
        watch.answer = subscription.covered(watch.answer | asked.names if watch.answer else asked.names)
        if asked.everything:
            # To a client that dropped the wildcard and takes it up again: what is under way may be gone by now.
            watch.answer = watch.answer.union(*(names for sent in watch.unanswered for names in sent.names))
        if first and request.initial_versions:
            watch.known = request.initial_versions
            if current is not None:
                self._compare(watch, watch.known, current)
        return Received(kind, request.error)

    def _compare(self, watch: Watch, known: Mapping[str, str], current: ResourceSet) -> None:
        """Owe a reconnecting client only what differs from what it says it holds, and what is gone."""
        subscription = watch.subscription
        watch.known = None
        existing = [chunk.names for chunk in current.chunks]
        gone = frozenset(known).difference(*existing)
        if watch.type_url in CHILD.values():
            # Its parents may have been left warming when the last stream broke (XDS-009).
            watch.everything = True
            watch.answer = subscription.covered(watch.answer | gone)
            return
        differs = frozenset(r.name for r in current if known.get(r.name) != r.version)
        absent = subscription.names.difference(*existing)
        watch.everything = bool(differs) and len(differs) == len(current)
        watch.answer = subscription.covered(gone | absent | (NO_NAMES if watch.everything else differs))
        watch.base = current

    def _answered(self, watch: Watch, sent: Sent, *, accepted: bool) -> None:
        if self._making:
            names = NO_NAMES.union(*sent.names)
            if watch.type_url == CLUSTER and not accepted:
                self._making.forget(names)
            else:
                self._making.settle(watch.type_url, names)

    def _leave(self, watch: Watch, current: ResourceSet, lost: frozenset[str]) -> frozenset[str]:
        """Of what is gone, the names to be told of now: none while something waits that may still refer to them."""
        left = watch.subscription.covered(watch.leaving | lost)
        leaving = frozenset(name for name in left if current.get(name) is None)
        watch.leaving = leaving if self._making else NO_NAMES
        self._held = self._held or bool(watch.leaving)
        return leaving - watch.leaving

    def push_type(self, type_url: str, current: ResourceSet) -> list[Response]:
        """What is due of one type, unless it waits for clusters. What the client asked for never waits."""
        watch = self._watches[type_url]
        if type_url in REFERRING and self._making and not watch.owes and watch.base is not None:
            self._held = self._held or current is not watch.base
            return []
        if type_url == ENDPOINT and self._new is not None:
            self._making.begin(NO_NAMES, self._new.added_in(current))
        return super().push_type(type_url, current)

    def _push_type(self, watch: Watch, current: ResourceSet) -> list[Response]:
        if watch.known is not None:
            self._compare(watch, watch.known, current)
        change = self._change(watch, current)
        if watch.type_url == CLUSTER and change is not None:
            self._making.forget(change.removed)
            if new := watch.subscription.covered(change.added):
                self._making.begin(new, NO_NAMES)
                self._new = change
        frames, removed, late = self._due(watch, current, change)
        responses = []
        if frames.count or removed or (watch.must_answer and not late):
            responses.append(self._respond(watch, current, frames, frames.names, removed=removed))
        if watch.type_url in CHILD and frames.count:
            self._due_children(watch, watch.everything, NO_NAMES if watch.everything else frames.all_names())
        if watch.rejected and (responses or late):
            # What was rejected before goes into a response of its own, so that it cannot spoil the first.
            left = watch.subscription.covered(watch.rejected - frames.all_names() - removed - late - watch.leaving)
            if left:
                rest = select(current, left, delta=True)
                self._due_children(watch, False, rest.all_names())
                responses.append(self._respond(watch, current, rest, rest.names, removed=left - rest.all_names()))
            watch.rejected = NO_NAMES
        if late:
            responses.append(self._respond(watch, current, Frames(), (), removed=late, late=True))
        watch.base = current
        watch.settle()
        return responses

    def _due(
        self, watch: Watch, current: ResourceSet, change: SharedChange | None
    ) -> tuple[Frames, frozenset[str], frozenset[str]]:
        """Resources to send, names to report as missing, and names to report as removed after all else."""
        subscription = watch.subscription
        lost = frozenset(n for n in change.removed if subscription.covers(n)) if change else NO_NAMES
        if watch.everything:
            frames = select(current, None if subscription.wildcard else subscription.names, delta=True)
            asked = watch.answer | subscription.names
        else:
            changed = subscription.covered(change.names) if change else NO_NAMES
            wanted = changed | watch.answer | subscription.covered(watch.again)
            if change is not None and changed and len(wanted) == len(changed) == len(change.names):
                frames = Frames((change.delta_frames,), (change.names,), len(changed))
            else:
                frames = select(current, wanted, delta=True)
            asked = watch.answer
        frames = with_stand_ins(watch.type_url, frames, asked & subscription.names, delta=True)
        missing = asked.difference(*frames.names)
        if watch.type_url in _REMOVED_LAST:
            return frames, missing, self._leave(watch, current, lost - missing)
        return frames, missing | lost, NO_NAMES
