"""The aggregated discovery service on grpc.aio: ports, admission, and the set of connections.

Responses are bytes already, so the serialiser is the identity. On the TLS port a peer proves its identity before it is
listened to (XAUTH-002); the node of the first request (XDS-002) is then held against it (XAUTH-003). What is sent is
the session's business, what exists the catalog's.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal

import grpc
import structlog
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest

from pypilot.settings import CompliancePolicy
from pypilot.wire.node import NodeError
from pypilot.xds.attendance import Attendance, ReportHealth
from pypilot.xds.auth import (
    Authenticator,
    CertificateAuthenticator,
    DeniedError,
    Identity,
    Peer,
    authenticate,
    authorize,
)
from pypilot.xds.catalog import Catalog
from pypilot.xds.certificates import Issue, certificate_handler
from pypilot.xds.connection import Caller, Connection, Form, decode
from pypilot.xds.delta import DeltaSession
from pypilot.xds.front import TlsFront, Verified
from pypilot.xds.identity import read_node
from pypilot.xds.own_certificates import MakeCredential
from pypilot.xds.secret_access import SecretAccess
from pypilot.xds.session import ProtocolError
from pypilot.xds.shared import Shared
from pypilot.xds.sotw import SotwSession
from pypilot.xds.status import ConnectionStatus, Metrics, NoMetrics, Statistics
from pypilot.xds.tls import TlsContexts, TlsSource
from pypilot.xds.writing import WriteTurns

SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"

_MIB: Final = 1 << 20
_LONGEST_REASON: Final = 1000


@dataclass(frozen=True, slots=True)
class XdsOptions:
    """How to serve."""

    plaintext_secrets: Literal["loopback", "any", "never"] = "loopback"
    """To whom the plaintext port sends secrets (SDS-003)."""
    compliance: CompliancePolicy = "none"
    """What the TLS port's connections may be (DR-079)."""
    max_streams_writing: int = 32
    max_bytes_in_flight: int = 32 * _MIB
    """No further stream is written to while this much is on its way."""
    write_patience: float = 5.0
    """Seconds after which a peer that does not read no longer holds up others."""
    warming_patience: float = 5.0
    """Seconds that listeners and routes wait for a client that does not say that it has its new clusters."""
    max_receive_bytes: int = 16 * _MIB
    keepalive_interval: float = 30.0
    keepalive_timeout: float = 10.0
    """XDS-017."""
    max_connection_age: float | None = None
    """Seconds, give or take a tenth, after which a client must connect again (perhaps to another replica); None is
    never."""
    connection_age_grace: float = 5.0

    def grpc_options(self) -> list[tuple[str, int]]:
        """The channel arguments of the gRPC server."""
        options = [
            ("grpc.max_receive_message_length", self.max_receive_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", 100_000),
            ("grpc.keepalive_time_ms", int(self.keepalive_interval * 1000)),
            ("grpc.keepalive_timeout_ms", int(self.keepalive_timeout * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 5000),
            ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a second server behind it
        ]
        if self.max_connection_age is not None:
            options.append(("grpc.max_connection_age_ms", int(self.max_connection_age * 1000)))
            options.append(("grpc.max_connection_age_grace_ms", int(self.connection_age_grace * 1000)))
        return options


class _Call:
    """The transport of a connection: a gRPC call."""

    def __init__(self, context: Any) -> None:
        self._context = context

    async def read(self) -> bytes | None:
        message = await self._context.read()
        return None if message is grpc.aio.EOF else message

    async def write(self, message: bytes) -> None:
        await self._context.write(message)


def _peer(context: Any, verified: Verified | None) -> Peer:
    return Peer(
        address=verified.address if verified else context.peer(),
        secure=verified is not None,
        certificate=verified.certificate if verified else b"",
        metadata={key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)},
    )


def _told(error: Exception) -> str:
    """What a client is told. It may quote what the client said, and more than a little is no longer a status."""
    return str(error)[:_LONGEST_REASON]


class XdsServer:
    """Serves ADS on a plaintext port, a TLS port, or both."""

    def __init__(
        self,
        catalog: Catalog,
        options: XdsOptions | None = None,
        *,
        metrics: Metrics | None = None,
        authenticators: Sequence[Authenticator] = (CertificateAuthenticator(),),
        issue: Issue | None = None,
        credential: MakeCredential | None = None,
        secret_access: SecretAccess | None = None,
        attendance: Attendance | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`issue` signs certificates for peers of the TLS port; `secret_access` says who of them may have secrets.

        `credential` makes certificates with their keys for those that have no agent, and want them over ADS; without
        it they are configured without. `attendance` is told who comes and goes.
        """
        self._credential = credential
        self._attendance = attendance
        self._present: dict[int, Any] = {}
        self._issue = issue
        self._secret_access = secret_access
        self._catalog = catalog
        self._options = options or XdsOptions()
        self._metrics: Metrics = metrics or NoMetrics()
        self._authenticators = tuple(authenticators)
        self._clock = clock
        self._shared = Shared()
        self._log = structlog.get_logger()
        self._numbers = itertools.count(1)
        self._connections: dict[int, Connection] = {}
        self._turns = WriteTurns(
            self._options.max_streams_writing, self._options.max_bytes_in_flight, self._options.write_patience
        )
        self._servers: list[Any] = []
        self._front: TlsFront | None = None
        self._draining = False
        self.plaintext_port: int | None = None
        self.secure_port: int | None = None

    async def start(
        self, plaintext: str | None = None, *, secure: str | None = None, tls: TlsSource | None = None
    ) -> None:
        """Listen. Addresses are `HOST:PORT`; port 0 takes a free one, see `plaintext_port` and `secure_port`.

        Raises:
            ValueError: a secure address without `tls`, or bad certificates.
            OSError: an address cannot be listened on, or a certificate file cannot be read.
            RuntimeError: an address cannot be listened on.
        """
        if secure and tls is None:
            raise ValueError("a secure address needs certificate files")
        try:
            if plaintext:
                self.plaintext_port = await self._listen(plaintext, lambda _: None)
            if secure and tls is not None:
                await self._listen_secure(secure, TlsContexts(tls, compliance=self._options.compliance))
        except BaseException:
            await self.stop(0)
            raise
        self._log.info("xds.listening", plaintext_port=self.plaintext_port, secure_port=self.secure_port)

    async def _listen(
        self, address: str, admit: Callable[[str], Verified | None], *more: grpc.GenericRpcHandler
    ) -> int:
        server = grpc.aio.server(options=self._options.grpc_options())
        server.add_generic_rpc_handlers((self._handler(admit), *more))
        port: int = server.add_insecure_port(address)
        await server.start()
        self._servers.append(server)
        return port

    async def _listen_secure(self, address: str, contexts: TlsContexts) -> None:
        """A front for TLS, and behind it a listener of its own that serves nobody else."""

        def admit(peer: str) -> Verified:
            if front is None or (verified := front.who(peer)) is None:
                raise DeniedError("UNAUTHENTICATED", "this is not the port to connect to")
            return verified

        async def who(context: Any) -> Identity:
            return await authenticate(_peer(context, admit(context.peer())), self._authenticators)

        def address_of(context: Any) -> str:
            verified = front.who(context.peer()) if front is not None else None
            return verified.address if verified is not None else str(context.peer())

        front: TlsFront | None = None
        more = () if self._issue is None else (certificate_handler(self._issue, who, address_of),)
        port = await self._listen("127.0.0.1:0", admit, *more)
        front = TlsFront(contexts, ("127.0.0.1", port))
        self.secure_port = front.listen(address)
        self._front = front

    async def stop(self, grace: float = 5.0) -> None:
        """Refuse new streams, end the present ones after the message they are at, cut what is left after `grace`."""
        self._draining = True
        for connection in tuple(self._connections.values()):
            connection.close()
        if self._front is not None:
            self._front.refuse()
        await asyncio.gather(*(server.stop(grace) for server in self._servers))
        if self._front is not None:
            await self._front.close()

    def connections(self) -> tuple[ConnectionStatus, ...]:
        """Every connected proxy, in the order they came."""
        return tuple(connection.status() for connection in self._connections.values())

    def statistics(self) -> Statistics:
        return Statistics(
            connections=len(self._connections),
            writing=self._turns.streams,
            waiting=self._turns.waiting,
            bytes_in_flight=self._turns.bytes_in_flight,
            diffs_made=self._shared.diffs_made,
        )

    def _handler(self, admit: Callable[[str], Verified | None]) -> Any:
        async def sotw(_: Any, context: Any) -> None:
            await self._serve(context, DiscoveryRequest, admit)

        async def delta(_: Any, context: Any) -> None:
            await self._serve(context, DeltaDiscoveryRequest, admit)

        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(sotw),
                "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(delta),
            },
        )

    async def _serve(self, context: Any, form: Form, admit: Callable[[str], Verified | None]) -> None:
        if self._draining:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
        address = context.peer()
        try:
            peer = _peer(context, admit(address))
            address = peer.address
            connection = await self._connect(context, form, peer)
            if connection is not None:
                await self._run(connection)
        except (NodeError, ProtocolError) as error:
            self._log.warning("xds.refused", peer=address, reason=(reason := _told(error)))
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
        except DeniedError as error:
            self._log.warning("xds.denied", peer=address, reason=(reason := _told(error)))
            await context.abort(grpc.StatusCode[error.code], reason)

    async def _connect(self, context: Any, form: Form, peer: Peer) -> Connection | None:
        """Admit the client by its first request. Nothing here outlives that: the node of a real Envoy is 100 kB."""
        identity = await authenticate(peer, self._authenticators) if peer.secure else None
        call = _Call(context)
        raw = await call.read()
        if raw is None:
            return None
        first = decode(form, raw)
        caller = self._admit(peer, identity, first)
        report = await self._attend(caller) if self._attendance is not None else None
        credential = self._credential if caller.proxy.certificates_over_ads else None
        shared = self._shared if credential is None else Shared()  # keys are in nothing that others look at
        session = SotwSession(shared) if form is DiscoveryRequest else DeltaSession(shared)
        return Connection(
            caller,
            session,
            call,
            first,
            self._catalog,
            self._turns,
            shared,
            self._metrics,
            self._secret_access,
            report,
            self._options.warming_patience,
            credential,
        )

    async def _attend(self, caller: Caller) -> ReportHealth | None:
        """Tell of the caller. What stands for it is kept until it leaves."""
        assert self._attendance is not None
        present = await self._attendance.arrived(caller.proxy, caller.identity, caller.connected_at)
        if present is None:
            return None
        self._present[caller.number] = present
        return partial(self._attendance.reported, present)

    def _admit(self, peer: Peer, identity: Identity | None, first: DiscoveryRequest | DeltaDiscoveryRequest) -> Caller:
        if not first.HasField("node"):
            raise ProtocolError("the first request on a stream must carry a node")
        proxy = read_node(first.node, self._shared)
        number = next(self._numbers)
        if identity is not None:
            proxy, secrets = authorize(identity, proxy), True
        else:
            rule = self._options.plaintext_secrets
            secrets = rule == "any" or (rule == "loopback" and peer.loopback)
        if proxy.certificates_over_ads and (identity is None or self._credential is None):
            reason = "not allowed (--workload-sds)" if identity is not None else "only over the TLS port"
            self._log.warning("xds.no_certificate", proxy=proxy.id, reason=reason)
            proxy = replace(proxy, certificates_over_ads=False)
        return Caller(number, proxy, peer.address, identity, self._clock(), secrets)

    async def _run(self, connection: Connection) -> None:
        caller = connection.caller
        self._connections[caller.number] = connection
        self._metrics.connected(1)
        log = self._log.bind(connection=caller.id)
        log.info("xds.connected", peer=caller.peer, identity=str(caller.identity or ""))
        try:
            await connection.run()
        finally:
            del self._connections[caller.number]
            self._metrics.connected(-1)
            present = self._present.pop(caller.number, None)
            if present is not None and self._attendance is not None:
                self._attendance.left(present)
            log.info("xds.disconnected")
