"""The life of a workload's certificate, by a clock that is ours (SDS-010)."""

import asyncio
import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pypilot.proxy.certificate import CertificateError, WorkloadCertificate, make_request, read_answer
from pypilot.security.authority import Authority, requested_key
from pypilot.security.x509 import make_root
from tests.xds.harness import until

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
IDENTITY = "spiffe://cluster.local/ns/shop/sa/web"
DAY = timedelta(hours=24)


class Rig:
    """A CA and a clock: sleeping is how time passes."""

    def __init__(self, chance=0.5):
        self.now = BEGIN
        self.authority = Authority(make_root("mesh", BEGIN))
        self.trouble = ""
        self.asked = []
        self.slept = []
        self.certificate = WorkloadCertificate(
            IDENTITY, DAY, self.ask, now=lambda: self.now, sleep=self.sleep, chance=lambda: chance
        )

    async def ask(self, csr, seconds):
        self.asked.append(self.now)
        if self.trouble:
            raise CertificateError(self.trouble)
        key = requested_key(csr.encode())
        return list(self.authority.workload(key, IDENTITY, self.now, timedelta(seconds=seconds)).chain)

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)
        await asyncio.sleep(0)

    async def until(self, condition):
        task = asyncio.create_task(self.certificate.run())
        try:
            await until(condition)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.9), (0.5, 1.0), (1.0, 1.1)])
async def test_it_is_renewed_at_half_its_life_give_or_take(chance, factor):
    rig = Rig(chance)
    await rig.until(lambda: len(rig.asked) >= 2)
    assert rig.asked[1] - rig.asked[0] == DAY / 2 * factor


async def test_while_the_ca_is_away_the_old_one_is_kept_and_asking_slows_down():
    rig = Rig()
    await rig.until(lambda: rig.certificate.credentials is not None)
    kept = rig.certificate.credentials
    rig.trouble = "away"
    before = len(rig.slept)
    await rig.until(lambda: len(rig.slept) > before + 12 and rig.certificate.error)
    assert rig.certificate.credentials is kept
    assert rig.certificate.error == "away"
    pauses = [s for s in rig.slept[before:] if s <= 30]
    assert pauses == sorted(pauses)
    assert max(pauses) == 30 * 0.75
    rig.trouble = ""
    await rig.until(lambda: rig.certificate.credentials is not kept)
    assert rig.certificate.error == ""


async def test_other_roots_bring_a_new_one_at_once():
    rig = Rig()
    asleep = asyncio.Event()

    async def sleep(seconds):
        if seconds > 60:
            asleep.set()
            await asyncio.sleep(3600)

    rig.certificate._sleep = sleep
    task = asyncio.create_task(rig.certificate.run())
    try:
        await asyncio.wait_for(asleep.wait(), 60)
        rig.certificate.renew_soon()
        await until(lambda: rig.certificate.renewals == 1)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("more", ["", "beside"])
async def test_a_ca_that_learns_of_other_roots_later_is_asked_again(more):
    rig = Rig()
    if more:
        rig.certificate._more_roots = make_root(more, BEGIN).bundle
    old, new = rig.authority.root, make_root("new", BEGIN)
    knowing = Authority(replace(old, bundle=old.bundle + new.bundle))

    async def ask(csr, seconds):
        if len(rig.asked) == 3:
            rig.authority = knowing
        return await rig.ask(csr, seconds)

    rig.certificate._ask = ask
    rig.certificate.renew_soon(knowing.root.bundle)
    await rig.until(lambda: len(rig.asked) > 4)
    gaps = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(rig.asked[:5])]
    # Woken, twice too early for the CA, then at half its life; certificates count whole seconds.
    assert gaps == pytest.approx([2.5, 2.0, 4.0, DAY.total_seconds() / 2], abs=1)
    assert rig.certificate.credentials.roots.startswith(knowing.root.bundle)


async def test_a_ca_whose_roots_are_not_the_published_ones_is_not_asked_for_ever():
    rig = Rig()
    rig.certificate.renew_soon(make_root("of others", BEGIN).bundle)
    await rig.until(lambda: len(rig.asked) > 10)
    assert abs(rig.asked[9] - rig.asked[8] - DAY / 2) < timedelta(seconds=1)


async def test_one_that_has_expired_is_not_taken():
    rig = Rig()
    rig.certificate._now = lambda: BEGIN + timedelta(days=30)
    await rig.until(lambda: rig.certificate.error)
    assert "expired" in rig.certificate.error
    assert rig.certificate.credentials is None


def test_a_certificate_of_another_key_is_refused():
    (_, csr), (other, _) = make_request(IDENTITY), make_request(IDENTITY)
    authority = Authority(make_root("mesh", BEGIN))
    chain = list(authority.workload(requested_key(csr.encode()), IDENTITY, BEGIN, DAY).chain)
    with pytest.raises(CertificateError, match="another key"):
        read_answer(other, chain)
    with pytest.raises(CertificateError, match="no chain"):
        read_answer(other, chain[:1])
    with pytest.raises(CertificateError, match="not in PEM"):
        read_answer(other, ["x", "y"])


async def test_the_key_shows_in_no_repr():
    rig = Rig()
    await rig.until(lambda: rig.certificate.credentials is not None)
    assert "PRIVATE" not in repr(rig.certificate.credentials)
