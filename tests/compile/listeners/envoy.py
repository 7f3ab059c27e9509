"""Asks the real Envoy whether it takes listeners."""

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.bootstrap.internal_listener.v3 import internal_listener_pb2
from google.protobuf import json_format

from pypilot.cli.demo.envoy import EnvoyNotFoundError, find_envoy
from tests.compile.secrets.certs import new_pair, revocation_list

CLUSTERS = ("xds", "sds-grpc", "main_internal")


def _bootstrap(listeners: Iterable[listener_pb2.Listener]) -> bootstrap_pb2.Bootstrap:
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


def _with_real_files(text: str, folder: Path) -> str:
    """The files that the cases name do not exist here."""
    pair = new_pair()
    files = {"c.pem": pair.certificate, "ca.pem": pair.certificate, "k.pem": pair.key, "crl.pem": revocation_list()}
    for name, content in files.items():
        (folder / name).write_text(content)
        text = text.replace(f'"filename": "/{name}"', f'"filename": "{folder}/{name}"')
    return text


def refusal(listeners: Iterable[listener_pb2.Listener], folder: Path, environment: Mapping[str, str]) -> str:
    """What Envoy has against them; empty if it takes them all. Skips where there is no Envoy."""
    try:
        envoy = find_envoy(environment)
    except EnvoyNotFoundError as error:
        pytest.skip(str(error))
    text = json_format.MessageToJson(_bootstrap(listeners), preserving_proto_field_name=True)
    config = folder / "bootstrap.json"
    config.write_text(_with_real_files(text, folder))
    command = [str(envoy), "--mode", "validate", "-c", str(config), "-l", "error", "--disable-hot-restart"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stderr[-800:] if done.returncode else ""
