"""Load on one URL, and what became of each request. A program of its own: it runs where the address can be reached,
be it in a pod, and stops by itself when its standard input ends.

    python -m e2e.cluster.traffic --address HOST:PORT --host NAME [--root FILE] [--fresh] [--workers N] [--path /]

A line of standard input, `report` or `forget`, is answered with one of JSON: the counts since the last `forget`. With
`--root` requests go over TLS, verified against that authority and the host's name. With `--fresh` each has a connection
of its own, else connections are kept. Needs Python alone.
"""

import argparse
import asyncio
import json
import ssl
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_PATIENCE = 30.0
"""Seconds after which a request has failed."""
_PAUSE = 0.005
_KEPT_FAILURES = 20


@dataclass
class Counts:
    """What became of requests."""

    statuses: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    last_version: str = ""
    streak: int = 0
    """How many requests in a row, up to the last, got the last version."""
    pods: Counter[str] = field(default_factory=Counter)
    """By the host names of those that answered."""
    callers: Counter[str] = field(default_factory=Counter)
    """As what they were called, by their proxies' word."""
    serials: Counter[str] = field(default_factory=Counter)
    last_serial: str = ""
    serial_streak: int = 0
    """How many handshakes in a row, up to the last, saw the last certificate."""
    failures: list[str] = field(default_factory=list)
    failed: int = 0

    def answered(self, status: int, body: bytes) -> None:
        self.statuses[str(status)] += 1
        if status != 200:
            self.failure(f"status {status}: {body[:100]!r}")
            return
        seen = json.loads(body)
        version = str(seen.get("version", ""))
        self.versions[version] += 1
        self.pods[str(seen.get("hostname", ""))] += 1
        self.callers[str(seen.get("headers", {}).get("x-forwarded-client-cert", ""))] += 1
        self.streak = self.streak + 1 if version == self.last_version else 1
        self.last_version = version

    def shook_hands(self, serial: str) -> None:
        self.serials[serial] += 1
        self.serial_streak = self.serial_streak + 1 if serial == self.last_serial else 1
        self.last_serial = serial

    def failure(self, text: str) -> None:
        self.failed += 1
        if len(self.failures) < _KEPT_FAILURES:
            self.failures.append(f"{time.strftime('%H:%M:%S')} {text}")

    def as_json(self) -> str:
        return json.dumps(vars(self))


class Load:
    """What all requests are counted in."""

    def __init__(self) -> None:
        self.counts = Counts()

    def forget(self) -> None:
        self.counts = Counts()


class Connection:
    """One HTTP/1.1 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.is_open = True

    def serial(self) -> str:
        """Of the server's certificate, in hexadecimal."""
        certificate: Mapping[str, Any] = self._writer.get_extra_info("peercert") or {}
        return str(certificate.get("serialNumber", "")).lower().lstrip("0")

    async def get(self, host: str, path: str) -> tuple[int, bytes]:
        """Status and body."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: e2e\r\n\r\n".encode())
        await self._writer.drain()
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        if "content-length" in headers:
            body = await self._reader.readexactly(int(headers["content-length"]))
        else:
            body, self.is_open = await self._reader.read(), False
        if headers.get("connection", "").lower() == "close":
            self.is_open = False
        return int(head[0].split()[1]), body

    def close(self) -> None:
        self.is_open = False
        self._writer.close()


@dataclass(frozen=True)
class Target:
    """Whom to ask for what."""

    host: str
    address: tuple[str, int]
    path: str
    tls: ssl.SSLContext | None
    fresh: bool

    async def connect(self) -> Connection:
        name = self.host if self.tls else None
        return Connection(*await asyncio.open_connection(*self.address, ssl=self.tls, server_hostname=name))


async def _ask(target: Target, load: Load) -> None:
    """Request after request, for ever."""
    connection: Connection | None = None
    while True:
        counts = load.counts
        try:
            async with asyncio.timeout(_PATIENCE):
                if connection is None:
                    connection = await target.connect()
                    if target.tls:
                        counts.shook_hands(connection.serial())
                counts.answered(*await connection.get(target.host, target.path))
        except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError) as error:
            counts.failure(f"{type(error).__name__}: {error}")
            if connection:
                connection.close()
            connection = None
            await asyncio.sleep(0.1)
        if connection and (target.fresh or not connection.is_open):
            connection.close()
            connection = None
        await asyncio.sleep(_PAUSE)


async def _commands(load: Load) -> None:
    """Answer standard input until it ends."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        sys.stdout.write(load.counts.as_json() + "\n")
        if line.strip() == "forget":
            load.forget()
        sys.stdout.flush()


async def _main(target: Target, workers: int) -> None:
    load = Load()
    asking = [asyncio.create_task(_ask(target, load)) for _ in range(workers)]
    await _commands(load)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--path", default="/")
    parser.add_argument("--root")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    ip, _, port = options.address.rpartition(":")
    tls = ssl.create_default_context(cafile=options.root) if options.root else None
    target = Target(options.host, (ip.strip("[]"), int(port)), options.path, tls, options.fresh)
    asyncio.run(_main(target, options.workers))


if __name__ == "__main__":
    main()
