"""Messages in statuses: written where they differ, taken away when solved, those of others kept."""

import asyncio
from collections.abc import Mapping
from typing import Any

from pypilot.cli.manifests.access import rules
from pypilot.kinds import KINDS
from pypilot.kinds.base import Origin, Ref
from pypilot.kinds.codes import CODES
from pypilot.kube.errors import ApiError
from pypilot.upkeep.messages import MessageWriter, message_rules, validation_messages
from pypilot.world.delta import Problem
from tests.kube.fake_api import FakeApi

LIST = "/apis/networking.istio.io/v1/virtualservices"
CLUSTER = "cluster Kubernetes"
FOREIGN = {"type": {"name": "Other", "code": "IST0101"}, "level": "ERROR", "documentationUrl": "https://istio.io/x"}


def path(name: str) -> str:
    return f"/apis/networking.istio.io/v1/namespaces/shop/virtualservices/{name}/status"


def ref(name: str) -> Ref:
    return Ref("VirtualService", "shop", name)


def problem(name: str, code: str = "unknown-host", source: str = CLUSTER) -> Problem:
    return Problem("nobody", "warning", code, ref(name), "spec.hosts[0]", Origin(source))


class Harness:
    """An API server with some VirtualServices; rounds are run one by one."""

    def __init__(self, **present: list[Any]) -> None:
        self.api = FakeApi()
        self.problems: list[Problem] = []
        items = []
        for name, messages in present.items():
            self.api.put(path(name), {"status": {"validationMessages": messages, "kept": 1}})
            metadata = {"namespace": "shop", "name": name}
            items.append({"metadata": metadata, "status": {"validationMessages": messages}})
        self.api.objects[LIST] = {"metadata": {}, "items": items}
        self.now = 0.0
        self._rounds = 0
        self.writer = MessageWriter(
            self.api,
            lambda: validation_messages(self.problems, CLUSTER),
            KINDS,
            clock=lambda: self.now,
            sleep=self._sleep,
        )
        self._task: asyncio.Task[None] | None = None

    async def _sleep(self, seconds: float) -> None:
        self._rounds -= 1
        if self._rounds <= 0:
            raise asyncio.CancelledError

    async def rounds(self, *steps: list[Problem]) -> None:
        """A leader's life of so many rounds, each with its problems."""
        self._rounds = len(steps)
        pending = list(steps)
        original = self.writer._wanted

        def wanted() -> Mapping[Ref, Any]:
            self.problems = pending.pop(0)
            return original()

        self.writer._wanted = wanted
        try:
            await self.writer.run()
        except asyncio.CancelledError:
            pass
        self.writer._wanted = original

    def messages(self, name: str) -> list[Any] | None:
        return self.api.objects[path(name)]["status"]["validationMessages"]


async def test_messages_name_code_level_field_and_page() -> None:
    at = Harness(a=[], b=[])
    await at.rounds([problem("a")])
    assert at.messages("a") == [
        {
            "type": {"name": "unknown-host", "code": "PP0201"},
            "level": "WARNING",
            "documentationUrl": CODES["unknown-host"].url,
            "message": "spec.hosts[0]: nobody",
        }
    ]
    assert at.api.writes() == [("PATCH", path("a"))]
    assert at.api.objects[path("a")]["status"]["kept"] == 1


async def test_what_is_solved_is_taken_away_and_nothing_is_written_twice() -> None:
    at = Harness(a=[])
    await at.rounds([problem("a")], [problem("a")], [], [])
    assert at.messages("a") is None
    assert len(at.api.writes()) == 2
    assert at.writer.statistics().objects == 0


async def test_what_an_earlier_leader_left_is_taken_away() -> None:
    one = Harness(a=[])
    await one.rounds([problem("a")])
    left = one.messages("a")
    assert left
    two = Harness(a=left, b=left)
    await two.rounds([problem("b")])
    assert two.messages("a") is None
    assert two.api.writes() == [("PATCH", path("a"))]


async def test_messages_of_others_stay() -> None:
    at = Harness(a=[FOREIGN])
    await at.rounds([problem("a")])
    assert [m["type"]["name"] for m in at.messages("a") or ()] == ["Other", "unknown-host"]
    await at.rounds([])
    assert at.api.writes() == [("PATCH", path("a"))]  # the list of the second life is what stood at its beginning


async def test_objects_of_files_are_left_alone() -> None:
    at = Harness(a=[])
    await at.rounds([problem("a", source="a.yaml"), problem("a", code="no such code")])
    assert at.api.writes() == []


async def test_an_object_that_cannot_be_written_costs_the_others_nothing() -> None:
    at = Harness(a=[], b=[])
    at.api.fault = lambda method, where: ApiError(403, "no") if where == path("a") else None
    await at.rounds([problem("a"), problem("b")], [problem("a"), problem("b")])
    assert at.messages("b")
    assert at.writer.statistics().errors == {"VirtualService shop/a": "403 no"}
    assert at.api.writes().count(("PATCH", path("a"))) == 1  # not again at once


async def test_an_object_that_is_gone_is_no_error() -> None:
    at = Harness(a=[])
    await at.rounds([problem("gone")])
    assert at.writer.statistics().errors == {}


def test_the_roles_have_the_rules_only_if_asked_for() -> None:
    asked, not_asked = (rules(KINDS, root_namespace="r", write_status=flag) for flag in (True, False))
    for part in ("cluster", "namespace"):
        more = [rule for rule in getattr(asked, part) if rule not in getattr(not_asked, part)]
        assert more == message_rules(KINDS)


def test_only_statuses_may_be_written() -> None:
    rules = message_rules(KINDS)
    assert {group for rule in rules for group in rule["apiGroups"]} == {"networking.istio.io", "security.istio.io"}
    assert all(rule["verbs"] == ["patch"] for rule in rules)
    assert all(resource.endswith("/status") for rule in rules for resource in rule["resources"])
