"""What the API server must know of the webhooks: whom to trust, and whether to insist (VAL-001, INJ-001).

The configurations are installed by whoever installs pypilot; here only their `caBundle` is kept right and, once a test
was passed, `failurePolicy` becomes Fail, never Ignore. Only for the leader.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import structlog

from pypilot.kube.connection import STRATEGIC_PATCH, WritingConnection
from pypilot.kube.errors import FAILURES, ApiError
from pypilot.kube.objects import Collection, Follower, FollowTimes, patch
from pypilot.kube.repair import repair_for_ever
from pypilot.kube.retry import Retry

ConfigurationKind = Literal["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"]
_API = "admissionregistration.k8s.io/v1"
_SETTLE_SECONDS = 1.0


class Registration:
    """Keeps one configuration right."""

    def __init__(
        self,
        connection: WritingConnection,
        kind: ConfigurationKind,
        name: str,
        bundle: Callable[[], bytes],
        test: Callable[[set[str]], Awaitable[str]] | None = None,
        *,
        times: FollowTimes | None = None,
    ) -> None:
        """What to keep.

        Args:
            connection: To the API server.
            kind: Of the configuration.
            name: Its name.
            bundle: The roots that the webhook's certificate leads to, empty while there are none.
            test: Why the webhooks of these names were not seen to work, empty if they were; without one the
                failure policy is left as it was installed.
            times: For tests.
        """
        self.state = "unknown"
        """For people: absent, waiting, Ignore or Fail."""
        self._connection = connection
        self._kind = kind
        self._collection = Collection(_API, f"{kind.lower()}s")
        self._name = name
        self._bundle = bundle
        self._test = test
        self._times = times
        self._wake = asyncio.Event()
        self._retry = Retry(_SETTLE_SECONDS, 60.0)
        self._said = ""
        self._log = structlog.get_logger("pypilot.webhook").bind(configuration=name)

    def bundle_changed(self) -> None:
        """There are other roots."""
        self._wake.set()

    async def run(self) -> None:
        """Follow and repair, for ever."""
        follower = Follower(self._connection, self._collection, self._name, self._wake.set, self._times)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follower.run())
            tasks.create_task(self._keep(follower))

    async def _keep(self, follower: Follower) -> None:
        await follower.synced.wait()

        async def one_round() -> float | None:
            try:
                return await self._look(follower.objects.get(""))
            except FAILURES as error:
                self._say(f"the configuration cannot be changed: {error}")
                return self._retry.failed(error.retry_after if isinstance(error, ApiError) else None)

        await repair_for_ever(one_round, self._wake, self._log, "keeping the configuration failed")

    async def _look(self, found: dict[str, Any] | None) -> float | None:
        """One round; seconds until the next, None if only a change matters."""
        bundle = base64.b64encode(self._bundle()).decode()
        if found is None or not found.get("webhooks"):
            self.state = "absent"
            self._say(f"there is no such {self._kind}: the API server does not ask this webhook")
            return None
        if not bundle:
            self.state = "waiting"
            return None
        hooks = found["webhooks"]
        wrong = [h["name"] for h in hooks if h["clientConfig"].get("caBundle") != bundle]
        if wrong:
            await self._patch(found, {name: {"clientConfig": {"caBundle": bundle}} for name in wrong})
            self._log.info("the webhook's root was written")
            return None  # the watch will show it
        lax = [h["name"] for h in hooks if h.get("failurePolicy") != "Fail"]
        if not lax or self._test is None:
            self.state = "Ignore" if lax else "Fail"
            self._retry.succeeded()
            return None
        self.state = "Ignore"
        reason = await self._test({str(h["name"]) for h in hooks})
        if reason:
            self._say(f"the self-test was not passed: {reason}")
            return self._retry.failed()
        await self._patch(found, {name: {"failurePolicy": "Fail"} for name in lax})
        self._log.info("the self-test was passed: failurePolicy is Fail from now on")
        self._retry.succeeded()
        return None

    async def _patch(self, found: dict[str, Any], changes: dict[str, dict[str, Any]]) -> None:
        """Only what is given, and only if nobody changed the object meanwhile: else the watch brings us back."""
        body = {
            "metadata": {"resourceVersion": found["metadata"]["resourceVersion"]},
            "webhooks": [{"name": name, **change} for name, change in changes.items()],
        }
        try:
            await patch(self._connection, self._collection.named(self._name), body, STRATEGIC_PATCH)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    def _say(self, what: str) -> None:
        """Once, not in every round."""
        if what != self._said:
            self._said = what
            self._log.warning(what)
