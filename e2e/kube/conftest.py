"""Fixtures for tests against a real API server, one for each test worker."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from e2e.kube.binaries import UnavailableError, find_binaries
from e2e.kube.client import Client
from e2e.kube.cluster import Cluster
from e2e.kube.crds import custom_kinds, definition, read_definitions

CRDS_VARIABLE = "PYPILOT_E2E_CRDS"
"""A file or directory of resource definitions to install in place of the permissive ones."""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running API server."""
    try:
        binaries = find_binaries(os.environ)
    except UnavailableError as error:
        pytest.skip(str(error))
    running = Cluster(binaries, tmp_path_factory.mktemp("kube"))
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    """The administrator of a cluster that has all definitions, and nothing that an earlier test left."""
    async with Client(cluster) as administrator:
        given = os.environ.get(CRDS_VARIABLE)
        wanted = {f"{k.plural}.{k.group}": definition(k) for k in custom_kinds()}
        for crd in read_definitions(Path(given)) if given else ():
            wanted[crd["metadata"]["name"]] = crd
        present = await administrator.definitions()
        await administrator.apply_all(crd for name, crd in wanted.items() if name not in present)
        await administrator.wipe()
        yield administrator
