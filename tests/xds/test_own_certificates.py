"""`default` and `ROOTCA` over ADS (SDS-002): when they are made, renewed and forgotten, and that no key shows."""

import asyncio
from datetime import UTC, datetime, timedelta

from structlog.testing import capture_logs

from pypilot.wire.resource import EMPTY
from pypilot.xds.auth import Identity
from pypilot.xds.certificates import RefusedError
from pypilot.xds.own_certificates import Credential, OwnCertificates
from tests.xds.harness import until

WEB = Identity("cluster.local", "shop", "web")


class Maker:
    """Counts, and fails as often as it is told to."""

    def __init__(self, seconds: float = 3600.0, failures: int = 0) -> None:
        self.seconds, self.failures = seconds, failures
        self.made: list[Credential] = []

    async def __call__(self, identity: Identity) -> Credential:
        assert identity is WEB
        if self.failures:
            self.failures -= 1
            raise RefusedError("UNAVAILABLE", "there is no root to sign with yet")
        key = f"SECRET-{len(self.made)}".encode()
        until_then = datetime.now(UTC) + timedelta(seconds=self.seconds)
        self.made.append(Credential(b"chain", key, b"roots", until_then, asyncio.Event()))
        return self.made[-1]


class Held:
    """What a connection sees of them."""

    def __init__(self, maker: Maker) -> None:
        self.changes = 0
        self.own = OwnCertificates(maker, WEB, self.changed)

    def changed(self) -> None:
        self.changes += 1


async def test_they_are_made_when_first_wanted() -> None:
    held = Held(maker := Maker())
    assert not maker.made
    assert held.own.beside(EMPTY) is None, "owed until there are some"
    await until(lambda: held.changes == 1)
    found = held.own.beside(EMPTY)
    assert found is not None
    assert {r.name for r in found} == {"default", "ROOTCA"}
    assert held.own.beside(EMPTY) is found, "the same as long as nothing changed"
    await held.own.close()


async def test_other_roots_renew_at_once() -> None:
    held = Held(maker := Maker())
    held.own.beside(EMPTY)
    await until(lambda: held.changes == 1)
    before = held.own.beside(EMPTY)
    maker.made[0].outdated.set()
    await until(lambda: held.changes == 2)
    after = held.own.beside(EMPTY)
    assert before is not None
    assert after is not None
    assert before.version != after.version
    await held.own.close()


async def test_half_of_the_life_renews() -> None:
    held = Held(maker := Maker(seconds=1.0))
    held.own.beside(EMPTY)
    await until(lambda: len(maker.made) == 3)
    assert all(earlier.not_after < later.not_after for earlier, later in zip(maker.made, maker.made[1:], strict=False))
    await held.own.close()


async def test_a_failure_is_tried_again() -> None:
    held = Held(Maker(failures=1))
    with capture_logs() as logs:
        held.own.beside(EMPTY)
        await until(lambda: held.changes == 1)
    (entry,) = (e for e in logs if e["event"] == "xds.no_certificate")
    assert entry["reason"] == "there is no root to sign with yet"
    await held.own.close()


async def test_nothing_is_left_of_them() -> None:
    held = Held(maker := Maker())
    held.own.beside(EMPTY)
    await until(lambda: held.changes == 1)
    found = held.own.beside(EMPTY)
    assert found is not None
    assert "SECRET" not in repr((maker.made, *found))
    await held.own.close()
    assert not [value for value in vars(held.own).values() if "SECRET" in repr(value) or value is found]
