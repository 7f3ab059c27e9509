"""Where the parts of `pypilot serve` meet: sources, engine, streams and admin pages are made, joined, started, stopped.

Wiring only. No part knows another part's kind; what they tell each other passes through here as plain data.
"""

import asyncio
import errno
import gc
import os
import time
from contextlib import AsyncExitStack

import structlog
from aiohttp import web

from pypilot.admin.debug import debug_app
from pypilot.admin.facts import Facts
from pypilot.admin.metrics import Metrics, monitoring_app
from pypilot.assembly import make_engine
from pypilot.compile.generators import GENERATORS
from pypilot.settings import Settings
from pypilot.supply import Supply, connect
from pypilot.world.delta import Delta, Problem
from pypilot.xds.server import XdsOptions, XdsServer
from pypilot.xds.tls import TlsFiles

_REPORT_SECONDS = 5.0
"""How often it is looked for problems that came with no change of a source, as of compilation."""


class StartError(Exception):
    """The process cannot start; says why in words for its user."""


class Application:
    """One control plane. `start`, then `follow` until it is cancelled, then `stop`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.engine = make_engine(settings, GENERATORS)
        self._supply = Supply(settings, connect(settings), self.engine, self._changed)
        self.metrics = Metrics()
        self.server = XdsServer(
            self.engine,
            XdsOptions(plaintext_secrets=settings.plaintext_secrets, max_streams_writing=settings.concurrent_pushes),
            metrics=self.metrics,
        )
        self.http_port: int | None = None
        self.monitoring_port: int | None = None
        self._is_ready = False
        self._reported: frozenset[tuple[object, ...]] = frozenset()
        self._reports: set[asyncio.Future[None]] = set()
        self._exits = AsyncExitStack()
        self._log = structlog.get_logger("pypilot")

    # -- the life of the process --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, read everything, and serve. Ready only when all of that is done (CTL-002).

        Raises:
            StartError: an address or a certificate cannot be used.
        """
        begun = time.monotonic()
        settings = self._settings
        facts = Facts(
            self.engine, self.server.connections, lambda: self._is_ready, self.problems, self._supply.statistics
        )
        self.metrics.facts = facts
        try:
            self.http_port = await self._listen(settings.http_addr, debug_app(facts))
            self.monitoring_port = await self._listen(settings.monitoring_addr, monitoring_app(facts, self.metrics))
            self._exits.push_async_callback(self._supply.close)
            await self._supply.start()
            await self._serve()
        except BaseException:
            await self._exits.aclose()
            raise
        self._is_ready = True
        await self._report()
        self._log.info(
            "ready",
            seconds=round(time.monotonic() - begun, 3),
            objects=sum(len(objects) for objects in self.engine.world.objects.values()),
            xds=self.server.plaintext_port,
            xds_tls=self.server.secure_port,
            http=self.http_port,
            monitoring=self.monitoring_port,
        )

    async def follow(self) -> None:
        """Carry changes from the sources to the engine, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._supply.follow())
            tasks.create_task(self._report_regularly())

    async def stop(self) -> None:
        """No longer ready; let the streams end, then close the rest."""
        self._is_ready = False
        self._log.info("stopping", connections=len(self.server.connections()))
        await self.server.stop(self._settings.drain)
        await self._exits.aclose()
        self._log.info("stopped")

    # -- configuration ------------------------------------------------------------------------------------------------

    def _changed(self, source: str, delta: Delta) -> None:
        self.metrics.updated("config")
        if self._is_ready:
            self._log.info(
                "configuration changed", source=source, updated=len(delta.upserts), removed=len(delta.removals)
            )
            asyncio.get_running_loop().call_later(self._settings.debounce_max, self._report_soon)

    # -- problems -----------------------------------------------------------------------------------------------------

    async def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong now, each at the line of its very field."""
        return await self._supply.located(self.engine.problems())

    def _report_soon(self) -> None:
        task = asyncio.ensure_future(self._report())
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def _report(self) -> None:
        """Log what is newly wrong, and what no longer is."""
        now = {_identity(p): p for p in await self.problems()}
        new = [p for identity, p in now.items() if identity not in self._reported]
        gone = self._reported - now.keys()
        self._reported = frozenset(now)
        self.metrics.reported(new)
        for problem in new:
            log = self._log.error if problem.severity == "error" else self._log.warning
            log(
                problem.message,
                at=str(problem.origin) if problem.origin else None,
                object=str(problem.ref) if problem.ref else None,
                field=problem.field or None,
                code=problem.code,
            )
        if gone:
            self._log.info("problems solved", count=len(gone), left=len(now))

    async def _report_regularly(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            try:
                await self._report()
            except Exception:
                self._log.exception("problems could not be gathered")

    # -- ports --------------------------------------------------------------------------------------------------------

    async def _listen(self, address: str, app: web.Application) -> int | None:
        """Serve an HTTP application; the port, or None if it is off."""
        if not address:
            return None
        host, _, port = address.rpartition(":")
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._exits.push_async_callback(runner.cleanup)
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except OSError as error:
            reason = os.strerror(errno.EADDRINUSE) if error.errno == errno.EADDRINUSE else error.strerror or str(error)
            raise StartError(f"cannot listen on {address}: {reason}") from error
        bound: int = runner.addresses[0][1]
        return bound

    async def _serve(self) -> None:
        settings = self._settings
        tls = None
        if settings.tls_cert is not None and settings.tls_key is not None:
            tls = TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        if not (settings.grpc_addr or settings.secure_grpc_addr):
            return
        try:
            await self.server.start(settings.grpc_addr, secure=settings.secure_grpc_addr, tls=tls)
        except (OSError, RuntimeError, ValueError) as error:
            where = ", ".join(a for a in (settings.grpc_addr, settings.secure_grpc_addr) if a)
            raise StartError(f"cannot serve xDS on {where}: {error}") from error


def _identity(problem: Problem) -> tuple[object, ...]:
    """What makes a problem the same one, wherever its lines have moved."""
    source = problem.origin.source if problem.origin else ""
    return source, problem.ref, problem.field, problem.code, problem.message


async def run(settings: Settings, stopped: asyncio.Event) -> None:
    """Serve until `stopped` is set, then end in order.

    Raises:
        StartError: it cannot start.
    """
    application = Application(settings)
    waiting = asyncio.create_task(stopped.wait())
    life = asyncio.create_task(_live(application))
    try:
        await asyncio.wait({life, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        life.cancel()
        waiting.cancel()
        await asyncio.gather(life, waiting, return_exceptions=True)
    if not life.cancelled():
        life.result()


async def _live(application: Application) -> None:
    await application.start()  # leaves nothing behind if it fails, or is cancelled
    gc.freeze()  # most of what was read stays: to search it for garbage would hold everything up for 100 ms at a time
    try:
        await application.follow()
    finally:
        await application.stop()
