"""Recorded worlds by way of a real API server, for `bench.parity --source kube`."""

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.kube.binaries import find_binaries
from e2e.kube.client import Client
from e2e.kube.cluster import Cluster
from e2e.kube.following import following
from e2e.kube.worlds import apply_world, documents
from pypilot.cli.manifests.definitions import definitions
from pypilot.engine.loop import Engine
from pypilot.kinds import KINDS


@contextmanager
def cluster_engines() -> Iterator[Callable[[Path], Engine]]:
    """What gives an engine for each recording, which it makes in a cluster of its own first.

    Raises:
        UnavailableError: there is no API server to be had here.
    """
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(find_binaries(os.environ), Path(folder))
        try:
            cluster.start()
            yield lambda scenario: asyncio.run(_engine_for(cluster, scenario))
        finally:
            cluster.stop()


async def _engine_for(cluster: Cluster, scenario: Path) -> Engine:
    mesh = scenario / "mesh.yaml"
    async with Client(cluster) as client:
        await client.apply_all(definitions(KINDS))
        world = documents((scenario / "world.yaml").read_text())
        await apply_world(client, world, mesh.read_text() if mesh.exists() else "")
        async with following(cluster.kubeconfig()) as follower:
            return follower.engine
