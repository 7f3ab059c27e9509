"""The Docker engine to use, through its command line. Knows nothing of our images.

`DOCKER_HOST` and the other variables of the command line hold as they are; BuildKit is always asked for.
"""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class UnavailableError(Exception):
    """Something that is needed is not to be had here; says what in one line."""


class EngineError(Exception):
    """A command failed; with the end of what it printed."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A Docker engine that answers."""

    environment: Mapping[str, str]

    def run(self, *arguments: str, stdin: str | None = None, cwd: Path | None = None, seconds: float = 1200) -> str:
        """Run `docker ARGUMENTS`; its standard output.

        Raises:
            EngineError: it failed, or took too long.
        """
        command = ["docker", *arguments]
        try:
            done = subprocess.run(
                command, input=stdin, cwd=cwd, env=self.environment, capture_output=True, text=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            raise EngineError(f"{' '.join(command[:4])} … is not done after {seconds:.0f} s") from None
        if done.returncode:
            end = "\n".join((done.stdout + done.stderr).strip().splitlines()[-40:])
            raise EngineError(f"{' '.join(command)}: exit code {done.returncode}\n{end}")
        return done.stdout

    def has_image(self, name: str) -> bool:
        """Whether the engine has an image already."""
        try:
            self.run("image", "inspect", name)
        except EngineError:
            return False
        return True

    def can_have_image(self, name: str) -> bool:
        """Whether the engine has an image, or can pull it."""
        if self.has_image(name):
            return True
        try:
            self.run("pull", "--quiet", name, seconds=300)
        except EngineError:
            return False
        return True

    def build(self, dockerfile: Path, directory: Path, tag: str, arguments: Mapping[str, str]) -> None:
        """Build an image.

        Raises:
            EngineError: it cannot be built.
        """
        given: Sequence[str] = [part for k, v in arguments.items() for part in ("--build-arg", f"{k}={v}")]
        self.run("build", "--file", str(dockerfile), "--tag", tag, *given, str(directory))


def find_engine(environment: Mapping[str, str]) -> Engine:
    """The engine that the `docker` on PATH reaches.

    Raises:
        UnavailableError: there is none, or it cannot build with BuildKit.
    """
    if shutil.which("docker", path=environment.get("PATH")) is None:
        raise UnavailableError("needs a Docker engine: there is no docker on PATH")
    engine = Engine({**environment, "DOCKER_BUILDKIT": "1"})
    try:
        engine.run("version", "--format", "{{.Server.Version}}", seconds=60)
    except EngineError as error:
        raise UnavailableError(f"needs a Docker engine: {str(error).splitlines()[-1]}") from None
    try:
        engine.run("build", "--help", seconds=60)
    except EngineError as error:
        raise UnavailableError(f"needs docker build with BuildKit: {str(error).splitlines()[-1]}") from None
    return engine
