"""XAUTH-001…003 and the serving root on a real API server, as a service account with no more rights than needed."""

import asyncio
import base64
from datetime import UTC, datetime

import grpc
import pytest
from cryptography import x509
from structlog.testing import capture_logs

from e2e.kube.control_plane import (
    account,
    config_map,
    namespace,
    reader_of_secrets,
    replica,
    settle,
    token_of,
    until,
)
from pypilot.security.x509 import make_root
from pypilot.wire.types import SECRET
from tests.security.workloads import intermediate, workload_certificate
from tests.xds.harness import node_id, stream

SPACE = "auth-root"
APP = "auth-app"
UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture
async def ready(cluster, client):
    await settle(client, SPACE)
    await client.apply_all([namespace(APP), account(APP, "seller"), account(APP, "buyer"), account(APP, "guest")])
    await client.apply_all([*reader_of_secrets(APP, "seller"), *reader_of_secrets(APP, "buyer")])
    async with replica(cluster, client, SPACE) as made:
        made.catalog.put(SECRET, {"cert": "private"})
        yield made
    await client.wipe()


async def asked(made, token="", node=None, pair=(None, None), names=("cert",), **metadata):
    """What a client gets that trusts only the published root."""
    root = made.services.identity.tls.read()[2]
    credentials = grpc.ssl_channel_credentials(root, *pair)
    if token:
        bearer = grpc.access_token_call_credentials(token)
        credentials = grpc.composite_channel_credentials(credentials, bearer)
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.ssl_target_name_override", f"istiod.{SPACE}.svc"),
    ]
    async with grpc.aio.secure_channel(f"127.0.0.1:{made.server.secure_port}", credentials, options) as opened:
        one = stream(opened)
        try:
            await one.ask(SECRET, names, node=node or node_id("app", APP), metadata=metadata)
            return (await one.next()).resources
        except grpc.aio.AioRpcError as error:
            return error.code()


async def test_a_token_for_the_audience_is_accepted_and_its_owner_may_only_be_itself(ready, client):
    token = await token_of(client, APP, "seller", "istio-ca")
    assert await asked(ready, token) == {"cert": "private"}
    assert await asked(ready, token, SERVICE_ACCOUNT="seller") == {"cert": "private"}
    assert await asked(ready, token, SERVICE_ACCOUNT="buyer") is DENIED
    assert await asked(ready, token, node=node_id("app", "other")) is DENIED
    assert ready.services.statistics().tokens.requests == 1  # one review for all of them


async def test_tokens_that_are_no_good_are_refused(ready, client, cluster):
    token = await token_of(client, APP, "seller", "istio-ca")
    head, payload, signature = token.split(".")
    uid = (await client.request("GET", f"/api/v1/namespaces/{APP}/serviceaccounts/seller"))["metadata"]["uid"]
    assert await asked(ready) is UNAUTHENTICATED
    with capture_logs() as logs:
        for bad in (
            await token_of(client, APP, "seller"),  # for the API server itself
            await token_of(client, APP, "seller", "vault"),
            cluster.pki.token(APP, "seller", uid, -60),
            f"{head}.{payload}.{signature[:-8]}AAAAAAAA",
            "nonsense",
        ):
            assert await asked(ready, bad) is UNAUTHENTICATED
            assert bad.split(".")[-1] not in str(logs)
    assert [entry["event"] for entry in logs].count("xds.denied") == 5


async def test_the_token_of_a_deleted_service_account_is_refused(ready, client):
    token = await token_of(client, APP, "buyer", "istio-ca")
    await client.delete(account(APP, "buyer"))
    assert await asked(ready, token) is UNAUTHENTICATED


async def test_an_accepted_token_goes_on_while_the_api_server_is_away_and_a_new_one_does_not(ready, client, cluster):
    known = await token_of(client, APP, "seller", "istio-ca")
    fresh = await token_of(client, APP, "seller", "istio-ca")
    assert await asked(ready, known) == {"cert": "private"}
    cluster.kill_apiserver()
    try:
        assert await asked(ready, known) == {"cert": "private"}
        assert await asked(ready, fresh) is grpc.StatusCode.UNAVAILABLE
    finally:
        await asyncio.to_thread(cluster.start_apiserver)
    assert await asked(ready, fresh) == {"cert": "private"}


