"""The API server as tests get it: running, or not at all. `cluster.py` itself is for others than tests, too."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.kube.binaries import UnavailableError
from e2e.kube.cluster import Cluster, running


def offered(directory: Path) -> Iterator[Cluster]:
    """For a fixture: a cluster until its end; whoever wants it is skipped where there are no programs for one."""
    try:
        with running(directory) as made:
            yield made
    except UnavailableError as error:
        pytest.skip(str(error))
