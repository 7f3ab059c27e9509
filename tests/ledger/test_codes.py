"""Every code that is used is registered and explained, and the other way round."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from pypilot.kinds.codes import CODES, GROUPS
from tests.ledger import warnings_page
from tests.ledger.consumption import ROOT

POSITION = {"Finding": 3, "Problem": 2, "Defect": 3}
"""Where the code stands among the arguments."""
NAMED = {"CODE"}


def _used(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.AnnAssign | ast.Assign) and isinstance(node.value, ast.Constant):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id in NAMED for t in targets) and isinstance(node.value.value, str):
                yield node.value.value, f"{path.name}:{node.lineno}"
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in POSITION):
            continue
        at = POSITION[node.func.id]
        code = next((k.value for k in node.keywords if k.arg == "code"), node.args[at] if len(node.args) > at else None)
        if isinstance(code, ast.Constant):
            yield code.value, f"{path.name}:{node.lineno}"


def used() -> list[tuple[str, str]]:
    return [found for path in sorted((ROOT / "pypilot").rglob("*.py")) for found in _used(path)]


def test_every_code_in_use_is_registered() -> None:
    assert [(code, where) for code, where in used() if code not in CODES] == []


def test_every_registered_code_is_in_use() -> None:
    sources = [path for path in (ROOT / "pypilot").rglob("*.py") if path.name != "codes.py"]
    texts = {n.value for path in sources for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)}
    assert {*CODES} - texts == set()


def test_numbers_are_unique_and_grouped() -> None:
    numbers = [code.number for code in CODES.values()]
    assert len(set(numbers)) == len(numbers)
    assert all(number[:4] in GROUPS and len(number) == 6 for number in numbers)
    assert numbers == sorted(numbers)


def test_the_page_is_fresh(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        warnings_page.PATH.write_text(warnings_page.render())
    assert warnings_page.PATH.read_text() == warnings_page.render(), "run pytest tests/ledger --update-golden"
