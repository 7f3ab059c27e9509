"""TokenReview and its memory: XAUTH-001."""

import asyncio
import base64
import json

import pytest
from structlog.testing import capture_logs

from pypilot.kube.errors import ApiError, UnreachableError
from pypilot.kube.token_review import (
    Bearer,
    ReviewLimits,
    TokenRefusedError,
    TokenReviews,
    TokenUnknownError,
    parse_service_account,
)
from pypilot.xds.auth import DeniedError, Identity, Peer
from pypilot.xds.token import TokenAuthenticator
from tests.kube.fake_api import FakeApi

PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
USER = "system:serviceaccount:shop:seller"
NOW = 1_000_000.0


def jwt(seconds=3600.0, **claims):
    payload = base64.urlsafe_b64encode(json.dumps({"exp": NOW + seconds, **claims}).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2lnbmF0dXJl"


class Clock:
    def __init__(self):
        self.passed = 0.0

    def clock(self):
        return 50.0 + self.passed

    def now(self):
        return NOW + self.passed


def accepted(username=USER, audiences=("istio-ca",), **extra):
    user = {"username": username, "uid": "u", "extra": extra}
    return {"status": {"authenticated": True, "user": user, "audiences": list(audiences)}}


@pytest.fixture
def api():
    api = FakeApi()
    api.answers[PATH] = lambda body: accepted()
    return api


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reviews(api, clock):
    return TokenReviews(api, clock=clock.clock, now=clock.now)


async def test_the_bearer_and_what_is_asked(api, reviews):
    api.answers[PATH] = lambda body: accepted(**{"authentication.kubernetes.io/pod-name": ["pod-1"]})
    assert await reviews.review(jwt()) == Bearer(USER, "u", "pod-1")
    ((method, path, body),) = api.calls
    assert (method, path) == ("POST", PATH)
    assert body["spec"] == {"token": jwt(), "audiences": ["istio-ca"]}


@pytest.mark.parametrize(
    "answer",
    [
        {"status": {"authenticated": False}},
        {"status": {}},
        {},
        accepted(audiences=()),
        accepted(audiences=("vault",)),
        accepted(username=""),
        {"status": {**accepted()["status"], "error": "something"}},
    ],
)
async def test_what_is_not_accepted(api, reviews, answer):
    api.answers[PATH] = lambda body: answer
    with pytest.raises(TokenRefusedError):
        await reviews.review(jwt())


@pytest.mark.parametrize(
    "token", ["", "x", "a.b", "a.b.c.d", "e30.bm90IGpzb24.x", "e30.e30.x", "e30." + "A" * 20_000 + ".x", "é.ü.ß"]
)
async def test_what_is_no_jwt_is_not_even_asked_about(api, reviews, token):
    with pytest.raises(TokenRefusedError):
        await reviews.review(token)
    assert api.calls == []


async def test_an_accepted_token_is_asked_about_once_a_minute(api, reviews, clock):
    for passed, calls in ((0, 1), (59, 1), (61, 2), (119, 2), (122, 3)):
        clock.passed = passed
        await reviews.review(jwt())
        assert len(api.calls) == calls


async def test_an_accepted_token_is_not_remembered_beyond_its_expiry(api, reviews, clock):
    token = jwt(10)
    await reviews.review(token)
    clock.passed = 11
    api.answers[PATH] = lambda body: {"status": {"authenticated": False}}
    with pytest.raises(TokenRefusedError):
        await reviews.review(token)


async def test_a_refused_token_is_asked_about_again_soon(api, reviews, clock):
    api.answers[PATH] = lambda body: {"status": {}}
    for passed, calls in ((0, 1), (4, 1), (6, 2)):
        clock.passed = passed
        with pytest.raises(TokenRefusedError):
            await reviews.review(jwt())
        assert len(api.calls) == calls
    api.answers[PATH] = lambda body: accepted()
    clock.passed = 12
    await reviews.review(jwt())


async def test_those_who_come_together_are_answered_together(api, reviews):
    got = await asyncio.gather(*(reviews.review(jwt()) for _ in range(50)))
    assert len(set(got)) == 1
    assert len(api.calls) == 1


async def test_one_who_gives_up_does_not_spoil_it_for_the_others(api, reviews):
    first = asyncio.create_task(reviews.review(jwt()))
    second = asyncio.create_task(reviews.review(jwt()))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).username == USER
    assert len(api.calls) == 1


