"""The record of checks, what is shown of it, and the loop over the steps."""

import io
import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from rich.console import Console

from pypilot.cli.demo.checks import CheckFailedError, Checks, settled, split_bounds
from pypilot.cli.demo.process import ChildDiedError
from pypilot.cli.demo.report import Reporter, as_json, table
from pypilot.cli.demo.stage import Stage
from pypilot.cli.demo.steps import Step, run_steps


def recorded() -> tuple[Checks, io.StringIO, Console]:
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=False)
    return Checks(Reporter(console)), out, console


def test_nothing_checked_is_not_a_success() -> None:
    checks, _, _ = recorded()
    assert not checks.ok


def test_a_failing_check_says_what_was_expected_and_seen() -> None:
    checks, out, _ = recorded()
    checks.begin(1, "Title")
    checks.equal("status", 200, 200)
    assert as_json(checks, ["Title"], 0).count('"ok": true') == 2
    with pytest.raises(CheckFailedError, match="status: expected 200, seen 503"):
        checks.equal("status", 200, 503)
    assert not checks.ok
    assert "✗ status" in out.getvalue()
    assert "expected 200" in out.getvalue()
    assert "seen     503" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_the_table_and_the_json_tell_the_same() -> None:
    checks, out, console = recorded()
    checks.begin(1, "One")
    checks.equal("a [bracket]", "x", "x")
    checks.begin(2, "Two")
    checks.leave_out("needs root")
    console.print(table(checks, ["One", "Two", "Three"]))
    text = out.getvalue()
    assert "a [bracket]" in text
    assert "left out: needs root" in text
    assert "not reached" in text
    told = json.loads(as_json(checks, ["One", "Two", "Three"], 1.234))
    assert told["ok"] is True
    assert told["seconds"] == 1.2
    assert [s["left_out"] for s in told["steps"]] == [None, "needs root", None]
    assert told["steps"][0]["checks"] == [{"what": "a [bracket]", "expected": "x", "seen": "x", "ok": True}]


@pytest.mark.parametrize(("trials", "share"), [(500, 0.2), (500, 0.8), (300, 0.5)])
def test_split_bounds_let_the_right_split_pass_and_others_not(trials: int, share: float) -> None:
    low, high = split_bounds(trials, share)
    assert low <= trials * share <= high
    # Far fewer than all requests, and no neighbour that a wrong weight would give.
    assert high - low < trials * 0.3
    assert not low <= trials * (1 - share) <= high or share == 0.5
    assert not low <= 0 <= high


async def test_settled_asks_until_the_answer_is_good() -> None:
    answers: Iterator[int | Exception] = iter([ConnectionError(), 1, 2, 3])

    async def ask() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await settled(ask, lambda n: n == 2, ignoring=ConnectionError) == 2


async def test_settled_gives_the_last_answer_when_time_runs_out() -> None:
    async def ask() -> int:
        return 7

    assert await settled(ask, lambda n: n == 8, seconds=0.05) == 7


class FakeChild:
    def __init__(self, alive: bool) -> None:
        self._alive = alive

    def check(self) -> None:
        if not self._alive:
            raise ChildDiedError("gateway ended with code 139")


class FakeStage:
    """Only what the loop over the steps looks at."""

    def __init__(self) -> None:
        self.gateway_alive = True

    @property
    def control_plane(self) -> Any:
        return type("C", (), {"child": FakeChild(True)})

    @property
    def envoys(self) -> list[Any]:
        return [type("E", (), {"child": FakeChild(self.gateway_alive)})]


async def run(monkeypatch: pytest.MonkeyPatch, *steps: Any) -> Checks:
    checks, _, _ = recorded()
    monkeypatch.setattr("pypilot.cli.demo.steps.STEPS", tuple(Step(f"step {i}", s) for i, s in enumerate(steps)))
    await run_steps(cast(Stage, FakeStage()), checks)
    return checks


async def good(_stage: Any, checks: Checks) -> None:
    checks.equal("good", 1, 1)


async def bad(_stage: Any, checks: Checks) -> None:
    checks.equal("bad", 1, 2)
    checks.equal("after bad", 1, 1)


async def crashing(_stage: Any, _checks: Checks) -> None:
    raise ValueError("unforeseen")


async def deadly(stage: Any, checks: Checks) -> None:
    checks.equal("before death", 1, 1)
    stage.gateway_alive = False


async def test_a_failed_step_ends_at_its_failure_and_the_next_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = await run(monkeypatch, bad, good)
    assert [(r.what, r.ok) for r in checks.rows] == [("bad", False), ("good", True)]
    assert not checks.ok


async def test_an_unforeseen_error_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = await run(monkeypatch, crashing, good)
    assert not checks.ok
    assert checks.rows[0].seen == "ValueError: unforeseen"


async def test_a_dead_child_ends_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = await run(monkeypatch, deadly, good)
    assert [(r.what, r.ok) for r in checks.rows] == [("before death", True), ("every process still runs", False)]
    assert "gateway ended with code 139" in checks.rows[1].seen
