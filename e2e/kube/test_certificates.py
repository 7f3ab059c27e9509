"""CA-001…004 with the API server's own tokens: a workload gets its certificate, and connects with it."""

import grpc
import pytest
from cryptography import x509
from google.protobuf.struct_pb2 import Struct

from e2e.kube.control_plane import account, namespace, reader_of_secrets, replica, settle, token_of
from pypilot.wire.pb.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from pypilot.wire.types import SECRET
from pypilot.xds.certificates import SERVICE
from tests.security.test_authority import P256, csr
from tests.security.workloads import pem
from tests.world.objects import make
from tests.xds.harness import node_id, stream

SPACE = "ca-root"
APP = "ca-app"
NODE_AGENT = "ztunnel"


def pod(name: str, space: str, owner: str, node: str = "") -> dict:
    container = {"name": "a", "image": "a"}
    spec = {"serviceAccountName": owner, "containers": [container], **({"nodeName": node} if node else {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": space}, "spec": spec}


def known(name: str, space: str, owner: str, node: str):
    spec = {"serviceAccountName": owner, "nodeName": node}
    return (space, name), make("Pod", name, space, spec=spec)


@pytest.fixture
async def ready(cluster, client):
    await settle(client, SPACE)
    await client.apply_all([namespace("istio-system"), namespace(APP)])
    await client.apply_all([account(APP, "seller"), account(APP, "buyer"), account("istio-system", NODE_AGENT)])
    await client.apply_all(reader_of_secrets(APP, "seller"))
    await client.apply(pod("ztunnel-a", "istio-system", NODE_AGENT))
    pods = dict([known("ztunnel-a", "istio-system", NODE_AGENT, "a"), known("seller-1", APP, "seller", "a")])
    pods |= dict([known("buyer-1", APP, "buyer", "b")])
    async with replica(cluster, client, SPACE, pods=lambda: pods) as made:
        made.catalog.put(SECRET, {"cert": "private"})
        yield made
    await client.wipe()


def channel(made, token="", pair=(None, None)):
    credentials = grpc.ssl_channel_credentials(made.services.identity.tls.read()[2], *pair)
    if token:
        credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(token))
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.ssl_target_name_override", f"istiod.{SPACE}.svc")]
    return grpc.aio.secure_channel(f"127.0.0.1:{made.server.secure_port}", credentials, options)


async def certificate(made, token="", pair=(None, None), **metadata):
    request = IstioCertificateRequest(csr=csr(P256).decode(), validity_duration=3600)
    if metadata:
        request.metadata.CopyFrom(Struct())
        request.metadata.update(metadata)
    async with channel(made, token, pair) as opened:
        call = opened.unary_unary(
            f"/{SERVICE}/CreateCertificate",
            request_serializer=IstioCertificateRequest.SerializeToString,
            response_deserializer=IstioCertificateResponse.FromString,
        )
        try:
            return list((await call(request, timeout=60)).cert_chain)
        except grpc.aio.AioRpcError as error:
            return error.code()


def name_in(chain):
    leaf = x509.load_pem_x509_certificate(chain[0].encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


async def test_a_token_becomes_a_certificate_and_that_opens_the_stream_and_renews_itself(ready, client):
    token = await token_of(client, APP, "seller", "istio-ca")
    chain = await certificate(ready, token)
    assert name_in(chain) == [f"spiffe://cluster.local/ns/{APP}/sa/seller"]
    assert chain[-1].encode() == ready.services.identity.tls.read()[2]
    pair = (pem(P256), "".join(chain[:-1]).encode())
    async with channel(ready, pair=pair) as opened:
        one = stream(opened)
        await one.ask(SECRET, ["cert"], node=node_id("app", APP))
        assert (await one.next()).resources == {"cert": "private"}
    assert name_in(await certificate(ready, pair=pair)) == name_in(chain)
    assert ready.services.statistics().certificates.issued == 2


async def test_nobody_gets_another_identity(ready, client):
    other = f"spiffe://cluster.local/ns/{APP}/sa/buyer"
    token = await token_of(client, APP, "seller", "istio-ca")
    assert await certificate(ready, token, ImpersonatedIdentity=other) is grpc.StatusCode.PERMISSION_DENIED
    assert await certificate(ready) is grpc.StatusCode.UNAUTHENTICATED
    assert await certificate(ready, await token_of(client, APP, "seller")) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_nodes_agent_speaks_for_the_pods_of_its_node_only(ready, client):
    seller, buyer = (f"spiffe://cluster.local/ns/{APP}/sa/{name}" for name in ("seller", "buyer"))
    bound = await token_of(client, "istio-system", NODE_AGENT, "istio-ca", pod="ztunnel-a")
    assert name_in(await certificate(ready, bound, ImpersonatedIdentity=seller)) == [seller]
    assert await certificate(ready, bound, ImpersonatedIdentity=buyer) is grpc.StatusCode.PERMISSION_DENIED
    loose = await token_of(client, "istio-system", NODE_AGENT, "istio-ca")
    assert await certificate(ready, loose, ImpersonatedIdentity=seller) is grpc.StatusCode.PERMISSION_DENIED
