"""What stands behind a control plane of the mesh: where its configuration, its CA and the accounts' tokens are.

Files or an API server; a test sees no difference unless it asks for one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from e2e.mesh.world import Resident
from e2e.outcomes.objects import Json
from e2e.outcomes.stage import Running
from pypilot.cli.demo.netns import NetworkNamespace
from pypilot.cli.demo.workspace import Workspace
from pypilot.security.x509 import Root

FAST = ("--jwks-refresh", "1")
"""Options of the control plane: what takes long takes less."""


class Backing(Protocol):
    """Files or an API server."""

    @property
    def roots(self) -> Path:
        """The file by which agents know the control plane; there once it is ready."""
        ...

    def start(self, work: Workspace, hub: NetworkNamespace) -> Running:
        """A control plane in the hub."""
        ...

    async def deliver(self, name: str, objects: Sequence[Json]) -> None:
        """For the stage."""
        ...

    async def mint(self, who: Resident) -> str:
        """A token of its service account."""
        ...

    async def authority(self) -> Root:
        """The CA that signs."""
        ...

    async def plug(self, root: Root) -> None:
        """Let this be the CA, as an operator does it."""
        ...

    async def publish(self, bundle: bytes) -> None:
        """Returns when these roots are in all agents' file."""
        ...
