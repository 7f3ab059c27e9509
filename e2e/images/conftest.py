"""Fixtures: the engine, our images on it, and the docker-compose example running."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.images.build import Images, build_images
from e2e.images.compose import Compose
from e2e.images.engine import Engine, UnavailableError, find_engine

TAG = "e2e"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skipped where there is no engine; under `--dist loadgroup` all share one worker, and so one engine's names."""
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    reason = _why_no_engine() if ours else None
    for item in ours:
        item.add_marker(pytest.mark.xdist_group("images"))
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def _why_no_engine() -> str | None:
    try:
        find_engine(os.environ)
    except UnavailableError as error:
        return str(error)
    return None


@pytest.fixture(scope="session")
def engine() -> Engine:
    """A Docker engine."""
    return find_engine(os.environ)


@pytest.fixture(scope="session")
def images(engine: Engine) -> Images:
    """Names of the images, just built."""
    try:
        return build_images(engine, TAG)
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def compose(engine: Engine, images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """The example, up, with a copy of its files to edit."""
    running = Compose(engine, images, tmp_path_factory.mktemp("compose"), os.environ)
    try:
        running.check()
    except UnavailableError as error:
        pytest.skip(str(error))
    try:
        running.up()
        yield running
    finally:
        running.down()
