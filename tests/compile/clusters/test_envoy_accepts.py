"""The real Envoy takes every cluster of the golden cases, compiled for upstream Envoy with and without certificates."""

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from google.protobuf import any_pb2, json_format

from pypilot.cli.demo.envoy import EnvoyNotFoundError, find_envoy
from pypilot.compile.clusters import compile_clusters
from pypilot.wire.node import Proxy
from pypilot.world.reader import Reader
from tests import golden
from tests.compile.secrets.certs import new_pair, revocation_list

CASES = [name for name in golden.cases() if name.startswith("clusters/")]


def bootstrap(clusters: list[cluster_pb2.Cluster]) -> bootstrap_pb2.Bootstrap:
    made = bootstrap_pb2.Bootstrap()
    made.node.id, made.node.cluster = "test", "test"
    ads = made.dynamic_resources.ads_config
    ads.api_type, ads.transport_api_version = "GRPC", "V3"
    ads.grpc_services.add().envoy_grpc.cluster_name = "xds"
    for name in ("xds", "sds-grpc"):
        cluster = made.static_resources.clusters.add(name=name)
        cluster.load_assignment.cluster_name = name
        endpoint = cluster.load_assignment.endpoints.add().lb_endpoints.add().endpoint
        endpoint.address.pipe.path = "/nowhere.sock"
    made.static_resources.clusters.extend(clusters)
    return made


def upstream(proxy: Proxy, certificates: bool) -> Proxy:
    return dataclasses.replace(proxy, extensions=frozenset({"envoy.filters.http.router"}), workload_sds=certificates)


@pytest.mark.envoy
@pytest.mark.parametrize("certificates", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_envoy_accepts_the_clusters(name: str, certificates: bool, tmp_path: Path) -> None:
    try:
        envoy = find_envoy(os.environ)
    except EnvoyNotFoundError as error:
        pytest.skip(str(error))
    case = golden.read_case((golden.ROOT / name / "in.yaml").read_text())
    clusters = []
    for resource in compile_clusters(Reader(case.world), upstream(case.proxy, certificates)):
        cluster = cluster_pb2.Cluster()
        any_pb2.Any.FromString(resource.any_bytes).Unpack(cluster)
        clusters.append(cluster)
    assert clusters
    # The files that rules name do not exist here.
    pair = new_pair()
    (tmp_path / "cert.pem").write_text(pair.certificate)
    (tmp_path / "key.pem").write_text(pair.key)
    text = json_format.MessageToJson(bootstrap(clusters), preserving_proto_field_name=True)
    (tmp_path / "crl.pem").write_text(revocation_list())
    text = text.replace('"filename": "/crl.pem"', f'"filename": "{tmp_path}/crl.pem"')
    for path in ("/ca.pem", "/c.pem", "/own.pem", "/etc/ssl/certs/ca-certificates.crt"):
        text = text.replace(f'"filename": "{path}"', f'"filename": "{tmp_path}/cert.pem"')
    for path in ("/k.pem", "/own.key"):
        text = text.replace(f'"filename": "{path}"', f'"filename": "{tmp_path}/key.pem"')
    config = tmp_path / "bootstrap.json"
    config.write_text(text)
    command = [str(envoy), "--mode", "validate", "-c", str(config), "-l", "error", "--disable-hot-restart"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-800:]
