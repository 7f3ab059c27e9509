"""A control plane with files: objects in a directory, a CA in another, tokens by a key of ours."""

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import jwt
from click.testing import CliRunner

from e2e.mesh.backing import FAST
from e2e.mesh.network import GATE
from e2e.mesh.world import Resident
from e2e.outcomes.objects import Json
from e2e.outcomes.stage import Deliver, Running, files_in
from pypilot.cli.demo.control_plane import ControlPlane
from pypilot.cli.demo.netns import NetworkNamespace
from pypilot.cli.demo.workspace import Workspace
from pypilot.cli.token import token as token_command
from pypilot.security.x509 import CA_CERTIFICATE, CA_KEY, CHAIN, ROOT, Root, make_root, parse_root


@dataclass(slots=True)
class Files:
    """In a directory of its own."""

    directory: Path
    _deliver: Deliver | None = None

    @property
    def roots(self) -> Path:
        """Apart from the CA's: an operator gives roots to the agents when the control plane has them."""
        return self.directory / "published.pem"

    @property
    def _ca(self) -> Path:
        return self.directory / "ca"

    @property
    def _key(self) -> Path:
        return self.directory / "tokens.pem"

    def start(self, work: Workspace, hub: NetworkNamespace) -> Running:
        keys = self.directory / "tokens.json"
        done = CliRunner().invoke(token_command, ["keys", "--key", str(self._key), "--jwks", str(keys)])
        assert done.exit_code == 0, done.output
        self._ca.mkdir()
        self._write(made := make_root("cluster.local", datetime.now(UTC)))
        _put(self.roots, made.bundle)
        self._deliver = files_in(work)
        return ControlPlane.start(
            work.config,
            work.directory("control-plane"),
            options=(
                "--ca-dir",
                str(self._ca),
                "--token-keys",
                str(keys),
                "--secure-grpc-addr",
                f"{GATE}:15012",
                *FAST,
            ),
            prefix=hub.prefix,
            new_socket=lambda: hub.inside(socket.socket),
        )

    async def deliver(self, name: str, objects: Sequence[Json]) -> None:
        assert self._deliver is not None
        await self._deliver(name, objects)

    async def mint(self, who: Resident) -> str:
        return minted(who, self._key.read_text())

    async def authority(self) -> Root:
        return parse_root({path.name: path.read_bytes() for path in self._ca.iterdir()}, datetime.now(UTC))

    async def plug(self, root: Root) -> None:
        self._write(root)

    async def publish(self, bundle: bytes) -> None:
        _put(self.roots, bundle)

    def _write(self, root: Root) -> None:
        """The certificate after its key: what does not belong together is not taken."""
        files = {ROOT: root.bundle, CHAIN: root.certificate + root.chain, CA_KEY: root.key}
        for name, content in {**files, CA_CERTIFICATE: root.certificate}.items():
            _put(self._ca / name, content)


def minted(who: Resident, key: str, seconds: int = 3600, audience: str = "istio-ca") -> str:
    """A token of its service account, by that key."""
    now = int(time.time())
    claims = {"sub": f"system:serviceaccount:{who.namespace}:{who.service_account}", "aud": [audience]}
    return jwt.encode({**claims, "iat": now, "exp": now + seconds}, key, "ES256")


def _put(path: Path, content: bytes) -> None:
    """In one step."""
    draft = path.with_name(f".{path.name}.draft")
    draft.touch(mode=0o600)
    draft.write_bytes(content)
    draft.replace(path)
