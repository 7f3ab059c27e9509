"""Who may connect: XAUTH-001…003, XAUTH-005, SDS-003, NODE-011."""

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from structlog.testing import capture_logs

from pypilot.wire.node import parse_node
from pypilot.wire.types import SECRET
from pypilot.xds.auth import (
    CertificateAuthenticator,
    DeniedError,
    Identity,
    Peer,
    authenticate,
    authorize,
)
from pypilot.xds.server import XdsOptions, XdsServer
from pypilot.xds.tls import TlsFiles
from tests.xds.certificates import Authority
from tests.xds.harness import HandCatalog, channel, node_id, stream

APP = "spiffe://cluster.local/ns/shop/sa/seller"


def proxy(namespace="shop", service_account=""):
    return parse_node({"id": node_id("app", namespace), "metadata": {"SERVICE_ACCOUNT": service_account}})


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.mark.parametrize(
    ("uris", "identity"),
    [
        ([APP], Identity("cluster.local", "shop", "seller")),
        (["spiffe://td/ns/a/sa/b"], Identity("td", "a", "b")),
    ],
)
async def test_certificate_identity(authority, uris, identity):
    peer = Peer("ipv4:10.0.0.1:1", secure=True, certificate=authority.issue(*uris).certificate)
    assert await CertificateAuthenticator().authenticate(peer) == identity


@pytest.mark.parametrize(
    "uris",
    [
        [],
        ["https://example.com"],
        ["spiffe://td/ns/a"],
        ["spiffe://td/ns/a/sa/b/c"],
        ["spiffe:///ns/a/sa/b"],
        [APP, "spiffe://td/ns/a/sa/b"],
    ],
)
async def test_a_certificate_without_one_identity_is_denied(authority, uris):
    peer = Peer("ipv4:10.0.0.1:1", secure=True, certificate=authority.issue(*uris).certificate)
    with pytest.raises(DeniedError, match="SPIFFE") as error:
        await CertificateAuthenticator().authenticate(peer)
    assert error.value.code == "UNAUTHENTICATED"


async def test_a_certificate_that_expired_while_the_connection_was_open_is_denied(authority):
    peer = Peer("ipv4:10.0.0.1:1", secure=True, certificate=authority.issue(APP).certificate)
    later = CertificateAuthenticator(lambda: datetime.now(UTC) + timedelta(hours=2))
    with pytest.raises(DeniedError, match="expired"):
        await later.authenticate(peer)


@pytest.mark.parametrize("certificate", [b"", b"nonsense"])
async def test_no_certificate_is_no_identity(certificate):
    peer = Peer("ipv4:10.0.0.1:1", secure=True, certificate=certificate)
    with pytest.raises(DeniedError) as error:
        await authenticate(peer, [CertificateAuthenticator()])
    assert error.value.code == "UNAUTHENTICATED"


async def test_a_bad_credential_gives_way_to_a_good_one_and_never_to_none():
    class Denies:
        def __init__(self, code):
            self.code = code

        async def authenticate(self, peer):
            raise DeniedError(self.code, f"{self.code} it is")

    class Knows:
        async def authenticate(self, peer):
            return Identity("a", "b", "c")

    class Passes:
        async def authenticate(self, peer):
            return None

    peer = Peer("unix:", secure=True)
    assert await authenticate(peer, [Denies("UNAUTHENTICATED"), Knows()]) == Identity("a", "b", "c")
    for others, code in (
        ([Denies("UNAUTHENTICATED"), Passes()], "UNAUTHENTICATED"),
        ([Passes()], "UNAUTHENTICATED"),
        ([], "UNAUTHENTICATED"),
        ([Denies("UNAUTHENTICATED"), Denies("UNAVAILABLE")], "UNAVAILABLE"),
    ):
        with pytest.raises(DeniedError) as error:
            await authenticate(peer, others)
        assert error.value.code == code


async def test_the_first_authenticator_that_knows_the_peer_wins():
    class Knows:
        def __init__(self, identity):
            self.identity = identity

        async def authenticate(self, peer):
            return self.identity

    first, second = Identity("a", "a", "a"), Identity("b", "b", "b")
    peer = Peer("unix:", secure=True)
    assert await authenticate(peer, [Knows(None), Knows(first), Knows(second)]) == first


def test_authorize():
    identity = Identity("td", "shop", "seller")
    assert authorize(identity, proxy("shop")).service_account == "seller"
    assert authorize(identity, proxy("shop", "seller")).service_account == "seller"
    for claimed in (proxy("other"), proxy("shop", "buyer")):
        with pytest.raises(DeniedError) as error:
            authorize(identity, claimed)
        assert error.value.code == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("ipv4:127.0.0.1:4711", True),
        ("ipv4:127.8.9.10:4711", True),
        ("ipv6:%5B::1%5D:4711", True),
        ("ipv6:[::1]:4711", True),
        ("unix:/run/pypilot.sock", True),
        ("ipv6:%5B::ffff:127.0.0.1%5D:4711", True),
        ("ipv6:%5B::ffff:10.0.0.1%5D:4711", False),
        ("127.0.0.1", False),
        ("ipv4:10.0.0.1:127", False),
        ("ipv4:192.168.127.0:1", False),
        ("ipv6:%5B::1234%5D:4711", False),
        ("ipv6:%5B2001:db8::1%5D:4711", False),
        ("", False),
    ],
)
def test_loopback(address, loopback):
    assert Peer(address, secure=False).loopback is loopback


