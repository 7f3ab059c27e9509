"""The example of deploy/compose, from a copy of its files: one project with ports of its own beside anybody's."""

import json
import os
import shlex
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from e2e.images.bases import ROOT
from e2e.images.build import Images
from e2e.images.engine import Engine, EngineError, UnavailableError

GETTER = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode())"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Compose:
    """`up`, then use, then `down`."""

    def __init__(self, engine: Engine, images: Images, directory: Path, environment: Mapping[str, str]) -> None:
        """`PYPILOT_E2E_DOCKER_IN` is a command prefix that leads to where the engine publishes ports; may be empty."""
        self.prefix = tuple(shlex.split(environment.get("PYPILOT_E2E_DOCKER_IN", "")))
        self.https_port, debug_port = _free_port(), _free_port()
        variables = {
            "PYPILOT_IMAGE": images.control_plane,
            "PYPILOT_PROXY_IMAGE": images.proxy,
            "HTTPS_PORT": str(self.https_port),
            "DEBUG_PORT": str(debug_port),
        }
        self._engine = Engine({**engine.environment, **variables})
        self._directory = directory
        self._files = directory / "compose"
        self._project = f"pypilot-e2e-{os.getpid()}"

    def check(self) -> None:
        """See that the command is there.

        Raises:
            UnavailableError: it is not.
        """
        try:
            self._engine.run("compose", "version")
        except EngineError:
            raise UnavailableError("needs docker compose") from None

    def up(self) -> None:
        """Start everything and wait until all of it is healthy."""
        shutil.copytree(ROOT / "deploy" / "compose", self._files)
        for path in (self._files, *self._files.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)  # the containers' user is somebody else
        try:
            self("up", "--detach", "--wait", "--no-build", "--quiet-pull")
        except EngineError as error:
            raise EngineError(f"{error}\n{self('logs', '--no-color', '--tail', '100')}") from None
        self.root.write_text(self("exec", "-T", "control-plane", "cat", "/certificate/root.crt"))

    def down(self) -> None:
        """Remove everything."""
        if self._files.exists():
            self("down", "--volumes", "--timeout", "5")

    def __call__(self, *arguments: str) -> str:
        """`docker compose ARGUMENTS`."""
        files = ("--project-name", self._project, "--project-directory", str(self._files))
        return self._engine.run("compose", *files, *arguments, seconds=600)

    @property
    def root(self) -> Path:
        """The authority of the gateway's certificate."""
        return self._directory / "root.crt"

    def config(self, name: str) -> Path:
        """A file that the control plane reads."""
        return self._files / "config" / name

    def get_from(self, service: str, url: str) -> dict[str, object]:
        """What an application is answered when it asks for a URL."""
        seen: dict[str, object] = json.loads(self("exec", "-T", service, "python", "-c", GETTER, url))
        return seen
