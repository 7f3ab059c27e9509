import pytest

from tests.injection.golden import ROOT, cases, outcome


@pytest.mark.parametrize("case", cases())
def test_pair(case, request):
    text = outcome(case)
    path = ROOT / case / "out.yaml"
    if request.config.getoption("--update-golden"):
        path.write_text(text)
    assert path.exists(), "no out.yaml: run pytest --update-golden"
    assert path.read_text() == text


def test_there_are_pairs():
    assert len(cases()) >= 12
