"""The state-of-the-world variant: each request states the whole subscription.

CDS and LDS responses hold everything that is subscribed to, so that absence means removal; other types get only what
is new or changed. No I/O, no clock, no gRPC.

Source: "When to send an update", "Grouping Resources into Responses", "Deleting Resources", "Resource updates" in
https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol; XDS-005..009.
"""

from typing import Final

from pypilot.wire.resource import ResourceSet
from pypilot.wire.types import WILDCARD
from pypilot.xds.response import Frames, Response, select
from pypilot.xds.session import Received, Sent, Session, SotwRequest, Variant, Watch
from pypilot.xds.shared import SharedChange
from pypilot.xds.stand_ins import with_stand_ins
from pypilot.xds.subscription import NO_NAMES

FULL_STATE: Final = WILDCARD
"""Types whose every response is complete."""


class SotwSession(Session):
    """A stream of StreamAggregatedResources."""

    variant: Variant = "sotw"

    @property
    def is_waiting(self) -> bool:
        """Never: with new clusters the old ones go, so routes that still mean these must follow at once."""
        return False

    def wait_no_longer(self) -> None:
        """Nothing waits."""

    def _answered(self, watch: Watch, sent: Sent, *, accepted: bool) -> None:
        """Nothing waits for it."""

    def on_request(self, request: SotwRequest) -> Received:
        """Take in a request. What it asks for is answered by the next `push`.

        A request with a stale nonce is not answered and adds no names: the client repeats them with its answer to the
        newer response. A rejection in it still counts.
        """
        watch, first = self._watch(request.type_url)
        if not first and watch.sent_nonce and request.nonce not in ("", watch.sent_nonce):
            self._stale(watch, request)
            return Received("stale", request.error)
        kind = self._reply(watch, request.nonce, request.error)
        subscription = watch.subscription
        asked = subscription.replace(request.names)
        if not subscription.active:
            watch.release()
        elif first:
            watch.everything = watch.must_answer = True
            watch.client_version = request.version
        else:
            watch.everything = watch.everything or asked.everything
            watch.must_answer = watch.must_answer or asked.everything
            watch.answer = subscription.covered(watch.answer | asked.names)
        return Received("subscribe" if kind == "stale" else kind, request.error)

    def _stale(self, watch: Watch, request: SotwRequest) -> None:
        kind = self._reply(watch, request.nonce, request.error)
        if watch.type_url not in FULL_STATE:
            # What it leaves out the client has dropped, if only for a while: named again, it is asked for anew.
            watch.subscription.drop(watch.subscription.names - request.names)
        elif kind == "nack":
            # The newer response repeats what was rejected and may be accepted, after its children were sent.
            self._due_children(watch, False, watch.rejected)

    def _push_type(self, watch: Watch, current: ResourceSet) -> list[Response]:
        change = self._change(watch, current)
        if watch.type_url in FULL_STATE:
            responses = self._complete(watch, current, change)
        else:
            responses = self._partial(watch, current, change)
        watch.base = current
        watch.client_version = ""
        watch.settle()
        return responses

    def _complete(self, watch: Watch, current: ResourceSet, change: SharedChange | None) -> list[Response]:
        subscription = watch.subscription
        changed = subscription.covered(change.names) if change else NO_NAMES
        asked = frozenset(name for name in watch.answer if current.get(name) is not None)
        lost = change is not None and any(subscription.covers(name) for name in change.removed)
        if not (watch.everything or watch.must_answer or changed or asked or lost):
            return []
        legacy = subscription.wildcard and not subscription.named_before
        if watch.base is None and legacy and watch.client_version == current.version:
            # A reconnecting client that holds exactly this: versions are content hashes ("ACK/NACK and resource type
            # instance version" allows not to send it again if the only subscription is, and was, the wildcard).
            watch.sent_version = watch.acked_version = current.version
            return []
        frames = select(current, None if subscription.wildcard else subscription.names, delta=False)
        # The client may take as new what it rejected before, so its children are due too.
        news = frames.names if watch.everything else (changed | asked | subscription.covered(watch.rejected),)
        self._due_children(watch, watch.everything, NO_NAMES if watch.everything else news[0])
        watch.rejected = NO_NAMES
        return [self._respond(watch, current, frames, news)]

    def _partial(self, watch: Watch, current: ResourceSet, change: SharedChange | None) -> list[Response]:
        subscription = watch.subscription
        if watch.everything:
            frames = select(current, None if subscription.wildcard else subscription.names, delta=False)
        else:
            changed = subscription.covered(change.names) if change else NO_NAMES
            wanted = changed | watch.answer | subscription.covered(watch.again)
            if change is not None and len(wanted) == len(changed) == len(change.names):
                frames = Frames((change.sotw_frames,), (change.names,), len(changed)) if changed else Frames()
            else:
                frames = select(current, wanted, delta=False)
        asked = subscription.names if watch.everything else watch.answer
        frames = with_stand_ins(watch.type_url, frames, asked, delta=False)
        if not frames.count and not watch.must_answer:
            return []
        responses = [self._respond(watch, current, frames, frames.names)]
        # What was rejected before goes into a response of its own, so that it cannot spoil this one.
        left = subscription.covered(watch.rejected - frames.all_names()) if watch.rejected else NO_NAMES
        watch.rejected = NO_NAMES
        if left and (rest := select(current, left, delta=False)).count:
            responses.append(self._respond(watch, current, rest, rest.names))
        return responses
