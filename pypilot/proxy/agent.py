"""The life of a sidecar or gateway: certificate, secrets for Envoy, Envoy itself, health, and an orderly end.

Wiring. Envoy is started once there is a certificate; should Envoy end, so does the agent, for the kubelet starts both
anew. Asked to end, it lets connections drain first.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from pypilot import __version__
from pypilot.proxy import health, log
from pypilot.proxy.admin import Admin
from pypilot.proxy.certificate import WorkloadCertificate
from pypilot.proxy.certificate_client import CertificateClient
from pypilot.proxy.discovery import Discovery
from pypilot.proxy.envoy import Envoy, StartError, arguments, find_envoy
from pypilot.proxy.ineffective import UNSUPPORTED
from pypilot.proxy.names import Names
from pypilot.proxy.node import node_identity
from pypilot.proxy.probes import Target
from pypilot.proxy.sds import SdsServer
from pypilot.proxy.settings import AgentSettings
from pypilot.proxy.status import StatusFacts, StatusServer

__all__ = ["Agent", "StartError"]

ISTIO_VERSION: Final = "1.32.0"
"""Whose behaviour we have; EnvoyFilters ask for it (NODE-010)."""
_SDS_SOCKET: Final = "socket"
_BOOTSTRAP: Final = "envoy.json"
_LOOK_SECONDS: Final = 2.0


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
        mesh_file: str = "",
    ) -> None:
        """`command`: further arguments for Envoy, whose levels of logging the others are."""
        self._settings = settings
        self._command = tuple(command)
        self._log_levels = (log_level, component_log_level)
        self._mesh_file = mesh_file
        self._envoy: Envoy | None = None
        self._at_once = False
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
            settings.identity,
            timedelta(seconds=settings.certificate_seconds),
            client,
            more_roots="".join(f"{pem.strip()}\n" for pem in settings.config.ca_certificates).encode(),
        )
        self._sds = SdsServer(self.certificate)
        self._admin = Admin(settings.config.admin_port, "::1" if settings.is_ipv6 else "127.0.0.1")
        self._names = Names(settings.dns, settings.namespace, settings.domain) if settings.dns is not None else None
        self._discovery = Discovery(
            settings.config.discovery_address,
            settings.control_plane_name,
            settings.root,
            node_identity(settings, ISTIO_VERSION),
            lambda: self.certificate.credentials,
            self._names.take if self._names is not None else None,
        )
        self._target = Target("localhost" if settings.probe_localhost else settings.addresses[0], self._status_port)

    @property
    def _status_port(self) -> int:
        return self._settings.config.status_port

    async def run(self) -> int:
        """The exit status: 0 after being asked to end, else Envoy's.

        Raises:
            StartError: something is missing.
        """
        settings = self._settings
        self._loop = loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        for field, reason, code in settings.config.ineffective:
            log.warning("ProxyConfig: field has no effect", code=code, field=field, reason=reason)
        binary = find_envoy(settings.envoy)
        config = await self._render()
        status = StatusServer(self._facts())
        try:
            if self._status_port:
                everywhere = "::" if any(":" in a for a in settings.addresses) else "0.0.0.0"  # noqa: S104
                status.start(self._status_port, everywhere)
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

    def _facts(self) -> StatusFacts:
        settings, names = self._settings, self._names
        return StatusFacts(
            admin=self._admin,
            why_not_ready=self._why_not_ready,
            target=self._target,
            quit=self._quit if settings.quit_allowed else None,
            drain=self._drain,
            probes=settings.probes,
            application_metrics=settings.application_metrics,
            names=(lambda: names.known_names) if names is not None else lambda: None,
            metrics_for_all=settings.metrics_for_all,
        )

    def _quit(self) -> None:
        """From any thread: whoever asks for it does not want to wait."""
        self._at_once = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ending.set)

    def _drain(self) -> None:
        """From any thread."""
        if self._loop is not None and self._envoy is not None:
            asyncio.run_coroutine_threadsafe(self._envoy.drain(stay=True), self._loop)

    async def _follow_roots(self) -> None:
        """Published roots that change are a root's rotation: the CA gives what is trusted with each certificate."""
        known = _content(self._settings.root)
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if (now := _content(self._settings.root)) and now != known:
                if known:
                    log.info("other roots", file=str(self._settings.root))
                    self.certificate.renew_soon(now)
                known = now

    async def _render(self) -> Path:
        settings = self._settings
        settings.state.mkdir(parents=True, exist_ok=True)
        if settings.state.stat().st_uid == os.geteuid():  # volumes in pods are the kubelet's
            settings.state.chmod(0o700)
        if (own := self._own_bootstrap()) is not None:
            return own
        argv = (sys.executable, "-m", "pypilot.proxy.render", settings.role, ISTIO_VERSION)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *argv, settings.domain, self._mesh_file, stdout=pipe, stderr=pipe
        )
        out, err = await process.communicate()
        if process.returncode:
            raise StartError(f"no bootstrap: {err.decode(errors='replace').strip()}")
        path = settings.state / _BOOTSTRAP
        path.write_bytes(out)
        return path

    def _own_bootstrap(self) -> Path | None:
        """`customConfigFile`. Istio's are templates in Go's language, which nobody here speaks."""
        named = self._settings.config.custom_bootstrap
        if not named:
            return None
        try:
            text = Path(named).read_text()
        except OSError as error:
            raise StartError(f"customConfigFile: {named}: {error.strerror}") from None
        if "{{" in text:
            reason = f"{named} is a template; give a whole bootstrap, or ISTIO_BOOTSTRAP_OVERRIDE"
            log.warning("ProxyConfig: field has no effect", code=UNSUPPORTED, field="customConfigFile", reason=reason)
            return None
        return Path(named)

    def _why_not_ready(self) -> str:
        if self._ending.is_set():
            return "ending"
        if self.certificate.credentials is None:
            return f"no certificate: {self.certificate.error or 'not asked yet'}"
        if self._names is not None and not self._names.known:
            return "no names yet, which DNS is to answer"
        return self._admin.why_not_ready()

    def _beside(self) -> list[Coroutine[Any, Any, None]]:
        """What goes on as long as Envoy runs."""
        running: list[Coroutine[Any, Any, None]] = [self._discovery.run()]
        if said := self._settings.config.readiness_probe:
            asked = health.read_probe(said)

            def ask() -> str:
                return self._why_not_ready() or health.why_not_well(asked, self._target)

            running.append(health.watch(asked, ask, self._discovery.report))
        return running

    async def _serve(self, binary: str, config: Path, keeping: "asyncio.Task[None]") -> int:
        certified = asyncio.Event()
        self.certificate.listen(certified.set)
        ending = asyncio.ensure_future(self._ending.wait())
        waiting = asyncio.ensure_future(certified.wait())
        beside: set[asyncio.Task[None]] = {keeping}
        try:
            await asyncio.wait({ending, waiting, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                keeping.result()
            if self._ending.is_set():
                return 0
            argv = [*arguments(self._settings, config, *self._log_levels), *self._command]
            self._envoy = envoy = await Envoy.start(binary, argv, self._admin, self._settings, os.getpid())
            log.info("Envoy started", pid=envoy.pid, version=__version__)
            beside |= {asyncio.create_task(running) for running in self._beside()}
            every: set[asyncio.Future[Any]] = {ending, envoy.ended, *beside}
            await asyncio.wait(every, return_when=asyncio.FIRST_COMPLETED)
            if envoy.ended.done():
                log.error("Envoy ended", status=envoy.ended.result())
                return envoy.ended.result() or 1
            await envoy.end(lambda: self._at_once)
            for task in beside:
                if task.done():  # by an error of its own: none of them ends by itself
                    task.result()
            return 0
        finally:
            for future in (ending, waiting, *beside - {keeping}):
                future.cancel()
            await asyncio.gather(*beside - {keeping}, return_exceptions=True)
            if self._envoy is not None:
                self._envoy.kill()
                await self._envoy.ended
