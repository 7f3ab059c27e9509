"""What a compliance policy leaves of our own ports (DR-079)."""

import ssl

import pytest

from pypilot.settings import CompliancePolicy
from pypilot.xds.tls import TlsMaterial, server_context
from tests.xds.certificates import Authority

AUTHORITY = Authority()
PAIR = AUTHORITY.issue(dns="pilot.example")


def client(lowest: ssl.TLSVersion, highest: ssl.TLSVersion, ciphers: str = "") -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=AUTHORITY.certificate.decode())
    context.minimum_version, context.maximum_version = lowest, highest
    if ciphers:
        context.set_ciphers(ciphers)
    return context


def spoken(policy: CompliancePolicy, context: ssl.SSLContext) -> str | None:
    """The version that a client and our server agree upon, None if they cannot."""
    server = server_context(TlsMaterial(PAIR.key, PAIR.certificate, None), compliance=policy)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = context.wrap_bio(down, up, server_hostname="pilot.example")
    there = server.wrap_bio(up, down, server_side=True)
    for _ in range(10):
        done = 0
        for side in (here, there):
            try:
                side.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return None
        if done == 2:
            return here.version()
    raise AssertionError("no end")


OLD, NEW = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(
    ("policy", "both", "only_old", "only_new", "another_cipher"),
    [
        ("none", "TLSv1.3", "TLSv1.2", "TLSv1.3", "TLSv1.2"),
        ("fips-140-2", "TLSv1.2", "TLSv1.2", None, None),
        ("fips-140-3", "TLSv1.3", "TLSv1.2", "TLSv1.3", None),
        ("pqc", "TLSv1.3", None, "TLSv1.3", None),
    ],
)
def test_versions_and_ciphers(
    policy: CompliancePolicy, both: str | None, only_old: str | None, only_new: str | None, another_cipher: str | None
) -> None:
    assert spoken(policy, client(OLD, NEW)) == both
    assert spoken(policy, client(OLD, OLD)) == only_old
    assert spoken(policy, client(NEW, NEW)) == only_new
    assert spoken(policy, client(OLD, OLD, "ECDHE-ECDSA-CHACHA20-POLY1305")) == another_cipher