@pytest.fixture
def files(tmp_path, authority):
    pair = authority.issue(dns="localhost")
    (tmp_path / "cert.pem").write_bytes(pair.certificate)
    (tmp_path / "key.pem").write_bytes(pair.key)
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    return TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")


@asynccontextmanager
async def secured(files):
    catalog = HandCatalog()
    catalog.put(SECRET, {"cert": "private"})
    server = XdsServer(catalog, XdsOptions(plaintext_secrets="never"))
    await server.start(secure="127.0.0.1:0", tls=files)
    try:
        yield server
    finally:
        await server.stop(0)


async def asked(server, authority, pair, node, **metadata):
    """The secrets a client gets, or the status it is refused with."""
    credentials = grpc.ssl_channel_credentials(
        authority.certificate, pair.key if pair else None, pair.certificate if pair else None
    )
    async with channel(server.secure_port, credentials) as opened:
        client = stream(opened)
        try:
            await client.ask(SECRET, ["cert"], node=node, metadata=metadata)
            return (await client.next()).resources, server.connections()
        except grpc.aio.AioRpcError as error:
            return error.code(), server.connections()


async def test_a_client_with_its_own_identity_is_served(files, authority):
    async with secured(files) as server:
        got, (status,) = await asked(server, authority, authority.issue(APP), node_id("app", "shop"))
        assert got == {"cert": "private"}
        assert status.identity == APP
        assert status.proxy.service_account == "seller"


async def test_a_client_may_not_claim_another_namespace(files, authority):
    async with secured(files) as server:
        got, connections = await asked(server, authority, authority.issue(APP), node_id("app", "other"))
        assert got is grpc.StatusCode.PERMISSION_DENIED
        assert connections == ()


async def test_a_client_may_not_claim_another_namespace_in_its_metadata(files, authority):
    async with secured(files) as server:
        got, _ = await asked(server, authority, authority.issue(APP), node_id("app", "shop"), NAMESPACE="other")
        assert got is grpc.StatusCode.PERMISSION_DENIED


async def test_a_client_may_not_claim_another_service_account(files, authority):
    async with secured(files) as server:
        pair, node = authority.issue(APP), node_id("app", "shop")
        assert (await asked(server, authority, pair, node, SERVICE_ACCOUNT="buyer"))[0] is (
            grpc.StatusCode.PERMISSION_DENIED
        )
        assert (await asked(server, authority, pair, node, SERVICE_ACCOUNT="seller"))[0] == {"cert": "private"}


async def test_a_certificate_without_spiffe_id_is_unauthenticated(files, authority):
    async with secured(files) as server:
        got, _ = await asked(server, authority, authority.issue(dns="app"), node_id("app", "shop"))
        assert got is grpc.StatusCode.UNAUTHENTICATED


async def test_without_client_ca_nobody_is_authenticated(files, authority):
    async with secured(TlsFiles(files.certificate, files.key)) as server:
        for pair in (None, authority.issue(APP)):
            got, _ = await asked(server, authority, pair, node_id("app", "shop"))
            assert got is grpc.StatusCode.UNAUTHENTICATED


async def test_with_client_ca_a_certificate_may_be_left_out_but_must_be_good(files, authority):
    async with secured(files) as server:
        for pair, code in (
            (None, grpc.StatusCode.UNAUTHENTICATED),
            (Authority("somebody else").issue(APP), grpc.StatusCode.UNAVAILABLE),  # the handshake fails
        ):
            got, connections = await asked(server, authority, pair, node_id("app", "shop"))
            assert got is code
            assert connections == ()


async def test_server_certificates_follow_their_files(files, authority):
    fresh = Authority("fresh")
    async with secured(files) as server:
        node = node_id("app", "shop")
        assert (await asked(server, authority, authority.issue(APP), node))[0] == {"cert": "private"}
        pair = fresh.issue(dns="localhost")
        files.certificate.write_bytes(pair.certificate)
        with capture_logs() as logs:  # half a rotation: the key does not match yet
            assert (await asked(server, authority, authority.issue(APP), node))[0] == {"cert": "private"}
        assert "xds.tls_not_reloaded" in [entry["event"] for entry in logs]
        assert "PRIVATE KEY" not in str(logs)
        files.key.write_bytes(pair.key)
        files.client_ca.write_bytes(fresh.certificate)
        assert (await asked(server, fresh, fresh.issue(APP), node))[0] == {"cert": "private"}
        assert (await asked(server, fresh, authority.issue(APP), node))[0] is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("broken", ["certificate", "key", "client_ca"])
async def test_bad_files_are_an_error_at_the_start(files, broken):
    getattr(files, broken).write_text("nonsense")
    with pytest.raises(ValueError):
        await XdsServer(HandCatalog()).start(secure="127.0.0.1:0", tls=files)


async def test_a_key_of_another_certificate_is_an_error_at_the_start(files, authority):
    files.key.write_bytes(authority.issue(dns="other").key)
    with pytest.raises(ValueError, match="does not belong"):
        await XdsServer(HandCatalog()).start(secure="127.0.0.1:0", tls=files)


async def test_a_secure_port_needs_files():
    with pytest.raises(ValueError, match="certificate files"):
        await XdsServer(HandCatalog()).start(secure="127.0.0.1:0")
