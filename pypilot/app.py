"""Where the parts of `pypilot serve` meet: sources, engine, streams and admin pages are made, joined, started, stopped.

Wiring only. No part knows another part's kind; what they tell each other passes through here as plain data.
"""

import asyncio
import errno
import gc
import os
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from ipaddress import ip_network
from pathlib import Path
from types import MappingProxyType
from typing import cast

import structlog
from aiohttp import web
from msgspec import to_builtins

from pypilot.admin.debug import debug_app
from pypilot.admin.facts import Facts
from pypilot.admin.metrics import Metrics, monitoring_app
from pypilot.assembly import make_engine
from pypilot.cluster import ClusterServices
from pypilot.compile.generators import GENERATORS
from pypilot.identity import IdentityServices, identity_of_files
from pypilot.kinds.base import Ref
from pypilot.kinds.request_authentication import RequestAuthentication
from pypilot.security.impersonation import Pods
from pypilot.settings import Settings
from pypilot.sources.fetching import Fetcher
from pypilot.sources.key_sets import KeyPace, KeySets, wanted
from pypilot.supply import Supply, connect
from pypilot.upkeep.messages import Message, validation_messages
from pypilot.world.delta import Delta, Problem
from pypilot.world.ingress_status import wrong_statuses
from pypilot.world.reader import Reader
from pypilot.xds.auth import CertificateAuthenticator
from pypilot.xds.server import XdsOptions, XdsServer
from pypilot.xds.tls import TlsFiles, TlsSource

_NO_PODS: Pods = MappingProxyType({})
_REPORT_SECONDS = 5.0
"""How often it is looked for problems that came with no change of a source, as of compilation."""


class StartError(Exception):
    """The process cannot start; says why in words for its user."""


