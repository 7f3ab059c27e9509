"""Reads the JSON access log that an Envoy writes to a file: where response flags and upstream clusters are seen.

Knows no field names but those that its callers ask for.
"""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

Entry: TypeAlias = dict[str, Any]
_POLL_SECONDS = 0.02


class AccessLog:
    """The access log of one Envoy."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mark(self) -> int:
        """The present end: pass it to `wait_for` to see only what comes later."""
        return self.path.stat().st_size if self.path.exists() else 0

    def entries(self, since: int = 0) -> list[Entry]:
        """All whole entries from an offset on; lines that are no JSON object are passed over."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(since)
            whole = file.read().rpartition(b"\n")[0]
        found = []
        for line in whole.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                found.append(entry)
        return found

    async def wait_for(self, wanted: Callable[[Entry], bool], *, since: int = 0, timeout: float = 5.0) -> Entry | None:  # noqa: ASYNC109
        """The first wanted entry, or None if it does not come in time. Envoy writes its log with a delay."""
        deadline = time.monotonic() + timeout
        while True:
            for entry in self.entries(since):
                if wanted(entry):
                    return entry
            if time.monotonic() > deadline:
                return None
            await asyncio.sleep(_POLL_SECONDS)
