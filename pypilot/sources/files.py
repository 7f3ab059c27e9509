"""Files and directories as a source: read at the start, watched for changes, only what changed is read again.

A change is handed over at once; waiting until it is quiet is the engine's business. A reading that takes something away
from a file is only believed when a second look a moment later says the same, because editors truncate or move a file
before they write it.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock

from watchfiles import awatch

from pypilot.kinds.base import Origin
from pypilot.sources.file_store import FileStore
from pypilot.sources.mesh_file import MeshFile
from pypilot.sources.tree import SUFFIXES, Scan, Signature, read_text, scan, signature
from pypilot.sources.update import Update
from pypilot.world.delta import Problem

_STEP_MS = 10
"""Events are handed over when no other followed for so long."""
_GATHER_MS = 40
"""Events are gathered for at most so long."""
_SECOND_LOOK_SECONDS = 0.02
_RESCAN_MS = 10_000
"""Without any event, everything is looked at again after so long: some mounted file systems send no events."""
_POLL_SECONDS = 1.0
"""How often everything is looked at where the system cannot watch."""


class FileSource:
    """Kubernetes and Istio objects from `paths` (files and directories), MeshConfig from a file if one is given."""

    def __init__(self, paths: Sequence[str | Path], mesh_config: str | Path | None = None) -> None:
        self._paths = tuple(paths)
        self._mesh = MeshFile(str(mesh_config)) if mesh_config else None
        self._mesh_key = os.path.abspath(mesh_config) if mesh_config else ""  # noqa: PTH100 - links are not followed
        self._store = FileStore()
        self._scan = Scan({}, (), frozenset(), frozenset(), {})
        self._signatures: dict[str, Signature | None] = {}
        self._shown: dict[str, str] = {}
        self._watch_problem: tuple[Problem, ...] = ()
        self._problems: tuple[Problem, ...] = ()
        self._lock = Lock()  # reading happens in a thread, so that a large file does not hold up the streams

    # -- reading ------------------------------------------------------------------------------------------------------

    def initial(self) -> Update:
        """Read everything. Blocking."""
        with self._lock:
            self._read(self._rescan(), is_second_look=True)
            return self._update()

    def locate(self, problem: Problem) -> Problem:
        """The same problem at the line of its very field, if it is about an object of this source. Blocking."""
        with self._lock:
            if problem.ref is None or not (path := self._store.path_of(problem.ref)):
                return problem
            content = next((read_text(key) for key, shown in self._shown.items() if shown == path), None)
            line = self._store.line_of(problem.ref, problem.field, content if isinstance(content, str) else "")
            return replace(problem, origin=Origin(path, line))

    def _rescan(self) -> set[str]:
        """Look at the tree; the absolute paths of files that came, went or changed."""
        self._scan = scan((*self._paths, *([self._mesh.path] if self._mesh else ())))
        keys = {*self._scan.files, *self._shown, *([self._mesh_key] if self._mesh else ())}
        return {k for k in keys if k not in self._signatures or self._signatures[k] != signature(k)}

    def _read(self, keys: Iterable[str], is_second_look: bool) -> set[str]:
        """Read files again. Those whose content is doubtful are left as they were, and returned."""
        doubtful = set()
        for key in sorted(keys):
            if self._scan.is_hidden(key):
                continue
            now = signature(key)
            content = read_text(key) if key in self._scan.files else None
            if key == self._mesh_key and self._mesh is not None:
                if not content and not is_second_look:
                    doubtful.add(key)
                    continue
                self._mesh.put(content)
            else:
                reading = self._store.read(self._scan.files.get(key) or self._shown.get(key, key), content)
                if reading.takes_away and not is_second_look:
                    doubtful.add(key)
                    continue
                self._store.put(reading)
                if reading.exists:
                    self._shown[key] = reading.path
                else:
                    self._shown.pop(key, None)
            self._signatures[key] = now
            if now is None:
                del self._signatures[key]
        return doubtful

    def _update(self) -> Update:
        delta, problems = self._store.refresh()
        if self._mesh is not None:
            delta = replace(delta, mesh=self._mesh.changed())
            problems = (*self._mesh.problems, *problems)
        missing = (
            Problem("no such file or directory", code="missing", origin=Origin(path))
            for path in self._scan.missing
            if self._mesh is None or path != self._mesh.path
        )
        hidden = (
            Problem(
                f"cannot be listed: {reason}; what it gave before stays in force", code="unreadable", origin=Origin(d)
            )
            for d, reason in sorted(self._scan.unreadable.items())
        )
        self._problems = (*missing, *hidden, *self._watch_problem, *problems)
        return Update(delta, self._problems)

    # -- watching -----------------------------------------------------------------------------------------------------

    async def updates(self) -> AsyncGenerator[Update, None]:
        """Every change from now on, for ever."""
        while True:
            directories = self._scan.directories
            async with aclosing(self._batches(directories)) as batches:
                async for batch in batches:
                    async for update in self._ingest(batch):
                        yield update
                    # A directory that was made or linked anew under its old name is another one to the system.
                    if self._scan.directories != directories or not batch.isdisjoint(directories):
                        break

    async def _batches(self, directories: frozenset[str]) -> AsyncGenerator[frozenset[str], None]:
        """Paths with events; empty where everything must be looked at, as at once after the watch began."""
        try:
            async with aclosing(
                awatch(
                    *sorted(directories),
                    recursive=False,
                    watch_filter=None,
                    step=_STEP_MS,
                    debounce=_GATHER_MS,
                    rust_timeout=_RESCAN_MS,
                    yield_on_timeout=True,
                )
            ) as changes:
                coming = asyncio.ensure_future(anext(changes))
                try:
                    await asyncio.sleep(0)  # one turn of the loop: now the watch is set
                    if self._watch_problem:
                        self._watch_problem = ()
                    yield frozenset()
                    while True:
                        batch = frozenset(path for _, path in await coming)
                        coming = asyncio.ensure_future(anext(changes))
                        yield batch
                finally:
                    coming.cancel()
                    with suppress(asyncio.CancelledError, StopAsyncIteration, Exception):
                        await coming
        except (OSError, RuntimeError) as error:
            message = f"cannot be watched ({error}): looking every {_POLL_SECONDS:g} s instead"
            self._watch_problem = (Problem(message, "warning", "watch", origin=Origin(str(self._paths[0]))),)
        for _ in range(60):
            yield frozenset()
            await asyncio.sleep(_POLL_SECONDS)

    async def _ingest(self, batch: frozenset[str]) -> AsyncGenerator[Update, None]:
        doubtful, update = await asyncio.to_thread(self._look, batch, False)
        if update is not None:
            yield update
        if doubtful:
            await asyncio.sleep(_SECOND_LOOK_SECONDS)
            _, update = await asyncio.to_thread(self._look, doubtful, True)
            if update is not None:
                yield update

    def _look(self, batch: frozenset[str], is_second_look: bool) -> tuple[frozenset[str], Update | None]:
        """Read what the events in `batch` can have changed; None if nothing did."""
        with self._lock:
            keys = {path for path in batch if path in self._scan.files}
            if not batch or any(self._changes_tree(path) for path in (batch - keys) | (batch & self._scan.points)):
                keys |= self._rescan()
            if is_second_look:
                keys |= batch
            doubtful = self._read(keys, is_second_look)
            before = self._problems
            update = self._update()
            return frozenset(doubtful), update if update.delta or update.problems != before else None

    def _changes_tree(self, path: str) -> bool:
        """True if an event there can mean that files came or went."""
        if path in self._scan.points or path in self._scan.directories:
            return True
        directory, _, name = path.rpartition("/")
        if directory not in self._scan.directories:
            return True
        if name.startswith(".") and not name.startswith(".."):
            return False
        return name.endswith(SUFFIXES) or name.startswith("..") or os.path.isdir(path)  # noqa: PTH112
