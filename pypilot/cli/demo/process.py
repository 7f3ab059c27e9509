"""Child processes with their output in files, stopped by their own pid and no other.

Knows neither Envoy nor the control plane.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_LAUNCH = Path(__file__).with_name("launch.py")
_STOP_GRACE_SECONDS = 5.0


class ChildDiedError(RuntimeError):
    """A child process ended by itself; the message holds the last lines that it wrote."""


class Child:
    """A running child process."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, stdout: Path, stderr: Path) -> None:
        self._process = process
        self.name = name
        self.stdout = stdout
        self.stderr = stderr

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        argv: Sequence[str],
        directory: Path,
        *,
        name: str,
        prefix: Sequence[str] = (),
        uid: int = -1,
        environment: Mapping[str, str] | None = None,
    ) -> AsyncIterator["Child"]:
        """Run `argv` until the block ends; output goes to `directory/NAME.out` and `NAME.err`.

        Args:
            argv: The program and its arguments.
            directory: Where the output files are made.
            name: What to call it in messages and file names.
            prefix: Command that runs another in some place (`ip netns exec NAME`); it must exec, to keep the pid.
            uid: User and group to run as; negative for the present one. Needs root.
            environment: Its variables, if not ours.
        """
        stdout, stderr = directory / f"{name}.out", directory / f"{name}.err"
        launcher = [*prefix, sys.executable, "-I", "-S", str(_LAUNCH), str(uid), *argv]
        with stdout.open("wb") as out, stderr.open("wb") as err:
            if uid >= 0:
                shutil.chown(stdout, uid, uid)
            # Its own session: Ctrl-C reaches the demo alone, which then stops its children in order.
            process = await asyncio.create_subprocess_exec(
                *launcher,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                env=environment,
            )
        child = cls(process, name, stdout, stderr)
        try:
            yield child
        finally:
            await child.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    def tail(self, lines: int = 15) -> str:
        """The last lines of its standard error."""
        text = self.stderr.read_text(errors="replace") if self.stderr.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def check(self) -> None:
        """Raises ChildDiedError if it has ended."""
        if not self.running:
            code = self._process.returncode
            raise ChildDiedError(f"{self.name} ended with code {code}; its last lines:\n{self.tail()}")

    async def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL if it takes too long."""
        if not self.running:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
            try:
                async with asyncio.timeout(_STOP_GRACE_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                os.kill(self.pid, signal.SIGKILL)
                await self._process.wait()
