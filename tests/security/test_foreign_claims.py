"""Whoever claims another's name gets nothing of his: over the real TLS port, with real certificates, in both variants.

XAUTH-001…003, SDS-003, CA-002. What two pods of one service account may do is the same, so that is not told apart.
"""

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.struct_pb2 import Struct

from pypilot.cli.demo.addresses import free_port
from pypilot.cli.demo.certificates import Authority as Shop
from pypilot.cli.demo.control_plane import ControlPlane
from pypilot.security.x509 import Root, make_root, parse_root
from pypilot.wire.pb.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from pypilot.wire.types import CLUSTER, LISTENER, SECRET
from pypilot.xds.certificates import SERVICE
from tests.security.workloads import workload_certificate
from tests.xds.harness import Stream, stream

GOOD, BAD = "shop", "bank"
OF_BANK = "kubernetes://vault"
FORMS = (OF_BANK, "kubernetes://bank/vault", "kubernetes-gateway://bank/vault", "kubernetes://vault-cacert")


def identity(namespace: str, account: str = "gateway") -> str:
    return f"spiffe://cluster.local/ns/{namespace}/sa/{account}"


def node(namespace: str, name: str = "gateway-1") -> str:
    return f"router~10.0.0.1~{name}.{namespace}~{namespace}.svc.cluster.local"


def configuration() -> str:
    """The bank has a gateway with a secret; its labels are no secret."""
    certificate = Shop("bank CA").issue("bank.example")
    port = {"number": 443, "name": "https", "protocol": "HTTPS"}
    server = {"port": port, "hosts": ["*"], "tls": {"mode": "SIMPLE", "credentialName": "vault"}}
    objects = [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "door", "namespace": BAD},
            "spec": {"selector": {"istio": "bank"}, "servers": [server]},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "vault", "namespace": BAD},
            "stringData": {"tls.crt": certificate.certificate.decode(), "tls.key": certificate.key.decode()},
        },
    ]
    return yaml.safe_dump_all(objects)


@dataclass(frozen=True)
class Served:
    """A running control plane."""

    port: int
    root: Root
    running: ControlPlane

    @asynccontextmanager
    async def channel(self, uri: str = "", root: Root | None = None):
        """A connection with a certificate of that name, made by its CA or another."""
        pair = workload_certificate(root or self.root, uri) if uri else (None, None)
        credentials = grpc.ssl_channel_credentials(self.root.bundle, *pair)
        options = [("grpc.ssl_target_name_override", "istiod.istio-system.svc"), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options) as opened:
            yield opened

    async def sign(self, opened, csr: str, **metadata: str) -> list[str]:
        """The CA's answer on this connection."""
        call = opened.unary_unary(
            f"/{SERVICE}/CreateCertificate",
            request_serializer=IstioCertificateRequest.SerializeToString,
            response_deserializer=IstioCertificateResponse.FromString,
        )
        told = Struct()
        told.update(metadata)
        return list((await call(IstioCertificateRequest(csr=csr, metadata=told), timeout=60)).cert_chain)


@pytest.fixture
async def served(tmp_path: Path):
    config = tmp_path / "config"
    config.mkdir()
    (config / "bank.yaml").write_text(configuration())
    (config / "bank.yaml").chmod(0o600)
    port = free_port()
    options = ("--ca-dir", str(tmp_path / "ca"), "--secure-grpc-addr", f"127.0.0.1:{port}")
    async with ControlPlane.start(config, tmp_path, options=options) as running:
        await running.wait_ready(60)
        files = {path.name: path.read_bytes() for path in (tmp_path / "ca").iterdir()}
        yield Served(port, parse_root(files, datetime.now(UTC)), running)


async def secrets(ads: Stream, *names: str, namespace: str = GOOD, claimed: str = "") -> set[str]:
    """Which of these secrets come; that clusters come says that everything before them was answered."""
    metadata = {"NAMESPACE": namespace, "LABELS": {"istio": "bank"}, "SERVICE_ACCOUNT": "gateway"}
    await ads.ask(SECRET, names, node=node(claimed or namespace), metadata=metadata)
    await ads.ask(CLUSTER)
    found: set[str] = set()
    while (answer := await ads.next()).type_url != CLUSTER:
        found.update(answer.resources)
    return found