async def test_a_certificate_of_the_root_is_accepted_and_one_of_another_is_not(ready, client):
    root = ready.services._keeper.root
    pair = workload_certificate(root, f"spiffe://cluster.local/ns/{APP}/sa/seller")
    assert await asked(ready, pair=pair) == {"cert": "private"}
    assert await asked(ready, pair=pair, node=node_id("app", "other")) is DENIED
    stranger = workload_certificate(make_root("x", datetime.now(UTC)), f"spiffe://cluster.local/ns/{APP}/sa/seller")
    assert await asked(ready, pair=stranger) is grpc.StatusCode.UNAVAILABLE
    expired = workload_certificate(root, f"spiffe://cluster.local/ns/{APP}/sa/seller", days=-1)
    assert await asked(ready, pair=expired) is grpc.StatusCode.UNAVAILABLE


async def test_the_root_is_in_every_namespace_also_new_ones_and_repaired(ready, client):
    root = ready.services.identity.tls.read()[2].decode()
    ready.services.namespaces_changed([SPACE, APP, "default"])
    for space in (SPACE, APP, "default"):
        await until(lambda space=space: _published(client, space, root))
    await client.apply(namespace("auth-new"))
    ready.services.namespaces_changed([SPACE, APP, "default", "auth-new", "auth-absent"])
    await until(lambda: _published(client, "auth-new", root))
    path = f"/api/v1/namespaces/{APP}/configmaps/istio-ca-root-cert"
    await client.request("PATCH", path, {"data": {"root-cert.pem": "x"}}, "application/merge-patch+json")
    await until(lambda: _published(client, APP, root))
    await client.request("DELETE", path)
    await until(lambda: _published(client, APP, root))
    assert ready.services.statistics().publishing.errors == {}


async def _published(client, space, root):
    return await config_map(client, space) == root


async def test_replicas_share_one_root_and_a_deleted_secret_comes_back_as_it_was(ready, client, cluster):
    path = f"/api/v1/namespaces/{SPACE}/secrets/istio-ca-secret"
    secret = await client.request("GET", path)
    assert secret["type"] == "istio.io/ca-root"
    async with replica(cluster, client, SPACE) as other:
        assert other.services.identity.tls.read()[2] == ready.services.identity.tls.read()[2]
        assert other.services.identity.tls.read()[0] != ready.services.identity.tls.read()[0]
        assert other.services.statistics().is_leading is False
        await client.request("DELETE", path)

        async def is_back():
            items = (await client.request("GET", f"/api/v1/namespaces/{SPACE}/secrets"))["items"]
            return [i["data"]["ca-cert.pem"] for i in items if i["metadata"]["name"] == "istio-ca-secret"] == [
                secret["data"]["ca-cert.pem"]
            ]

        await until(is_back)


async def test_a_plugged_in_ca_takes_over(ready, client):
    data = intermediate("operator")
    old = ready.services.identity.tls.stamp()
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "cacerts", "namespace": SPACE},
        "data": {k: base64.b64encode(v).decode() for k, v in data.items()},
    }
    ready.services.namespaces_changed([APP])
    await client.request("POST", f"/api/v1/namespaces/{SPACE}/secrets", body)
    await until(lambda: ready.services.identity.tls.stamp() != old)
    await until(lambda: _published(client, APP, data["root-cert.pem"].decode()))
    token = await token_of(client, APP, "seller", "istio-ca")
    assert await asked(ready, token) == {"cert": "private"}  # the chain leads to the operator's root
    assert len(x509.load_pem_x509_certificates(ready.services.identity.tls.read()[1])) == 2


async def test_who_may_not_list_the_secrets_of_its_namespace_gets_what_is_public(ready, client):
    """SDS-005, SDS-009: and is asked about once for all its streams."""
    ready.catalog.put(SECRET, {"cert": "private", "cert-cacert": "public"})
    names = ["cert", "cert-cacert"]
    seller, guest = [await token_of(client, APP, name, "istio-ca") for name in ("seller", "guest")]
    for _ in range(3):
        assert await asked(ready, seller, names=names) == {"cert": "private", "cert-cacert": "public"}
        assert await asked(ready, guest, names=names) == {"cert-cacert": "public"}
    found = ready.services.statistics().secret_access
    assert (found.requests, found.failed) == (2, 0)
