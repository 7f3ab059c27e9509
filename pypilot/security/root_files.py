"""The root of the control plane's certificates in a directory, in the form of Istio's `cacerts` (CA-006).

Made there if the directory has none, and followed when the files change, so that a root is rotated by replacing them.
A file of ours is never written over. Keys show in no message.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from pypilot.security.x509 import CA_CERTIFICATE, CA_KEY, CHAIN, ROOT, Root, make_root, parse_root

_LOOK_SECONDS: Final = 1.0
_FILES: Final = (CA_CERTIFICATE, CA_KEY, CHAIN, ROOT)

Stamp = tuple[tuple[int, int, int], ...]


class RootFiles:
    """Follows the directory."""

    def __init__(
        self,
        directory: Path,
        organization: str = "cluster.local",
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.root: Root | None = None
        self.trouble = "the directory was not looked at yet"
        """Why there is no root, or not the one that is there now; empty if all is well."""
        self._directory = directory
        self._organization = organization
        self._now = now
        self._sleep = sleep
        self._seen: Stamp | None = None
        self._listeners: list[Callable[[], None]] = []
        self._log = structlog.get_logger("pypilot.security")

    def listen(self, changed: Callable[[], None]) -> None:
        """Be told when there is another root."""
        self._listeners.append(changed)

    async def run(self) -> None:
        """Follow, for ever."""
        while True:
            self.look()
            await self._sleep(_LOOK_SECONDS)

    def look(self) -> None:
        """Take what is there now, if it is whole: files are replaced one after the other."""
        try:
            self._make_if_absent()
            if (stamp := self._stamp()) == self._seen:
                return
            files = {name: path.read_bytes() for name in _FILES if (path := self._directory / name).is_file()}
            if self._stamp() != stamp:
                return
            root = parse_root(files, self._now())
        except (OSError, ValueError) as error:
            self._refuse(f"{self._directory}: {_said(error)}")
            return
        self._seen, self.trouble = stamp, ""
        if root == self.root:
            return
        self.root = root
        self._log.info("root", directory=str(self._directory), root=root.fingerprint)
        for changed in self._listeners:
            changed()

    def _make_if_absent(self) -> None:
        """Only where there is no file of a CA; the certificate comes last, so what is half made is not taken."""
        if any((self._directory / name).exists() for name in _FILES):
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        root = make_root(self._organization, self._now())
        _write(self._directory / CA_KEY, root.key, 0o600)
        _write(self._directory / ROOT, root.bundle, 0o644)
        _write(self._directory / CA_CERTIFICATE, root.certificate, 0o644)
        self._log.info("root made", directory=str(self._directory), root=root.fingerprint)

    def _stamp(self) -> Stamp:
        stats = [path.stat() for name in _FILES if (path := self._directory / name).exists()]
        return tuple((s.st_mtime_ns, s.st_ino, s.st_size) for s in stats)

    def _refuse(self, text: str) -> None:
        if text != self.trouble:
            self.trouble = text
            self._log.error("the root cannot be used", reason=text, kept=self.root is not None)


def _said(error: Exception) -> str:
    return (
        f"{Path(error.filename).name}: {error.strerror}"
        if isinstance(error, OSError) and error.filename
        else str(error)
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
