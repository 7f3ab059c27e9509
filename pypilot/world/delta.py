"""What a source tells the world: objects that are new or changed, references that are gone, and problems found."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pypilot.kinds.base import Object, Origin, Ref, Severity
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.world.key_sets import KeySource


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with the configuration, and where: what a user is shown."""

    message: str
    severity: Severity = "error"
    code: str = "invalid"
    ref: Ref | None = None
    field: str = ""
    """Path of the field, `spec.http[0].timeout`; empty where the whole object or file is meant."""
    origin: Origin | None = None
    """File and line of the field (or of the object), or the cluster."""

    def __str__(self) -> str:
        parts = [str(self.origin) if self.origin else "", str(self.ref) if self.ref else "", self.field]
        return ": ".join([p for p in parts if p] + [self.message])


@dataclass(frozen=True, slots=True)
class Delta:
    """A change. Applying it twice gives the same world as applying it once."""

    upserts: tuple[Object, ...] = ()
    removals: tuple[Ref, ...] = ()
    origins: Mapping[Ref, Origin] = field(default_factory=dict)
    """Where the upserted objects were read; kept apart so that a moved line does not change an object."""
    mesh: MeshConfig | None = None
    """A MeshConfig given apart from the ConfigMap `istio`: once given, it wins over that."""

    key_sets: Mapping[KeySource, str] = field(default_factory=dict)
    """Keys of token issuers; the empty text for a set that is no longer known."""

    def __bool__(self) -> bool:
        return bool(self.upserts or self.removals or self.origins or self.mesh is not None or self.key_sets)
