"""One mesh for all tests of it."""

import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from e2e.mesh.mesh import Mesh, meshed
from e2e.mesh.world import V1, WEB

SHORT = {"SECRET_TTL": "60s"}
"""The shortest that a CA gives: half of a minute is the time to a renewal."""


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """Six pods, a control plane, and the world."""
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv (util-linux), not found here")
    async with meshed(tmp_path_factory.mktemp("mesh"), {WEB.name: SHORT, V1.name: SHORT}) as made:
        print(f"mesh of {len(made.pods)} pods up in {made.seconds:.1f} s")
        yield made
