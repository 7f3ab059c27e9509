"""Whose token is it? Asked of the API server by TokenReview, with a memory that is short and never holds a token.

A token that the server once took may be used while the server cannot be asked, for a bounded time and never beyond its
own expiry; one that it never took is not believed. Says nothing about what its bearer may do.

Source: authentication.k8s.io/v1 TokenReview; XAUTH-001.
"""

import asyncio
import base64
import binascii
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec
import structlog

from pypilot.kube.connection import JSON, Answer
from pypilot.kube.errors import FAILURES, ApiError

_PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
_LONGEST_TOKEN = 16 * 1024


class Sender(Protocol):
    """The part of a connection that is needed."""

    async def send(
        self, method: str, path: str, body: object, content_type: str = JSON, seconds: float = 30.0
    ) -> Answer:
        """One request; raises like `WritingConnection.send`."""
        ...


class TokenRefusedError(Exception):
    """The token is no good; says why, without the token."""


class TokenUnknownError(Exception):
    """The API server could not be asked."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whose token it is."""

    username: str
    uid: str = ""
    pod: str = ""
    """The pod that the token is bound to, if it is."""


@dataclass(frozen=True, slots=True)
class ReviewLimits:
    """Seconds and counts."""

    accepted: float = 60.0
    """After which an accepted token is reviewed again."""
    refused: float = 5.0
    """Likewise for one that was refused."""
    grace: float = 600.0
    """How long an accepted token goes on while the API server cannot be asked."""
    entries: int = 10_000
    parallel: int = 32
    request: float = 10.0


@dataclass(frozen=True, slots=True)
class ReviewStatistics:
    """Counters since the start."""

    requests: int
    accepted: int
    refused: int
    failed: int
    entries: int


class _User(msgspec.Struct):
    username: str = ""
    uid: str = ""
    extra: dict[str, list[str]] = {}


class _Status(msgspec.Struct):
    authenticated: bool = False
    user: _User = msgspec.field(default_factory=_User)
    audiences: list[str] = []
    error: str = ""


class _Review(msgspec.Struct):
    status: _Status = msgspec.field(default_factory=_Status)


@dataclass(frozen=True, slots=True)
class _Entry:
    outcome: Bearer | str
    """The bearer, or why the token was refused."""
    fresh_until: float
    usable_until: float


def _expiry(token: str) -> float:
    """`exp` of a JWT, Unix time. Unverified: it only shortens how long an answer is remembered.

    Raises:
        TokenRefusedError: this is no JWT.
    """
    parts = token.split(".")
    try:
        if len(parts) != 3 or len(token) > _LONGEST_TOKEN:
            raise ValueError
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return msgspec.json.decode(payload, type=_Claims).exp
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise TokenRefusedError("the token is not a JWT with an expiry") from None


class _Claims(msgspec.Struct):
    exp: float


class TokenReviews:
    """Asks for one audience."""

    def __init__(
        self,
        connection: Sender,
        audience: str = "istio-ca",
        limits: ReviewLimits | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._connection = connection
        self._audience = audience
        self._limits = limits or ReviewLimits()
        self._clock = clock
        self._now = now
        self._known: OrderedDict[bytes, _Entry] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[_Entry]] = {}
        self._slots = asyncio.Semaphore(self._limits.parallel)
        self._log = structlog.get_logger("pypilot.kubernetes")
        self._failure = ""
        self._counts = {"requests": 0, "accepted": 0, "refused": 0, "failed": 0}

    def statistics(self) -> ReviewStatistics:
        """What was asked and answered."""
        return ReviewStatistics(**self._counts, entries=len(self._known))

    async def review(self, token: str) -> Bearer:
        """Whose token it is.

        Raises:
            TokenRefusedError: nobody's, or it is not for this audience.
            TokenUnknownError: it cannot be known now.
        """
        lifetime = _expiry(token) - self._now()
        key = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        entry = self._known.get(key)
        if entry is None or self._clock() >= entry.fresh_until:
            try:
                entry = await self._ask_once(key, token, lifetime)
            except FAILURES as error:
                self._failed(error)
                if entry is None or isinstance(entry.outcome, str) or self._clock() >= entry.usable_until:
                    raise TokenUnknownError("the API server cannot be asked whose token it is") from None
        if isinstance(entry.outcome, str):
            raise TokenRefusedError(entry.outcome)
        return entry.outcome

    async def _ask_once(self, key: bytes, token: str, lifetime: float) -> _Entry:
        """Those who come with the same token meanwhile wait for the same answer."""
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(key, token, lifetime))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
            task.add_done_callback(lambda t: t.cancelled() or t.exception())  # all who waited may be gone
        return await asyncio.shield(task)

    async def _ask(self, key: bytes, token: str, lifetime: float) -> _Entry:
        limits = self._limits
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._audience]},
        }
        async with self._slots:
            begun = self._clock()
            self._counts["requests"] += 1
            try:
                answer = await self._connection.send("POST", _PATH, body, seconds=limits.request)
                status = msgspec.json.decode(answer.body, type=_Review).status
            except msgspec.DecodeError:
                raise ApiError(502, "the answer is not a TokenReview") from None
        self._succeeded()
        outcome = self._judge(status)
        if isinstance(outcome, str):
            self._counts["refused"] += 1
            entry = _Entry(outcome, begun + limits.refused, begun)
        else:
            self._counts["accepted"] += 1
            fresh = min(limits.accepted, max(lifetime, 0.0))
            entry = _Entry(outcome, begun + fresh, begun + min(fresh + limits.grace, max(lifetime, 0.0)))
        self._known[key] = entry
        self._known.move_to_end(key)
        while len(self._known) > limits.entries:
            self._known.popitem(last=False)
        return entry

    def _judge(self, status: _Status) -> Bearer | str:
        """The server's own words are not passed on: they may quote what they are about."""
        if not status.authenticated or status.error:
            return f"the API server does not take the token for audience {self._audience}"
        if self._audience not in status.audiences:  # a server that knows no audiences would take any token
            return f"the token is not for audience {self._audience}"
        if not status.user.username:
            return "the token names nobody"
        pod = status.user.extra.get("authentication.kubernetes.io/pod-name") or [""]
        return Bearer(status.user.username, status.user.uid, pod[0])

    def _failed(self, error: Exception) -> None:
        self._counts["failed"] += 1
        kind = "refused" if isinstance(error, ApiError) else "unreachable"
        if self._failure != kind:
            self._failure = kind
            self._log.error("tokens cannot be reviewed", error=str(error))

    def _succeeded(self) -> None:
        if self._failure:
            self._failure = ""
            self._log.info("tokens are reviewed again")


def parse_service_account(username: str) -> tuple[str, str] | None:
    """`system:serviceaccount:NAMESPACE:NAME` as a pair; None for any other user."""
    match username.split(":"):
        case ["system", "serviceaccount", namespace, name] if namespace and name:
            return namespace, name
    return None
