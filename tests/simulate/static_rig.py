"""One real Envoy with the listeners of many configurations, each at a loopback address of its own.

Nothing is loaded while it runs, so that no answer can come from what was in force before.
"""

import asyncio
import os
import ssl
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pypilot.cli.demo.bootstrap import static_cluster
from pypilot.cli.demo.envoy import Envoy, find_envoy
from tests.simulate.model import Connection, Request
from tests.simulate.rig import read_head
from tests.xds.certificates import Authority

PATIENCE = 60.0
ID = "x-ask"
AT_ONCE = 16
GREETING, ECHO = b"hello\n", b"echo hello\n"
_LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"


@dataclass(frozen=True, slots=True)
class Sent:
    """One connection, with a request or with bytes."""

    connection: Connection
    request: Request | None


@dataclass(frozen=True, slots=True)
class Got:
    """What came back."""

    status: int = 0
    """0 for bytes."""
    body: bytes = b""
    from_upstream: bool = False
    details: str = ""
    """Envoy's own word for it, from its log."""


@dataclass(slots=True)
class Identities:
    """Certificates for one run, made when they are first asked for."""

    directory: Path
    authority: Authority = field(default_factory=Authority)
    _clients: dict[tuple[str, ...], ssl.SSLContext] = field(default_factory=dict)

    def server(self) -> dict[str, Any]:
        """A `DownstreamTlsContext` that asks clients for certificates and takes those without."""
        pair = self.authority.issue(dns="s.test")
        certificate = {
            "certificate_chain": {"inline_string": pair.certificate.decode()},
            "private_key": {"inline_string": pair.key.decode()},
        }
        trusted = {"trusted_ca": {"inline_string": self.authority.certificate.decode()}}
        return {"common_tls_context": {"tls_certificates": [certificate], "validation_context": trusted}}

    def client(self, peer: tuple[str, ...]) -> ssl.SSLContext:
        if peer not in self._clients:
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
            if peer:
                pair = self.authority.issue(*peer)
                file = self.directory / f"client-{len(self._clients)}.pem"
                file.write_bytes(pair.certificate + pair.key)
                made.load_cert_chain(file)
            self._clients[peer] = made
        return self._clients[peer]


async def _web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nx-upstream: yes\r\ncontent-length: 0\r\n\r\n")
    writer.close()


async def _raw(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        writer.write(b"echo " + await reader.readline())
        await writer.drain()
    writer.close()


async def _ask(sent: Sent, number: int, identities: Identities) -> Got:
    to, request = sent.connection, sent.request
    secured: dict[str, Any] = {}
    if to.tls:
        secured = {"ssl": identities.client(to.peer), "server_hostname": to.server_name}
    reader, writer = await asyncio.open_connection(to.destination, to.port, local_addr=(to.source, 0), **secured)
    try:
        if request is None:
            writer.write(GREETING)
            with suppress(ConnectionError, ssl.SSLError):
                body = await asyncio.wait_for(reader.read(), PATIENCE)
                return Got(body=body, from_upstream=bool(body))
            return Got()
        lines = "".join(f"{name}: {value}\r\n" for name, value in (*request.headers, (ID, str(number))))
        first = f"{request.method} {request.path} HTTP/1.1\r\nhost: {request.authority}\r\n"
        writer.write(f"{first}{lines}\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            # Not to the end of the stream: Envoy waits a while before it closes.
            said, headers = await read_head(reader)
            values = dict(headers)
            length = 0 if request.method == "HEAD" else int(values.get("content-length", 0))
            return Got(int(said.split(" ")[1]), await reader.readexactly(length), "x-upstream" in values)
    finally:
        writer.close()


def _logged(listener: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The listener, its connection manager telling why it answered."""
    (chain,) = listener["filter_chains"]
    *before, last = chain["filters"]
    config = last["typed_config"]
    if "http_filters" in config:
        text = {"text_format_source": {"inline_string": f"%REQ({ID})% %RESPONSE_CODE_DETAILS%\n"}}
        log = {"name": "file", "typed_config": {"@type": _LOG, "path": str(file), "log_format": text}}
        config = {**{k: v for k, v in config.items() if k != "tracing"}, "access_log": [log]}
    chain = {**chain, "filters": [*before, {**last, "typed_config": config}]}
    # Another Envoy at the same place is to be noticed, not to share the connections.
    return {**listener, "filter_chains": [chain], "enable_reuse_port": False}


async def _run(
    listeners: Sequence[Mapping[str, Any]],
    clusters: tuple[str, str],
    asks: Sequence[Sent],
    identities: Identities,
) -> list[Got]:
    log = identities.directory / "access.log"
    async with AsyncExitStack() as stack:
        made = []
        for name, handler in zip(clusters, (_web, _raw), strict=True):
            server = await asyncio.start_server(handler, "127.0.0.1", 0)
            stack.callback(server.close)
            made.append(static_cluster(name, [("127.0.0.1", int(server.sockets[0].getsockname()[1]))]))
        bootstrap = {
            "static_resources": {"listeners": [_logged(one, log) for one in listeners], "clusters": made},
            "layered_runtime": {
                "layers": [{"name": "pypilot", "static_layer": {"re2.max_program_size.error_level": 32768}}]
            },
        }
        envoy = await stack.enter_async_context(
            Envoy.start(bootstrap, identities.directory, binary=find_envoy(os.environ), log_level="warning")
        )
        await envoy.wait_live(PATIENCE)
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(number: int, sent: Sent) -> Got:
            async with slots:
                return await _ask(sent, number, identities)

        found = await asyncio.gather(*(one(i, sent) for i, sent in enumerate(asks)))
    lines = (line.split(" ", 1) for line in log.read_text().splitlines())  # complete once Envoy has ended
    details = {int(number): text for number, text in lines if number.isdigit()}
    return [Got(g.status, g.body, g.from_upstream, details.get(i, "")) for i, g in enumerate(found)]


def run(
    listeners: Sequence[Mapping[str, Any]], clusters: tuple[str, str], asks: Sequence[Sent], identities: Identities
) -> list[Got]:
    """Start Envoy, ask everything, end it.

    Args:
        listeners: in protobuf JSON, each with one filter chain.
        clusters: the names of those for HTTP and for bytes.
    """
    return asyncio.run(_run(listeners, clusters, asks, identities))