class Application:
    """One control plane. `start`, then `follow` until it is cancelled, then `stop`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.engine = make_engine(settings, GENERATORS)
        self.engine.listen(self._follow_keys)
        connection = connect(settings)
        self._supply = Supply(settings, connection, self.engine, self._changed)
        self._services: ClusterServices | None = None
        if connection is not None and (settings.secure_grpc_addr or settings.webhook_addr):
            self._services = ClusterServices(
                settings,
                connection,
                self._trust_domain,
                self._pods,
                wrong_statuses=self._wrong_statuses,
                messages=self._messages,
                world=lambda: self.engine.world if self._is_ready else None,
            )
            self.engine.listen(self._services.world_changed)
        self._identity: IdentityServices | None = (
            self._services.identity if self._services else identity_of_files(settings, self._trust_domain, self._pods)
        )
        self._namespaces = set(settings.namespaces)
        self._fetcher = Fetcher(_trusted(settings.jwks_ca), [ip_network(r) for r in settings.jwks_blocked_cidrs])
        self._authentications: object = None
        """Those whose keys are fetched; the same mapping until one of them changes."""
        self._keys = KeySets(self._fetcher, self._keys_changed, KeyPace(refresh=settings.jwks_refresh))
        self.metrics = Metrics()
        ca = self._identity if self._has_own_identity and settings.ca_server else None
        self.server = XdsServer(
            self.engine,
            XdsOptions(
                plaintext_secrets=settings.plaintext_secrets,
                compliance=settings.compliance_policy,
                max_streams_writing=settings.concurrent_pushes,
            ),
            metrics=self.metrics,
            authenticators=self._identity.authenticators if self._identity else (CertificateAuthenticator(),),
            secret_access=self._services.secret_access if self._services else None,
            attendance=self._services.attendance if self._services else None,
            issue=ca.issue if ca is not None else None,
            credential=ca.credential if ca is not None and settings.workload_sds else None,
        )
        self.webhook_port: int | None = None
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
            self.engine,
            self.server.connections,
            lambda: self._is_ready,
            self.problems,
            self._supply.statistics,
            lambda: None if self._services is None else asdict(self._services.statistics()),
        )
        self.metrics.facts = facts
        try:
            self.http_port = await self._listen(settings.http_addr, debug_app(facts))
            self.monitoring_port = await self._listen(settings.monitoring_addr, monitoring_app(facts, self.metrics))
            self._exits.push_async_callback(self._supply.close)
            self._exits.push_async_callback(self._fetcher.close)
            self._exits.push_async_callback(self._keys.close)
            await asyncio.gather(self._supply.start(), self._start_services())
            await self._serve()
        except BaseException:
            await self._exits.aclose()
            raise
        self._is_ready = True
        if self._services is not None:
            self._services.world_changed()
        self._follow_keys()
        await self._report()
        self._log.info(
            "ready",
            seconds=round(time.monotonic() - begun, 3),
            objects=sum(len(objects) for objects in self.engine.world.objects.values()),
            xds=self.server.plaintext_port,
            xds_tls=self.server.secure_port,
            http=self.http_port,
            monitoring=self.monitoring_port,
            webhook=self.webhook_port,
        )

    async def follow(self) -> None:
        """Carry changes from the sources to the engine, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._supply.follow())
            tasks.create_task(self._report_regularly())
            if self._has_own_identity and self._identity is not None:
                tasks.create_task(self._identity.run())

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
        self._follow_namespaces(delta)
        if self._services is not None:
            self._services.objects_changed(delta.upserts, delta.removals)
        if self._is_ready:
            self._log.info(
                "configuration changed", source=source, updated=len(delta.upserts), removed=len(delta.removals)
            )
            asyncio.get_running_loop().call_later(self._settings.debounce_max, self._report_soon)

    def _follow_keys(self) -> None:
        """Fetch the keys that the policies of the world want, beside everything else."""
        policies = self.engine.world.objects.get(RequestAuthentication.KIND, {})
        if self._is_ready and policies is not self._authentications:
            self._authentications = policies
            mode = self.engine.world.constants.key_fetching
            self._keys.want(wanted(cast("Iterable[RequestAuthentication]", policies.values()), mode == "envoy"))

    def _keys_changed(self, delta: Delta, problems: tuple[Problem, ...]) -> None:
        self.engine.apply(delta, "keys", problems)

    # -- what only a cluster needs ------------------------------------------------------------------------------------

    @property
    def _has_own_identity(self) -> bool:
        """True if a certificate of our own is needed, rather than one from files."""
        settings = self._settings
        return self._identity is not None and (settings.tls_cert is None or bool(settings.webhook_addr))

    def _trust_domain(self) -> str:
        return Reader(self.engine.world).mesh().trust_domain

    def _pods(self) -> Pods:
        return cast(Pods, self.engine.world.objects.get("Pod", _NO_PODS))

    def _wrong_statuses(self) -> dict[tuple[str, str], list[dict[str, str]]]:
        """Statuses of Ingresses that are to be corrected; none before all is known."""
        wrong = wrong_statuses(self.engine.world) if self._is_ready else {}
        return {key: [to_builtins(entry) for entry in entries] for key, entries in wrong.items()}

    def _messages(self) -> Mapping[Ref, Sequence[Message]]:
        """What is wrong with the objects of the cluster; nothing before all is known."""
        source = f"cluster {self._settings.cluster_id}"
        return validation_messages(self.engine.problems(), source) if self._is_ready else {}

    async def _start_services(self) -> None:
        if self._services is None or not self._has_own_identity:
            if self._settings.write_status:
                self._log.warning("statuses are not written: without a port for proxies or a webhook nobody leads")
            if self._services is None and self._identity is not None:
                self._exits.push_async_callback(self._identity.close)
                await self._identity.start()
            return
        self._exits.push_async_callback(self._services.close)
        self._services.namespaces_changed(self._namespaces)
        await self._services.start()
        app, tls = self._services.webhook()
        self.webhook_port = await self._listen(self._settings.webhook_addr, app, tls.context)

    def _follow_namespaces(self, delta: Delta) -> None:
        if self._settings.namespaces or self._services is None:
            return
        before = frozenset(self._namespaces)
        self._namespaces.difference_update(ref.name for ref in delta.removals if ref.kind == "Namespace")
        self._namespaces.update(obj.name for obj in delta.upserts if obj.KIND == "Namespace")
        if self._namespaces != before:
            self._services.namespaces_changed(self._namespaces)

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

    async def _listen(self, address: str, app: web.Application, tls: ssl.SSLContext | None = None) -> int | None:
        """Serve an HTTP application; the port, or None if it is off."""
        if not address:
            return None
        host, _, port = address.rpartition(":")
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._exits.push_async_callback(runner.cleanup)
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port), ssl_context=tls).start()
        except OSError as error:
            reason = os.strerror(errno.EADDRINUSE) if error.errno == errno.EADDRINUSE else error.strerror or str(error)
            raise StartError(f"cannot listen on {address}: {reason}") from error
        bound: int = runner.addresses[0][1]
        return bound

    async def _serve(self) -> None:
        settings = self._settings
        tls: TlsSource | None = self._identity.tls if self._identity else None
        if settings.tls_cert is not None and settings.tls_key is not None:
            tls = TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        if not (settings.grpc_addr or settings.secure_grpc_addr):
            return
        try:
            await self.server.start(settings.grpc_addr, secure=settings.secure_grpc_addr, tls=tls)
        except (OSError, RuntimeError, ValueError) as error:
            where = ", ".join(a for a in (settings.grpc_addr, settings.secure_grpc_addr) if a)
            raise StartError(f"cannot serve xDS on {where}: {error}") from error


def _trusted(ca: Path | None) -> ssl.SSLContext | None:
    """The system's CAs and those of a file; None for the system's alone.

    Raises:
        StartError: the file cannot be used.
    """
    if ca is None:
        return None
    try:
        context = ssl.create_default_context()
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"--jwks-ca: {ca} cannot be used: {error.strerror or error}") from error
    return context


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