@pytest.mark.parametrize(
    "error", [UnreachableError("no answer"), ApiError(500, "x"), ApiError(403, "x"), ApiError(429, "x")]
)
async def test_while_the_server_cannot_be_asked_only_what_was_accepted_goes_on(api, reviews, clock, error):
    known, fresh, refused = jwt(n=1), jwt(n=2), jwt(n=3)
    await reviews.review(known)
    api.answers[PATH] = lambda body: {"status": {}}
    with pytest.raises(TokenRefusedError):
        await reviews.review(refused)
    api.fault = lambda method, path: error
    clock.passed = 300
    await reviews.review(known)
    for token in (fresh, refused):
        with pytest.raises(TokenUnknownError):
            await reviews.review(token)
    clock.passed = 661
    with pytest.raises(TokenUnknownError):
        await reviews.review(known)


async def test_grace_ends_with_the_token(api, reviews, clock):
    token = jwt(120)
    await reviews.review(token)
    api.fault = lambda method, path: UnreachableError("no answer")
    clock.passed = 119
    await reviews.review(token)
    clock.passed = 121
    with pytest.raises(TokenUnknownError):
        await reviews.review(token)


async def test_an_answer_that_is_none(api, reviews):
    api.answers[PATH] = lambda body: ["what"]
    with pytest.raises(TokenUnknownError):
        await reviews.review(jwt())


async def test_the_memory_is_bounded_and_holds_no_token(api, clock):
    reviews = TokenReviews(api, limits=ReviewLimits(entries=3), clock=clock.clock, now=clock.now)
    for n in range(10):
        await reviews.review(jwt(n=n))
    assert reviews.statistics().entries == 3
    assert "e30." not in repr(vars(reviews))
    assert reviews.statistics().accepted == 10


async def test_no_more_than_so_many_reviews_at_a_time(api, clock):
    running = peak = 0

    class Slow(FakeApi):
        async def send(self, *args, **more):
            nonlocal running, peak
            running += 1
            peak = max(peak, running)
            for _ in range(5):
                await asyncio.sleep(0)
            running -= 1
            return await super().send(*args, **more)

    slow = Slow()
    slow.answers = api.answers
    reviews = TokenReviews(slow, limits=ReviewLimits(parallel=4), clock=clock.clock, now=clock.now)
    await asyncio.gather(*(reviews.review(jwt(n=n)) for n in range(40)))
    assert peak == 4


async def test_logs_and_errors_hold_no_token(api, reviews):
    api.fault = lambda method, path: UnreachableError("no answer")
    with capture_logs() as logs, pytest.raises(TokenUnknownError) as error:
        await reviews.review(jwt())
    assert len(logs) == 1
    assert "e30" not in f"{logs} {error.value!r}"


@pytest.mark.parametrize(
    ("username", "account"),
    [
        (USER, ("shop", "seller")),
        ("system:serviceaccount:shop:", None),
        ("system:serviceaccount::seller", None),
        ("system:serviceaccount:a:b:c", None),
        ("system:node:n", None),
        ("system:serviceaccounts:shop:seller", None),
        ("admin", None),
        ("", None),
    ],
)
def test_service_accounts(username, account):
    assert parse_service_account(username) == account


def peer(header):
    return Peer("ipv4:10.0.0.1:1", secure=True, metadata={"authorization": header} if header is not None else {})


async def test_the_authenticator(api, reviews):
    authenticator = TokenAuthenticator(reviews, lambda: "td")
    assert await authenticator.authenticate(peer(f"Bearer {jwt()}")) == Identity("td", "shop", "seller")
    assert await authenticator.authenticate(peer(f"bearer {jwt()}")) == Identity("td", "shop", "seller")
    assert await authenticator.authenticate(peer(None)) is None
    assert await authenticator.authenticate(Peer("ipv4:10.0.0.1:1", secure=True)) is None
    for header in ("Basic eDp5", "Bearer", "Bearer x"):
        with pytest.raises(DeniedError) as error:
            await authenticator.authenticate(peer(header))
        assert error.value.code == "UNAUTHENTICATED"


@pytest.mark.parametrize("username", ["admin", "system:node:n1", "system:serviceaccount:a"])
async def test_only_service_accounts_have_an_identity(api, reviews, username):
    api.answers[PATH] = lambda body: accepted(username)
    with pytest.raises(DeniedError, match="not a service account") as error:
        await TokenAuthenticator(reviews, lambda: "td").authenticate(peer(f"Bearer {jwt()}"))
    assert error.value.code == "UNAUTHENTICATED"


async def test_what_cannot_be_known_now_may_be_tried_again(api, reviews):
    api.fault = lambda method, path: UnreachableError("no answer")
    with pytest.raises(DeniedError) as error:
        await TokenAuthenticator(reviews, lambda: "td").authenticate(peer(f"Bearer {jwt()}"))
    assert error.value.code == "UNAVAILABLE"


def test_a_peer_shows_no_token():
    assert "secret" not in repr(peer("Bearer secret"))
