"""May a service account read the Secrets of its namespace? Asked by LocalSubjectAccessReview, and remembered (SDS-005).

A yes is remembered five times longer than a no. While the API server cannot be asked, the last answer holds; without
one nothing is known.

Source: authorization.k8s.io/v1 LocalSubjectAccessReview, the form that a Role of one namespace can allow.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import structlog

from pypilot.kube.errors import FAILURES, ApiError
from pypilot.kube.retry import Retry
from pypilot.kube.token_review import Sender

_LONGEST_RETRY = 30.0


@dataclass(frozen=True, slots=True)
class AccessLimits:
    """Seconds and counts."""

    allowed: float = 300.0
    denied: float = 60.0
    request: float = 10.0
    entries: int = 10_000


@dataclass(frozen=True, slots=True)
class Access:
    """An answer, and for how many seconds from now it need not be asked again."""

    allowed: bool | None
    """None: it is not known."""
    seconds: float


@dataclass(frozen=True, slots=True)
class AccessStatistics:
    """Counters since the start."""

    requests: int
    failed: int
    entries: int


class _Status(msgspec.Struct):
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _Status = msgspec.field(default_factory=_Status)


class _Account:
    """What is known of one service account."""

    def __init__(self) -> None:
        self.allowed: bool | None = None
        self.fresh_until = 0.0
        self.retry = Retry(1.0, _LONGEST_RETRY)
        self.asking: asyncio.Task[None] | None = None


class SecretAccessReviews:
    """Asks, once for all who want to know the same."""

    def __init__(
        self,
        connection: Sender,
        limits: AccessLimits | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._limits = limits or AccessLimits()
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], _Account] = OrderedDict()
        self._statistics = AccessStatistics(0, 0, 0)
        self._failure = ""
        self._log = structlog.get_logger("pypilot.kubernetes")

    def statistics(self) -> AccessStatistics:
        """What was asked."""
        return replace(self._statistics, entries=len(self._known))

    async def access(self, namespace: str, account: str) -> Access:
        """Whether the account may list the Secrets of its own namespace. Never fails: see `Access.allowed`."""
        key = (namespace, account)
        known = self._known.setdefault(key, _Account())
        self._known.move_to_end(key)
        while len(self._known) > self._limits.entries:
            self._known.popitem(last=False)
        if self._clock() >= known.fresh_until:
            if known.asking is None:
                known.asking = asyncio.create_task(self._ask(known, namespace, account))
            await asyncio.shield(known.asking)
        return Access(known.allowed, max(known.fresh_until - self._clock(), 0.0))

    async def _ask(self, known: _Account, namespace: str, account: str) -> None:
        self._statistics = replace(self._statistics, requests=self._statistics.requests + 1)
        try:
            known.allowed = await self._review(namespace, account)
            lasts = self._limits.allowed if known.allowed else self._limits.denied
            known.retry.succeeded()
            self._failure = ""
        except FAILURES as error:
            self._failed(error)
            lasts = known.retry.failed(error.retry_after if isinstance(error, ApiError) else None)
        finally:
            known.asking = None
        known.fresh_until = self._clock() + lasts

    async def _review(self, namespace: str, account: str) -> bool:
        path = f"/apis/authorization.k8s.io/v1/namespaces/{namespace}/localsubjectaccessreviews"
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "LocalSubjectAccessReview",
            "metadata": {"namespace": namespace},
            "spec": {
                "user": f"system:serviceaccount:{namespace}:{account}",
                "groups": [
                    "system:serviceaccounts",
                    f"system:serviceaccounts:{namespace}",
                    "system:authenticated",
                ],
                "resourceAttributes": {"namespace": namespace, "verb": "list", "resource": "secrets"},
            },
        }
        answer = await self._connection.send("POST", path, body, seconds=self._limits.request)
        try:
            return msgspec.json.decode(answer.body, type=_Review).status.allowed
        except msgspec.DecodeError:
            raise ApiError(502, "the answer is not a LocalSubjectAccessReview") from None

    def _failed(self, error: Exception) -> None:
        self._statistics = replace(self._statistics, failed=self._statistics.failed + 1)
        kind = "refused" if isinstance(error, ApiError) else "unreachable"
        if self._failure != kind:
            self._failure = kind
            self._log.error("it cannot be asked who may read secrets", error=str(error))
