"""CustomResourceDefinitions, as a signal only: that one of ours came, changed or went.

Only their metadata is asked for (their schemas are megabytes). Where they may not be read, discovery alone tells.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import ClassVar

from pypilot.kinds.base import Kind, Object, ObjectMeta, Origin
from pypilot.kube.connection import Connection
from pypilot.sources.kubernetes.discovery import Served
from pypilot.sources.kubernetes.pace import Pace
from pypilot.sources.kubernetes.reflector import Reflector, Resource
from pypilot.sources.kubernetes.store import Changes


class DefinitionMeta(ObjectMeta, frozen=True):
    """The metadata of a definition; its generation tells of an upgrade."""

    generation: int = 0


class Definition(Object, frozen=True, kw_only=True):
    """The metadata of a CustomResourceDefinition."""

    KIND: ClassVar[str] = "CustomResourceDefinition"

    metadata: DefinitionMeta


KIND = Kind(
    Definition, "apiextensions.k8s.io", ("v1",), "customresourcedefinitions", namespaced=False, open_fields=("*",)
)


class DefinitionWatch:
    """Calls `changed` whenever something happened to a definition of one of the `kinds`."""

    def __init__(self, connection: Connection, kinds: Sequence[Kind], pace: Pace, changed: Callable[[], None]) -> None:
        self._names = {f"{kind.plural}.{kind.group}": kind for kind in kinds if kind.group}
        self.settled = asyncio.Event()
        """Set once the definitions were read, or cannot be read."""
        self._changed = changed
        self._seen: set[Kind] = set()
        resource = Resource(KIND, "v1", metadata_only=True)
        self._reflector = Reflector(connection, resource, Origin(""), pace, self._take)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._reflector.run(), name="watch CustomResourceDefinition")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def expects(self, served: Served) -> bool:
        """True if there is a definition of a kind that is not served yet, as far as is known."""
        return not self._defined() <= served.versions.keys() | served.strange

    def is_defined(self, kind: Kind) -> bool | None:
        """Whether a kind that was defined still is; None where that cannot be told, as of built-in kinds."""
        return kind in self._defined() if kind in self._seen else None

    def _defined(self) -> set[Kind]:
        names = (name for _, name in self._reflector.store.objects)
        return {self._names[name] for name in names if name in self._names}

    def _take(self, changes: Changes) -> None:
        self.settled.set()
        self._seen |= self._defined()
        if any(ref.name in self._names for ref in changes):
            self._changed()
