"""What the API server must know of the webhook: whom to trust, and whether to insist (VAL-001).

The ValidatingWebhookConfiguration is installed by whoever installs pypilot; here only its `caBundle` is kept right and,
once a wrong object was seen to be denied through the API server, `failurePolicy` becomes Fail, never Ignore. Only for
the leader.
"""

import asyncio
import base64
from collections.abc import Callable, Iterable
from typing import Any, Final

import structlog

from pypilot.kinds.base import Kind
from pypilot.kinds.gateway_validation import KIND as GATEWAY
from pypilot.kube.connection import STRATEGIC_PATCH, WritingConnection
from pypilot.kube.errors import FAILURES, ApiError
from pypilot.kube.objects import Collection, Follower, FollowTimes, patch
from pypilot.kube.retry import Retry

WEBHOOK: Final = "pypilot.validation.istio.io"
PATH: Final = "/validate"
_API = "admissionregistration.k8s.io/v1"
_SETTLE_SECONDS = 1.0


def configuration_name(namespace: str, revision: str = "default") -> str:
    """The name of the ValidatingWebhookConfiguration."""
    return "-".join(["pypilot-validator", *([revision] if revision not in ("", "default") else []), namespace])


def validation_rules(kinds: Iterable[Kind]) -> list[dict[str, Any]]:
    """`webhooks[].rules`: Istio's kinds, as far as pypilot reads them."""
    groups: dict[str, set[str]] = {}
    for kind in kinds:
        if kind.group.endswith("istio.io"):
            groups.setdefault(kind.group, set()).add(kind.plural)
    return [
        {
            "apiGroups": [group],
            "apiVersions": ["*"],
            "operations": ["CREATE", "UPDATE"],
            "resources": sorted(resources),
            "scope": "*",
        }
        for group, resources in sorted(groups.items())
    ]


def webhook_configuration(kinds: Iterable[Kind], namespace: str, revision: str = "default") -> dict[str, Any]:
    """The object to install; it blocks nobody until a running control plane has proved itself."""
    is_default = revision in ("", "default")
    selector = {} if is_default else {"objectSelector": {"matchLabels": {"istio.io/rev": revision}}}
    service = {
        "name": "istiod" if is_default else f"istiod-{revision}",
        "namespace": namespace,
        "path": PATH,
        "port": 443,
    }
    return {
        "apiVersion": _API,
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {
            "name": configuration_name(namespace, revision),
            "labels": {"app": "pypilot", "istio.io/rev": revision or "default"},
        },
        "webhooks": [
            {
                "name": WEBHOOK,
                "clientConfig": {"service": service},
                "rules": validation_rules(kinds),
                "failurePolicy": "Ignore",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 5,
                **selector,
            }
        ],
    }


class Registration:
    """Keeps the configuration right."""

    def __init__(
        self,
        connection: WritingConnection,
        name: str,
        namespace: str,
        bundle: Callable[[], bytes],
        revision: str = "default",
        *,
        times: FollowTimes | None = None,
    ) -> None:
        """`bundle`: the roots that the webhook's certificate leads to, empty while there are none."""
        self.state = "unknown"
        """For people: absent, waiting, Ignore or Fail."""
        self._connection = connection
        self._collection = Collection(_API, "validatingwebhookconfigurations")
        self._name = name
        self._namespace = namespace
        self._bundle = bundle
        self._revision = revision
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
        while True:
            self._wake.clear()
            try:
                pause = await self._look(follower.objects.get(""))
            except FAILURES as error:
                self._say(f"the configuration cannot be changed: {error}")
                pause = self._retry.failed(error.retry_after if isinstance(error, ApiError) else None)
            except Exception:
                self._log.exception("keeping the configuration failed")
                pause = self._retry.failed()
            try:
                async with asyncio.timeout(pause):  # wait_for of Python 3.11 can lose a cancellation
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _look(self, found: dict[str, Any] | None) -> float | None:
        """One round; seconds until the next, None if only a change matters."""
        bundle = base64.b64encode(self._bundle()).decode()
        if found is None or not found.get("webhooks"):
            self.state = "absent"
            self._say("there is no such ValidatingWebhookConfiguration: nothing is validated when it is written")
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
        if not lax:
            self.state = "Fail"
            self._retry.succeeded()
            return None
        self.state = "Ignore"
        reason = await self._test({h["name"] for h in hooks})
        if reason:
            self._say(f"the self-test was not passed: {reason}")
            return self._retry.failed()
        await self._patch(found, {name: {"failurePolicy": "Fail"} for name in lax})
        self._log.info("a wrong object was denied: failurePolicy is Fail from now on")
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

    async def _test(self, webhooks: set[str]) -> str:
        """Try to write a Gateway that is wrong; why it was not us who denied it, empty if it was."""
        reason = ""
        for version in GATEWAY.versions:
            collection = Collection(f"{GATEWAY.group}/{version}", GATEWAY.plural, self._namespace)
            try:
                await self._connection.send("POST", f"{collection.path}?dryRun=All", self._wrong(version), seconds=15.0)
            except ApiError as error:
                if any(f'webhook "{name}" denied' in str(error) for name in webhooks):
                    return ""
                reason = str(error)
                if error.status != 404:
                    return reason
            else:
                return "the API server accepted a wrong object"
        return reason

    def _wrong(self, version: str) -> dict[str, Any]:
        """A server for HTTPS without TLS settings (VAL-005): the schema allows it, the parser does not."""
        port = {"number": 443, "name": "https", "protocol": "HTTPS"}
        return {
            "apiVersion": f"{GATEWAY.group}/{version}",
            "kind": GATEWAY.name,
            "metadata": {
                "name": "pypilot-self-test",
                "namespace": self._namespace,
                "labels": {"istio.io/rev": self._revision},
            },
            "spec": {"selector": {"app": "none"}, "servers": [{"port": port, "hosts": ["*"]}]},
        }

    def _say(self, what: str) -> None:
        """Once, not in every round."""
        if what != self._said:
            self._said = what
            self._log.warning(what)
