"""Fixtures for tests against a real API server, one for each test worker."""

from collections.abc import AsyncIterator, Iterator

import pytest

from e2e.kube.binaries import UnavailableError
from e2e.kube.client import Client
from e2e.kube.cluster import Cluster, running
from e2e.kube.crds import install


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running API server."""
    try:
        with running(tmp_path_factory.mktemp("kube")) as made:
            yield made
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    """The administrator of a cluster that has all definitions, and nothing that an earlier test left."""
    async with Client(cluster) as administrator:
        await install(administrator)
        await administrator.wipe()
        yield administrator
