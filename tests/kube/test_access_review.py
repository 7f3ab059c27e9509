"""May an account read Secrets: asked once for all, a yes remembered five times longer than a no (SDS-005)."""

import asyncio

import pytest

from pypilot.kube.access_review import SecretAccessReviews
from pypilot.kube.errors import ApiError
from tests.kube.fake_api import FakeApi

PATH = "/apis/authorization.k8s.io/v1/namespaces/shop/localsubjectaccessreviews"


class Harness:
    def __init__(self) -> None:
        self.api = FakeApi()
        self.api.answers[PATH] = lambda body: {**body, "status": {"allowed": self.rights}}
        self.rights = True
        self.now = 100.0
        self.reviews = SecretAccessReviews(self.api, clock=lambda: self.now)

    async def allowed(self, account: str = "gateway") -> bool | None:
        return (await self.reviews.access("shop", account)).allowed

    @property
    def asked(self) -> int:
        return len(self.api.calls)


@pytest.mark.parametrize(("rights", "seconds"), [(True, 300), (False, 60)])
async def test_an_answer_is_remembered(rights: bool, seconds: int) -> None:
    at = Harness()
    at.rights = rights
    assert await at.allowed() is rights
    at.rights = not rights
    at.now += seconds - 1
    found = await at.reviews.access("shop", "gateway")
    assert (found.allowed, found.seconds, at.asked) == (rights, 1, 1)
    at.now += 1
    assert await at.allowed() is not rights
    assert at.asked == 2


async def test_it_is_asked_whether_the_account_may_list_the_secrets_of_its_own_namespace() -> None:
    at = Harness()
    await at.allowed()
    ((_, _, body),) = at.api.calls
    assert body["spec"]["user"] == "system:serviceaccount:shop:gateway"
    assert body["spec"]["resourceAttributes"] == {"namespace": "shop", "verb": "list", "resource": "secrets"}
    assert "system:serviceaccounts:shop" in body["spec"]["groups"]


async def test_those_who_ask_at_once_share_an_answer_but_not_with_another_account() -> None:
    at = Harness()
    assert await asyncio.gather(*(at.allowed() for _ in range(20))) == [True] * 20
    assert at.asked == 1
    at.rights = False
    assert await at.allowed("other") is False
    assert at.reviews.statistics().entries == 2


async def test_who_was_never_asked_about_is_not_known_while_the_server_cannot_be_asked() -> None:
    at = Harness()
    at.api.fault = lambda method, path: ApiError(503, "no")
    found = await at.reviews.access("shop", "gateway")
    assert found.allowed is None
    assert 0 < found.seconds < 2
    at.api.fault = lambda method, path: None
    assert await at.allowed() is None  # not asked again at once
    at.now += 2
    assert await at.allowed() is True


async def test_the_last_answer_holds_while_the_server_cannot_be_asked() -> None:
    at = Harness()
    await at.allowed()
    at.now += 1000
    at.api.fault = lambda method, path: ApiError(503, "no")
    assert await at.allowed() is True
    assert at.reviews.statistics().failed == 1


async def test_an_answer_that_cannot_be_read_is_none() -> None:
    at = Harness()
    at.api.answers[PATH] = lambda body: {"status": {"allowed": "perhaps"}}
    assert await at.allowed() is None


async def test_who_waits_may_go_without_harm_to_the_others() -> None:
    at = Harness()
    first, second = (asyncio.create_task(at.allowed()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second is True
