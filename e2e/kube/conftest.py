"""Fixtures for tests against a real API server, one for each test worker."""

from collections.abc import AsyncIterator, Iterator

import pytest

from e2e.kube.client import Client
from e2e.kube.cluster import Cluster
from e2e.kube.crds import install
from e2e.kube.offered import offered


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running API server."""
    yield from offered(tmp_path_factory.mktemp("kube"))


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    """The administrator of a cluster that has all definitions, and nothing that an earlier test left."""
    async with Client(cluster) as administrator:
        await install(administrator)
        await administrator.wipe()
        yield administrator
