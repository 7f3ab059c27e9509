"""Options and profiles of all tests."""

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

# The same examples in every run, so that a run on an unchanged tree cannot turn red; `--hypothesis-profile=search`
# looks for new ones, `thorough` for many.
settings.register_profile("steady", derandomize=True)
settings.register_profile("search", derandomize=False)
settings.register_profile("thorough", derandomize=False, max_examples=2000)
settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what is compiled to tests/golden/*/*/out.yaml")
    parser.addoption("--update-floors", action="store_true", help="raise tests/parity/floors.json to what is reached")


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Commands that run within a test set up logging for their process, which is everybody's here."""
    yield
    structlog.reset_defaults()
