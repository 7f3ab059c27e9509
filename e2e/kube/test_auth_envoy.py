"""Upstream Envoy on port 15012 with a projected token: both ways there are, and rotation as the kubelet does it."""

import asyncio
import base64
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from e2e.kube.control_plane import account, namespace, replica, settle, token_of, until
from tests.security.workloads import intermediate
from tests.xds.real_envoy import envoy_binary

pytestmark = pytest.mark.envoy
SPACE = "auth-envoy-root"
APP = "auth-envoy"


@pytest.fixture
async def ready(cluster, client):
    await settle(client, SPACE)
    await client.apply_all([namespace(APP), account(APP, "seller"), account(APP, "buyer")])
    async with replica(cluster, client, SPACE) as made:
        yield made
    await client.wipe()


def project(directory: Path, name: str, content: str) -> None:
    """As the kubelet writes a projected volume: a new directory, then one rename of a symbolic link."""
    directory.mkdir(exist_ok=True)
    version = len(list(directory.glob("..20*")))
    fresh = directory / f"..20{version}"
    fresh.mkdir()
    (fresh / name).write_text(content)
    (directory / "..data_tmp").symlink_to(fresh.name)
    (directory / "..data_tmp").replace(directory / "..data")
    if not (directory / name).exists():
        (directory / name).symlink_to(f"..data/{name}")


