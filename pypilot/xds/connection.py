"""One stream: a reader that feeds requests into the session, and a writer that sends what is due.

All decisions are the session's. The reader never waits for the writer, so acknowledgements are seen while a large
response is being written; the writer computes only in its turn, so a connection has at most one pending push, into
which later changes and requests merge. Nothing here knows the engine.
"""

import asyncio
import re
import traceback
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

import structlog
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from google.protobuf.message import DecodeError

from pypilot.wire.node import Proxy
from pypilot.wire.resource import EMPTY, ResourceSet
from pypilot.wire.types import SECRET, SHORT, short_name
from pypilot.xds.attendance import HEALTH, ReportHealth
from pypilot.xds.auth import Identity
from pypilot.xds.catalog import Catalog, ProxyFeed
from pypilot.xds.delta import DeltaSession
from pypilot.xds.own_certificates import MakeCredential, OwnCertificates
from pypilot.xds.secret_access import SecretAccess, SecretGate
from pypilot.xds.session import DeltaRequest, ProtocolError, Received, SotwRequest
from pypilot.xds.shared import Shared
from pypilot.xds.sotw import SotwSession
from pypilot.xds.status import ConnectionStatus, Metrics
from pypilot.xds.writing import WriteTurns

Form = type[DiscoveryRequest] | type[DeltaDiscoveryRequest]
"""The message that a variant's requests are."""

_Message = TypeVar("_Message", DiscoveryRequest, DeltaDiscoveryRequest)

_MAX_ERROR = 4096
"""Characters of a client's rejection message that are kept."""

_CONFIDENTIAL = re.compile(
    r"""(?P<field>\b(?:inline_bytes|inline_string)\s*[:=]\s*)(?P<quote>["'])(?:\\.|(?!(?P=quote)).)*(?:(?P=quote)|\Z)"""
    r"|-----BEGIN.*?(?:-----END[^-]*-----|\Z)",
    re.DOTALL,
)


