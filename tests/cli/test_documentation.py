"""What the documentation shows is true: its objects are ones that pypilot takes."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from pypilot.cli.main import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def objects(page: Path) -> list[str]:
    return [block for block in _BLOCK.findall(page.read_text()) if re.search(r"^apiVersion:", block, re.MULTILINE)]


def test_there_are_objects() -> None:
    assert sum(len(objects(page)) for page in PAGES) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_objects_are_taken(page: Path, tmp_path: Path) -> None:
    for number, text in enumerate(objects(page)):
        (tmp_path / f"{number}.yaml").write_text(text)
    result = CliRunner().invoke(main, ["validate", str(tmp_path)])
    assert result.exit_code == 0, result.output
    # What they refer to is left out of an example; what they say has to mean something.
    said = [line for line in result.stdout.splitlines() if "[unknown-" not in line or "[unknown-field]" in line]
    assert said == []
