"""One mesh for all tests of it: with files, and for those that say so another with an API server."""

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from e2e.kube.cluster import Cluster
from e2e.kube.offered import offered
from e2e.mesh.files import Files
from e2e.mesh.kubernetes import api_server
from e2e.mesh.mesh import Mesh, meshed
from e2e.mesh.world import V1, WEB

SHORT = {"SECRET_TTL": "60s"}
"""The shortest that a CA gives: half of a minute is the time to a renewal."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`backing("files", "api-server")`: with what a test is run; files if it says nothing."""
    if "mesh" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("backing")
        metafunc.parametrize("mesh", mark.args if mark else ("files",), indirect=True, scope="package")


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running API server."""
    yield from offered(tmp_path_factory.mktemp("kube"))


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def mesh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """Six pods, a control plane, and the world."""
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv (util-linux), not found here")
    directory = tmp_path_factory.mktemp("backing")
    async with AsyncExitStack() as stack:
        if request.param == "files":
            backing = Files(directory)
        else:
            backing = await stack.enter_async_context(api_server(request.getfixturevalue("cluster"), directory))
        making = meshed(tmp_path_factory.mktemp("mesh"), backing, {WEB.name: SHORT, V1.name: SHORT})
        made = await stack.enter_async_context(making)
        print(f"mesh of {len(made.pods)} pods with {request.param} up in {made.seconds:.1f} s")
        yield made
