"""Warnings never change what is compiled, and every one names its object, field and code: over the golden worlds."""

import pytest

from pypilot.compile.advice import ADVISERS
from pypilot.compile.generators import GENERATORS
from pypilot.engine.advice import Advice
from pypilot.engine.memo import Memo
from pypilot.kinds.codes import CODES
from pypilot.world.reader import Reader
from tests import golden


@pytest.mark.parametrize("name", golden.cases()[::5])
def test_advice_changes_no_bytes(name: str) -> None:
    case = golden.read_case((golden.ROOT / name / "in.yaml").read_text())
    plain = {url: generate(Reader(case.world), case.proxy) for url, generate in GENERATORS.items()}
    memo = Memo(case.world)
    found = Advice(memo, ADVISERS).problems(case.world)
    assert {url: memo.root(generate, case.proxy) for url, generate in GENERATORS.items()} == plain
    for problem in found:
        assert problem.ref is not None
        assert case.world.get(problem.ref) is not None
        assert problem.field.startswith("spec.")
        assert problem.code in CODES
        assert problem.severity == "warning"
