"""Fixtures: one installation for all tests here, and what is printed when one fails."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from e2e.cluster.installation import Installation, Place, UnavailableError
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.load import Load


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skipped where no cluster is named; under `--dist loadgroup` all share one worker, and so one installation."""
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    reason = _why_no_cluster() if ours else None
    for item in ours:
        item.add_marker(pytest.mark.xdist_group("cluster"))
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def _why_no_cluster() -> str | None:
    try:
        Place.from_environment(os.environ)
    except UnavailableError as error:
        return str(error)
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the pods' state and logs under what failed, as it was then."""
    report = yield
    installation = item.session.stash.get(_INSTALLED, None)
    if report.failed and installation is not None:
        report.sections.append(("the cluster", installation.diagnosis()))
    return report


_INSTALLED = pytest.StashKey[Installation]()


@pytest.fixture(scope="session")
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """pypilot, gateway and application, running."""
    place = Place.from_environment(os.environ)
    kubectl = Kubectl(place.prefix, place.kubeconfig)
    installed = Installation(place, kubectl, tmp_path_factory.mktemp("cluster"))
    try:
        installed.check()
    except UnavailableError as error:
        pytest.skip(str(error))
    request.session.stash[_INSTALLED] = installed
    try:
        installed.load_images()
        installed.install()
        yield installed
    finally:
        installed.remove()


@pytest.fixture
def https(installation: Installation) -> Iterator[Load]:
    """Requests over kept connections that have been answered, with the weights as they were first."""
    installation.send(90, 10)
    with _load(installation, fresh=False) as load:
        load.wait("answers", lambda report: report.answered > 0)
        load.forget()
        yield load


@pytest.fixture
def fresh_https(installation: Installation) -> Iterator[Load]:
    """The same, with a new connection and handshake for each."""
    with _load(installation, fresh=True) as load:
        load.wait("answers", lambda report: report.answered > 0)
        load.forget()
        yield load


def _load(installation: Installation, *, fresh: bool) -> Load:
    place = installation.place
    return Load(place.prefix, installation.address("https"), "shop.example.com", installation.root, fresh=fresh)