def bootstraps(port: int, directory: Path) -> dict[str, dict]:
    """Both ways for an upstream Envoy to send a token: a filter on the way to the cluster, or Google's gRPC."""
    host = f"istiod.{SPACE}.svc"
    typed = "type.googleapis.com/envoy"
    (directory / "token-sds.yaml").write_text(
        yaml.safe_dump(
            {
                "resources": [
                    {
                        "@type": f"{typed}.extensions.transport_sockets.tls.v3.Secret",
                        "name": "istio-token",
                        "generic_secret": {"secret": {"filename": str(directory / "tokens/istio-token")}},
                    }
                ]
            }
        )
    )
    secret = {
        "name": "istio-token",
        "sds_config": {
            "resource_api_version": "V3",
            "path_config_source": {
                "path": str(directory / "token-sds.yaml"),
                "watched_directory": {"path": str(directory / "tokens")},
            },
        },
    }
    generic = {
        "@type": f"{typed}.extensions.http.injected_credentials.generic.v3.Generic",
        "header": "authorization",
        "header_value_prefix": "Bearer ",
        "credential": secret,
    }
    injector = {
        "@type": f"{typed}.extensions.filters.http.credential_injector.v3.CredentialInjector",
        "overwrite": True,
        "credential": {"name": "envoy.http.injected_credentials.generic", "typed_config": generic},
    }
    codec = {"@type": f"{typed}.extensions.filters.http.upstream_codec.v3.UpstreamCodec"}
    protocol = {
        "@type": f"{typed}.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
        "http_filters": [
            {"name": "envoy.filters.http.credential_injector", "typed_config": injector},
            {"name": "envoy.filters.http.upstream_codec", "typed_config": codec},
        ],
    }
    # Only what comes by SDS is read again when it changes; a file holds one resource.
    validation = {
        "trusted_ca": {"filename": str(directory / "root/root-cert.pem")},
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": host}}],
    }
    (directory / "root-sds.yaml").write_text(
        yaml.safe_dump(
            {
                "resources": [
                    {
                        "@type": f"{typed}.extensions.transport_sockets.tls.v3.Secret",
                        "name": "istio-root",
                        "validation_context": validation,
                    }
                ]
            }
        )
    )
    root = {
        "name": "istio-root",
        "sds_config": {
            "resource_api_version": "V3",
            "path_config_source": {
                "path": str(directory / "root-sds.yaml"),
                "watched_directory": {"path": str(directory / "root")},
            },
        },
    }
    tls = {
        "@type": f"{typed}.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": host,
        "common_tls_context": {"alpn_protocols": ["h2"], "validation_context_sds_secret_config": root},
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    cluster = {
        "name": "xds-grpc",
        "type": "STATIC",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol},
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
        "load_assignment": {
            "cluster_name": "xds-grpc",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    plugin = "envoy.grpc_credentials.file_based_metadata"
    metadata = {
        "@type": f"{typed}.config.grpc_credential.v3.FileBasedMetadataConfig",
        "secret_data": {"filename": str(directory / "tokens/istio-token")},
        "header_key": "authorization",
        "header_prefix": "Bearer ",
    }
    google = {
        "target_uri": f"127.0.0.1:{port}",
        "stat_prefix": "xds",
        "credentials_factory_name": plugin,
        "channel_credentials": {"ssl_credentials": {"root_certs": {"filename": str(directory / "root/root-cert.pem")}}},
        "call_credentials": [{"from_plugin": {"name": plugin, "typed_config": metadata}}],
        "channel_args": {"args": {"grpc.ssl_target_name_override": {"string_value": host}}},
    }
    source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    out = {}
    for name, service, clusters in (
        ("credential_injector", {"envoy_grpc": {"cluster_name": "xds-grpc"}}, [cluster]),
        ("google_grpc", {"google_grpc": google}, []),
    ):
        ads = {"api_type": "DELTA_GRPC", "transport_api_version": "V3", "grpc_services": [service]}
        out[name] = {
            "node": {"id": f"router~127.0.0.1~gw.{APP}~{APP}.svc.cluster.local", "cluster": "gw"},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
            "dynamic_resources": {"ads_config": ads, "cds_config": source, "lds_config": source},
            "static_resources": {"clusters": clusters},
        }
    return out


@asynccontextmanager
async def connected(made, client, directory, way):
    """A running Envoy with the token of `seller`."""
    project(directory / "root", "root-cert.pem", made.services.identity.tls.read()[2].decode())
    project(directory / "tokens", "istio-token", await token_of(client, APP, "seller", "istio-ca"))
    config = directory / "envoy.yaml"
    config.write_text(yaml.safe_dump(bootstraps(made.server.secure_port, directory)[way]))
    with (directory / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            envoy_binary(),
            *("-c", str(config), "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"),
            stdout=log,
            stderr=log,
        )
    try:
        await until(made.server.connections)
        yield
    finally:
        process.kill()
        await process.wait()


def identities(made):
    return [connection.identity for connection in made.server.connections()]


@pytest.mark.parametrize("way", ["credential_injector", "google_grpc"])
async def test_an_upstream_envoy_connects_with_its_token_and_follows_its_rotation(ready, client, tmp_path, way):
    async with connected(ready, client, tmp_path, way):
        assert identities(ready) == [f"spiffe://cluster.local/ns/{APP}/sa/seller"]
        assert ready.server.connections()[0].variant == "delta"
        # Another account's token: who is connected shows which token was sent.
        project(tmp_path / "tokens", "istio-token", await token_of(client, APP, "buyer", "istio-ca"))

        def is_rotated():
            for connection in tuple(ready.server._connections.values()):
                if str(connection.caller.identity).endswith("/seller"):
                    connection.close()
            return identities(ready) == [f"spiffe://cluster.local/ns/{APP}/sa/buyer"]

        await until(is_rotated)


async def test_an_upstream_envoy_follows_another_root(ready, client, tmp_path):
    async with connected(ready, client, tmp_path, "credential_injector"):
        data = intermediate("operator")
        old = ready.services.identity.tls.stamp()
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "cacerts", "namespace": SPACE},
            "data": {k: base64.b64encode(v).decode() for k, v in data.items()},
        }
        await client.request("POST", f"/api/v1/namespaces/{SPACE}/secrets", body)
        await until(lambda: ready.services.identity.tls.stamp() != old)
        project(tmp_path / "root", "root-cert.pem", data["root-cert.pem"].decode())
        before = ready.server.connections()[0].id
        for end in tuple(ready.server._front._clients):
            end.transport.abort()
        await until(lambda: [c.id for c in ready.server.connections()] not in ([], [before]))
