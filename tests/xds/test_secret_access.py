"""Secrets over a stream wait for the answer who may read them, and follow it (SDS-005, SDS-009, XAUTH-004)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from pypilot.wire.types import CLUSTER, SECRET
from pypilot.xds.auth import Identity
from pypilot.xds.secret_access import SecretGate
from pypilot.xds.server import XdsServer
from pypilot.xds.tls import TlsFiles
from tests.xds.builders import resource_set
from tests.xds.certificates import Authority
from tests.xds.harness import HandCatalog, Stream, channel, node_id, stream

SELLER = Identity("cluster.local", "shop", "seller")
PATIENCE = 60.0
SECRETS = {"kubernetes://pair": "private", "kubernetes://pair-cacert": "public"}


class Rights:
    """A `SecretAccess` that says what the test says; everybody is asked about again and again."""

    def __init__(self, allowed: bool | None) -> None:
        self.answer: bool | None = allowed
        self.asked: list[Identity] = []

    async def allowed(self, identity: Identity) -> tuple[bool | None, float]:
        self.asked.append(identity)
        return self.answer, 0.0

    def is_public(self, name: str) -> bool:
        return name.endswith("-cacert")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_the_gate_opens_and_closes_with_the_right() -> None:
    """GW-051."""
    rights, told = Rights(None), list[int]()
    gate = SecretGate(rights, SELLER, lambda: told.append(1))
    all_ = resource_set(SECRET, SECRETS)
    try:
        assert gate.filter(all_) is None
        await until(lambda: len(rights.asked) > 1)
        assert gate.filter(all_) is None
        assert told == []
        rights.answer = True
        await until(lambda: bool(told))
        assert gate.filter(all_) is all_
        rights.answer = False
        await until(lambda: len(told) == 2)
        public = gate.filter(all_)
        assert public is not None
        assert [r.name for r in public] == ["kubernetes://pair-cacert"]
        assert gate.filter(all_) is public
        rights.answer = None  # not known any more: what was known holds
        before = len(rights.asked)
        await until(lambda: len(rights.asked) > before + 1)
        assert gate.filter(all_) is public
    finally:
        await gate.close()


async def test_nobody_is_asked_for_who_wants_no_secrets() -> None:
    rights = Rights(True)
    gate = SecretGate(rights, SELLER, lambda: None)
    await asyncio.sleep(0.05)
    await gate.close()
    assert rights.asked == []


@asynccontextmanager
async def served(tmp_path: Path, rights: Rights, catalog: HandCatalog, delta: bool) -> AsyncIterator[Stream]:
    """A stream of `SELLER` over TLS."""
    authority = Authority()
    pair, own = authority.issue(dns="localhost"), authority.issue(str(SELLER))
    files = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")
    for path, text in zip(
        (files.certificate, files.key, tmp_path / "ca.pem"),
        (pair.certificate, pair.key, authority.certificate),
        strict=True,
    ):
        path.write_bytes(text)
    server = XdsServer(catalog, secret_access=rights)
    await server.start(secure="127.0.0.1:0", tls=files)
    credentials = grpc.ssl_channel_credentials(authority.certificate, own.key, own.certificate)
    try:
        async with channel(server.secure_port, credentials) as opened:
            yield stream(opened, delta)
    finally:
        await server.stop(0)


@pytest.mark.parametrize("delta", [False, True])
async def test_a_stream_gets_its_secrets_when_the_right_is_known(tmp_path: Path, delta: bool) -> None:
    rights, catalog = Rights(None), HandCatalog()
    catalog.put(SECRET, SECRETS)
    catalog.put(CLUSTER, {"c": "1"})
    async with served(tmp_path, rights, catalog, delta) as one:
        await one.ask(SECRET, list(SECRETS), node=node_id("app", "shop"))
        await one.ask(CLUSTER)
        got = await one.next()
        assert got.type_url == CLUSTER  # does not wait for the right
        rights.answer = False
        got = await one.next()
        assert got.resources == {"kubernetes://pair-cacert": "public"}
        rights.answer = True
        got = await one.next()
        assert got.resources["kubernetes://pair"] == "private"
