"""The real Envoy takes every listener of the golden cases.

Compiled for upstream Envoy, with and without mesh certificates, as they are; compiled for Istio's build without the few
filters that only Istio's build has.
"""

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.bootstrap.internal_listener.v3 import internal_listener_pb2
from google.protobuf import json_format

from pypilot.cli.demo.envoy import EnvoyNotFoundError, find_envoy
from pypilot.compile.listeners import compile_listeners
from pypilot.wire.node import Proxy
from pypilot.world.reader import Reader
from tests import golden
from tests.compile.listeners.decoding import MANAGER, Manager, chains, decode
from tests.compile.secrets.certs import new_pair, revocation_list

CASES = [name for name in golden.cases() if name.startswith(("listeners/", "gateways/"))]
ISTIO_FILTERS = ("istio.", "waypoint_downstream_peer_metadata", "connect_authority")
CLUSTERS = ("xds", "sds-grpc", "main_internal")


def bootstrap(listeners: list[listener_pb2.Listener]) -> bootstrap_pb2.Bootstrap:
    made = bootstrap_pb2.Bootstrap()
    made.node.id, made.node.cluster = "test", "test"
    ads = made.dynamic_resources.ads_config
    ads.api_type, ads.transport_api_version = "GRPC", "V3"
    ads.grpc_services.add().envoy_grpc.cluster_name = "xds"
    for name in CLUSTERS:
        cluster = made.static_resources.clusters.add(name=name)
        cluster.load_assignment.cluster_name = name
        endpoint = cluster.load_assignment.endpoints.add().lb_endpoints.add().endpoint
        endpoint.address.pipe.path = "/nowhere.sock"
    extension = made.bootstrap_extensions.add(name="envoy.bootstrap.internal_listener")
    extension.typed_config.Pack(internal_listener_pb2.InternalListener())
    made.static_resources.listeners.extend(listeners)
    return made


def variants(proxy: Proxy) -> dict[str, Proxy]:
    upstream = dataclasses.replace(proxy, extensions=frozenset({"envoy.filters.http.router"}))
    return {
        "upstream": upstream,
        "upstream-with-certificates": dataclasses.replace(upstream, workload_sds=True),
        "istio": dataclasses.replace(proxy, extensions=None, istio_version="1.30.0"),
    }


def without_istio_filters(listener: listener_pb2.Listener) -> listener_pb2.Listener:
    for chain in chains(listener):
        kept = [f for f in chain.filters if not f.name.startswith(ISTIO_FILTERS)]
        for network_filter in kept:
            if network_filter.name == MANAGER:
                manager = Manager()
                network_filter.typed_config.Unpack(manager)
                own = [f for f in manager.http_filters if not f.name.startswith(ISTIO_FILTERS)]
                del manager.http_filters[:]
                manager.http_filters.extend(own)
                network_filter.typed_config.Pack(manager)
        del chain.filters[:]
        chain.filters.extend(kept)
    return listener


def with_real_files(text: str, folder: Path) -> str:
    """The files that the cases name do not exist here."""
    pair = new_pair()
    files = {"c.pem": pair.certificate, "ca.pem": pair.certificate, "k.pem": pair.key, "crl.pem": revocation_list()}
    for name, content in files.items():
        (folder / name).write_text(content)
        text = text.replace(f'"filename": "/{name}"', f'"filename": "{folder}/{name}"')
    return text


@pytest.mark.envoy
@pytest.mark.parametrize("variant", ["upstream", "upstream-with-certificates", "istio"])
@pytest.mark.parametrize("name", CASES)
def test_envoy_accepts_the_listeners(name: str, variant: str, tmp_path: Path) -> None:
    try:
        envoy = find_envoy(os.environ)
    except EnvoyNotFoundError as error:
        pytest.skip(str(error))
    case = golden.read_case((golden.ROOT / name / "in.yaml").read_text())
    compiled = [decode(r) for r in compile_listeners(Reader(case.world), variants(case.proxy)[variant])]
    if variant == "istio":
        compiled = [without_istio_filters(listener) for listener in compiled]
    assert compiled or "upstream" in variant
    text = json_format.MessageToJson(bootstrap(compiled), preserving_proto_field_name=True)
    config = tmp_path / "bootstrap.json"
    config.write_text(with_real_files(text, tmp_path))
    command = [str(envoy), "--mode", "validate", "-c", str(config), "-l", "error", "--disable-hot-restart"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-800:]


