"""A MeshConfig in a file of its own (`--mesh-config`): it wins over the ConfigMap. Pure bookkeeping."""

from pypilot.kinds.base import Origin
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.kinds.mesh_config_parse import mesh_line_of, parse_mesh_config
from pypilot.sources.file_store import Unreadable
from pypilot.world.delta import Problem


class MeshFile:
    """The last good MeshConfig of one file, and what is wrong with the file now."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.problems: tuple[Problem, ...] = ()
        self._good: MeshConfig | None = None
        self._told: MeshConfig | None = None

    def changed(self) -> MeshConfig | None:
        """The MeshConfig in force if it is another one than the last call gave, else None."""
        now = self._good if self._good is not None else MeshConfig()
        if now == self._told:
            return None
        self._told = now
        return now

    def put(self, content: str | Unreadable | None) -> None:
        """Take new content; what cannot be used leaves the last good MeshConfig in force (MESH-002)."""
        stays = "the last good version stays in force" if self._good is not None else "Istio's defaults are in force"
        if not isinstance(content, str):
            reason = content.reason if isinstance(content, Unreadable) else "no such file"
            message = f"MeshConfig cannot be read: {reason}; {stays}"
            self.problems = (Problem(message, code="unreadable", origin=Origin(self.path)),)
        else:
            mesh, findings = parse_mesh_config(content)
            self.problems = tuple(
                Problem(
                    f"{finding.message}; {stays}" if mesh is None and finding.severity == "error" else finding.message,
                    finding.severity,
                    finding.code,
                    field=finding.field,
                    origin=Origin(self.path, mesh_line_of(content, finding.field) + 1 if finding.field else 0),
                )
                for finding in findings
            )
            if mesh is not None:
                self._good = mesh
