import pytest

from tests import golden


@pytest.mark.parametrize("name", golden.cases())
def test_golden(name: str, request: pytest.FixtureRequest) -> None:
    folder = golden.ROOT / name
    case = golden.read_case((folder / "in.yaml").read_text())
    assert case.show, "in.yaml needs `show:`"
    assert case.findings == case.expected_findings
    text = golden.render(golden.compile_case(case))
    expected = folder / "out.yaml"
    if request.config.getoption("--update-golden"):
        expected.write_text(text)
        return
    assert expected.exists(), "no out.yaml: run pytest --update-golden"
    assert text == expected.read_text()