async def refused(opened: grpc.aio.Channel) -> grpc.StatusCode:
    """How a stream for the bank's proxy ends."""
    ads = stream(opened)
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        await ads.ask(LISTENER, node=node(BAD))
    return await ads.end()


@pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
@pytest.mark.parametrize(
    ("claimed", "metadata"),
    [
        (node(BAD), {}),
        (node(GOOD), {"NAMESPACE": BAD}),
        (node(GOOD), {"SERVICE_ACCOUNT": "teller"}),
    ],
    ids=["id", "metadata", "account"],
)
async def test_another_s_node_is_denied(served: Served, delta: bool, claimed: str, metadata: dict[str, str]) -> None:
    async with served.channel(identity(GOOD)) as opened:
        ads = stream(opened, delta)
        await ads.ask(LISTENER, node=claimed, metadata=metadata)
        assert await ads.end() is grpc.StatusCode.PERMISSION_DENIED
    assert BAD not in str(await served.running.get_json("/debug/connections"))


@pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
async def test_another_s_secret_is_sent_to_nobody_else(served: Served, delta: bool) -> None:
    """Though he carries the labels that the gateway's objects select."""
    async with served.channel(identity(BAD)) as opened:
        assert await secrets(stream(opened, delta), OF_BANK, namespace=BAD) == {OF_BANK}
    for claimed in (GOOD, BAD):  # what the node's id says of the namespace does not count beside its metadata
        async with served.channel(identity(GOOD)) as opened:
            assert await secrets(stream(opened, delta), *FORMS, claimed=claimed) == set()


async def test_another_node_later_on_the_stream_changes_nothing(served: Served) -> None:
    async with served.channel(identity(GOOD)) as opened:
        ads = stream(opened)
        assert await secrets(ads, "kubernetes://nothing") == set()
        await ads.ask(SECRET, [OF_BANK], node=node(BAD), metadata={"NAMESPACE": BAD, "LABELS": {"istio": "bank"}})
        await ads.ask(LISTENER)
        while (answer := await ads.next()).type_url != LISTENER:
            assert not answer.resources
        (connection,) = await served.running.get_json("/debug/connections")
        assert f".{BAD}" not in connection["node"]


async def test_a_certificate_of_another_ca_is_none(served: Served) -> None:
    """Even of one with the same name."""
    other = make_root("cluster.local", datetime.now(UTC))
    async with served.channel(identity(BAD), root=other) as opened:
        assert await refused(opened) in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED)


async def test_without_proof_nothing_is_told(served: Served) -> None:
    async with served.channel() as opened:
        assert await refused(opened) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_leaf_signs_for_nobody(served: Served) -> None:
    """A workload's certificate is not a CA's: what is signed by its key proves nothing."""
    key, chain = workload_certificate(served.root, identity(GOOD))
    leaf = replace(served.root, certificate=chain, key=key, chain=chain)
    async with served.channel(identity(BAD), root=leaf) as opened:
        assert await refused(opened) in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED)


async def test_a_request_for_another_s_certificate_gives_one_s_own(served: Served) -> None:
    """CA-002; and nobody but a node's own proxy may speak for others."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity(BAD)), x509.DNSName("bank.example")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    wish = builder.add_extension(names, True).add_extension(x509.BasicConstraints(True, None), True)
    csr = wish.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    async with served.channel(identity(GOOD)) as opened:
        leaf = x509.load_pem_x509_certificate((await served.sign(opened, csr))[0].encode())
        got = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert got.get_values_for_type(x509.UniformResourceIdentifier) == [identity(GOOD)]
        assert got.get_values_for_type(x509.DNSName) == []
        assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.sign(opened, csr, ImpersonatedIdentity=identity(BAD))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
