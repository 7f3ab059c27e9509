"""A unix socket that leads to a TCP address: how an Envoy in another network namespace reaches the control plane.

It stands where Istio's agent stands (Envoy's `xds-grpc` cluster is a unix socket there too) and only copies bytes.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_CHUNK = 1 << 16


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def relay(path: Path, host: str, port: int) -> AsyncIterator[None]:
    """Accept connections on `path`, from any user, and pass each on to `host:port`, until the block ends."""
    tasks: set[asyncio.Task[None]] = set()

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        both = [_copy(reader, upstream_writer), _copy(upstream_reader, writer)]
        await asyncio.gather(*both)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(passed_on(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    os.chmod(path, 0o666)  # noqa: PTH101, S103 - an Envoy of another user connects
    server = await asyncio.start_unix_server(accept, sock=listening)
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
