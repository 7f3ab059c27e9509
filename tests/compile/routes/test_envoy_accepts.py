"""The real Envoy takes every RouteConfiguration of the golden cases, those with odd input among them."""

import os
from pathlib import Path

import pytest

from tests import golden
from tests.compile.routes.envoy import accepts

CASES = [name for name in golden.cases() if name.startswith("routes/")]


@pytest.mark.envoy
@pytest.mark.parametrize("name", CASES)
def test_envoy_accepts_the_routes(name: str, tmp_path: Path) -> None:
    case = golden.read_case((golden.ROOT / name / "in.yaml").read_text())
    configs = [golden.decode(resource) for resource in golden.generate(case, "RDS")]
    assert configs
    assert accepts(configs, tmp_path, os.environ)
