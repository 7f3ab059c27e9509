"""The program of `traffic.py`, run where the cluster's node can be reached, or in a pod."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

from e2e.cluster.kubectl import eventually

ROOT = Path(__file__).resolve().parents[2]
HERE = (sys.executable, "-m", "e2e.cluster.traffic")
"""The program on this machine, whatever its namespaces."""


def anywhere() -> tuple[str, ...]:
    """The program where there is nothing but Python."""
    return "python", "-c", Path(__file__).with_name("traffic.py").read_text()


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the requests since the last `forget`; fields as in `traffic.Counts`."""

    statuses: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    last_version: str = ""
    streak: int = 0
    pods: dict[str, int] = field(default_factory=dict)
    callers: dict[str, int] = field(default_factory=dict)
    serials: dict[str, int] = field(default_factory=dict)
    last_serial: str = ""
    serial_streak: int = 0
    failures: list[str] = field(default_factory=list)
    failed: int = 0

    @property
    def answered(self) -> int:
        return self.statuses.get("200", 0)

    def share(self, version: str) -> float:
        """Of the good answers."""
        return self.versions.get(version, 0) / max(1, self.answered)


class Load(AbstractContextManager["Load"]):
    """Requests from now on until the block ends.

    Args:
        prefix: Command that leads to where the address can be reached.
        address: HOST:PORT.
        host: Whom to ask for.
        root: Authority to trust; then over TLS.
        fresh: A connection of its own for each request.
        program: How the program is run there.
    """

    def __init__(
        self,
        prefix: tuple[str, ...],
        address: str,
        host: str,
        root: Path | None,
        *,
        fresh: bool,
        workers: int = 4,
        program: tuple[str, ...] = HERE,
    ) -> None:
        given = ["--address", address, "--host", host, "--workers", str(workers)]
        given += ["--root", str(root)] if root else []
        given += ["--fresh"] if fresh else []
        self._command = [*prefix, *program, *given]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Load":
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process is not None
        # The end of its input is the end of the program, whichever prefix runs it.
        self._process.communicate(timeout=60)

    def report(self) -> Report:
        """The counts now."""
        return self._say("report")

    def forget(self) -> Report:
        """The counts until now; they begin anew."""
        return self._say("forget")

    def wait(self, what: str, holds: Callable[[Report], bool]) -> Report:
        """Until the counts are so."""
        found: list[Report] = []

        def look() -> bool:
            found[:] = [self.report()]
            return holds(found[0])

        try:
            eventually(what, look)
        except AssertionError as error:
            raise AssertionError(f"{error}; {found[0]}") from None
        return found[0]

    def more(self, count: int) -> Report:
        """Wait until so many more requests have been answered."""
        before = self.report().answered
        return self.wait(f"{count} more answers", lambda report: report.answered >= before + count)

    def _say(self, word: str) -> Report:
        assert self._process is not None
        talk: tuple[IO[str] | None, IO[str] | None] = self._process.stdin, self._process.stdout
        assert talk[0] is not None
        assert talk[1] is not None
        talk[0].write(word + "\n")
        talk[0].flush()
        line = talk[1].readline()
        assert line, f"the load generator has ended with exit code {self._process.wait(60)}"
        return Report(**json.loads(line))