class Transport(Protocol):
    """The part of a gRPC call that a connection uses."""

    async def read(self) -> bytes | None:
        """The next message; None when the client has said its last."""

    async def write(self, message: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is on the other end."""

    number: int
    """Counts the connections of the server."""
    proxy: Proxy
    peer: str
    identity: Identity | None
    """Who it proved to be."""
    connected_at: datetime
    secrets: bool
    """Whether secrets may be sent over this connection (SDS-003)."""

    @property
    def id(self) -> str:
        """Node id and number (XDS-002)."""
        return f"{self.proxy.id}-{self.number}"


def decode(form: type[_Message], raw: bytes) -> _Message:
    """A message off the wire.

    Raises:
        ProtocolError: it is not one.
    """
    try:
        return form.FromString(raw)
    except DecodeError as error:
        raise ProtocolError("the request is not a valid message") from error


def rejection(message: DiscoveryRequest | DeltaDiscoveryRequest) -> str | None:
    """Why the client rejects a response; None if it does not.

    Envoy quotes what it rejects, keys included: inline data and PEM blocks are taken out.
    """
    if not message.HasField("error_detail"):
        return None
    text = _CONFIDENTIAL.sub(lambda m: f"{m['field'] or ''}[redacted]", message.error_detail.message)
    return text[:_MAX_ERROR]


def _kind(type_url: str) -> str:
    """A label for counters: clients can ask for any type, so unknown ones are not told apart."""
    return SHORT.get(type_url, "other")


def parse_sotw(message: DiscoveryRequest, shared: Shared) -> SotwRequest:
    """A DiscoveryRequest as plain data; equal name sets become one object."""
    return SotwRequest(
        message.type_url,
        shared.names(message.resource_names),
        message.version_info,
        message.response_nonce,
        rejection(message),
    )


def parse_delta(message: DeltaDiscoveryRequest, shared: Shared) -> DeltaRequest:
    """A DeltaDiscoveryRequest as plain data; equal name sets become one object."""
    return DeltaRequest(
        message.type_url,
        shared.names(message.resource_names_subscribe),
        frozenset(message.resource_names_unsubscribe),
        message.response_nonce,
        rejection(message),
        dict(message.initial_resource_versions),
    )


class Connection:
    """One proxy on one stream."""

    def __init__(
        self,
        caller: Caller,
        session: SotwSession | DeltaSession,
        transport: Transport,
        first: DiscoveryRequest | DeltaDiscoveryRequest,
        catalog: Catalog,
        turns: WriteTurns,
        shared: Shared,
        metrics: Metrics,
        access: SecretAccess | None = None,
        report_health: ReportHealth | None = None,
        warming_patience: float = 5.0,
        credential: MakeCredential | None = None,
    ) -> None:
        """`access` says what an identity may have of the secrets; without it, all of them.

        `report_health` is told what the workload's agent says of it. `warming_patience`: seconds that listeners and
        routes wait for a client to take the clusters that are new to it. `credential` makes its own certificate.
        """
        self._report_health = report_health
        self.caller = caller
        self._session = session
        self._transport = transport
        self._form: Form = type(first)
        self._first: DiscoveryRequest | DeltaDiscoveryRequest | None = first
        self._feed: ProxyFeed = catalog.open(caller.proxy, self.notify)
        self._turns = turns
        self._shared = shared
        self._metrics = metrics
        self._log = structlog.get_logger().bind(connection=caller.id)
        self._wake = asyncio.Event()
        self._closing = False
        self._warming_patience = warming_patience
        self._waits_until: float | None = None
        self._gate: SecretGate | None = None
        if access is not None and caller.identity is not None:
            self._gate = SecretGate(access, caller.identity, self.notify)
        self._own: OwnCertificates | None = None
        if credential is not None and caller.identity is not None:
            self._own = OwnCertificates(credential, caller.identity, self.notify)
        self._failures: dict[str, str] = {}

    def status(self) -> ConnectionStatus:
        caller = self.caller
        return ConnectionStatus(
            caller.id,
            caller.proxy,
            str(caller.identity or ""),
            caller.peer,
            self._session.variant,
            caller.connected_at,
            self._session.status(),
        )

    def notify(self) -> None:
        """Something may have changed for this proxy."""
        self._wake.set()

    def close(self) -> None:
        """End the stream as soon as what is being written is written."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """Serve until the client or the server ends the stream.

        Raises:
            ProtocolError: the client broke the protocol.
        """
        reader = asyncio.create_task(self._read())
        try:
            while True:
                await self._woken()
                if self._closing:
                    return
                if reader.done():
                    reader.result()
                    return
                self._wake.clear()
                await self._write()
        finally:
            self._feed.close()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            if self._gate is not None:
                await self._gate.close()
            if self._own is not None:
                await self._own.close()

    async def _woken(self) -> None:
        """Until there is something to write: a change, a request, or what has waited for clusters for long enough."""
        if not self._session.is_waiting:
            self._waits_until = None
            await self._wake.wait()
            return
        if self._waits_until is None:
            self._waits_until = asyncio.get_running_loop().time() + self._warming_patience
        try:
            async with asyncio.timeout_at(self._waits_until):
                await self._wake.wait()
        except TimeoutError:
            self._session.wait_no_longer()

    async def _read(self) -> None:
        try:
            first, self._first = self._first, None
            if first is not None:
                self._receive(first)
                del first  # it carries the node: a real Envoy's is 100 kB and more
            while await self._read_one():
                pass
        finally:
            self._wake.set()

    async def _read_one(self) -> bool:
        """False at the end. A method of its own, so that no request is kept while the next one is waited for."""
        raw = await self._transport.read()
        if raw is not None:
            self._receive(decode(self._form, raw))
        return raw is not None

    async def _write(self) -> None:
        async with self._turns.turn() as turn:
            responses = self._session.push(self._current)
            for response in responses:
                turn.charge(response.size)
            for response in responses:
                await self._transport.write(response.encode())
                turn.written(response.size)
                self._metrics.pushed(_kind(response.type_url), response.size, response.frames.count)

    def _current(self, type_url: str) -> ResourceSet | None:
        if type_url == SECRET and not self.caller.secrets:
            return EMPTY
        try:
            current = self._feed.current(type_url)
        except Exception as error:  # one proxy's trouble must not end its stream: it keeps what it has
            if self._failures.get(type_url) != repr(error):  # once, not with every change of the world
                self._failures[type_url] = repr(error)
                # As text: a renderer of exceptions may show local variables, and those may be secrets.
                self._log.error("xds.compile_failed", type=short_name(type_url), trace=traceback.format_exc())
            return None
        self._failures.pop(type_url, None)
        return self._secrets(current) if type_url == SECRET else current

    def _secrets(self, configured: ResourceSet) -> ResourceSet | None:
        """Those that the caller may have, and its own; None while that is not known."""
        allowed = self._gate.filter(configured) if self._gate is not None else configured
        return self._own.beside(allowed) if self._own is not None and allowed is not None else allowed

    def _receive(self, message: DiscoveryRequest | DeltaDiscoveryRequest) -> None:
        """Take in a request. What it asks for is written in the connection's turn.

        Raises:
            ProtocolError: no client may send it.
        """
        if message.type_url == HEALTH:
            if self._report_health is not None:
                self._report_health(not message.HasField("error_detail"), rejection(message) or "")
            return
        received: Received
        if isinstance(self._session, SotwSession):
            assert isinstance(message, DiscoveryRequest)
            received = self._session.on_request(parse_sotw(message, self._shared))
        else:
            assert isinstance(message, DeltaDiscoveryRequest)
            request = parse_delta(message, self._shared)
            current = self._current(request.type_url) if request.initial_versions else None
            received = self._session.on_request(request, current)
        kind = _kind(message.type_url)
        if received.error is not None:
            self._metrics.rejected(kind)
            self._log.warning(
                "xds.rejected",
                type=short_name(message.type_url),
                nonce=message.response_nonce,
                error=received.error,
            )
        elif received.kind == "ack":
            self._metrics.acked(kind)
        if received.kind == "stale":
            self._metrics.stale_nonce(kind)
        if self._session.owes():
            self._wake.set()
