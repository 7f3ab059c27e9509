"""INJ-011, PC-001…006, NODE-019, NODE-020: what an agent is told, and what of it is refused."""

import json

import pytest

from pypilot.kinds.mesh_config import ProxyConfig as MeshProxyConfig
from pypilot.proxy.cgroup import processors
from pypilot.proxy.ineffective import known_fields
from pypilot.proxy.node import node_identity
from pypilot.proxy.proxy_config import HONOURED
from pypilot.proxy.settings import read_agent_settings
from pypilot.proxy.values import AgentError, host_port_of, seconds_of
from tests.ledger.official import official

BASE = {
    "POD_NAME": "web-1",
    "POD_NAMESPACE": "shop",
    "INSTANCE_IP": "10.0.0.1",
    "POD_LABELS_PATH": "/nowhere/labels",
}


def settings(role="sidecar", mesh_file="", **changes):
    return read_agent_settings(role, {**BASE, **changes}, mesh_file=mesh_file)


def config(**fields):
    return settings(PROXY_CONFIG=json.dumps(fields)).config


def test_without_more_the_defaults_are_istios():
    found = settings()
    assert found.identity == "spiffe://cluster.local/ns/shop/sa/default"
    assert found.domain == "shop.svc.cluster.local"
    assert found.ca_address == "istiod.istio-system.svc:15012"
    assert found.control_plane_name == "istiod.istio-system.svc"
    assert str(found.token) == "/var/run/secrets/tokens/istio-token"
    assert str(found.root) == "/var/run/secrets/istio/root-cert.pem"
    assert str(found.state) == "/var/run/secrets/workload-spiffe-uds"
    assert found.certificate_seconds == 24 * 3600
    assert (found.status_port, found.prometheus_port) == (15021, 15090)
    assert (found.config.admin_port, found.config.status_port) == (15000, 15020)
    assert (found.config.drain_seconds, found.config.termination_drain_seconds) == (45, 5)
    assert found.dns is None
    assert (found.ends_when_idle, found.least_drain_seconds) == (False, 5)
    assert found.config.ineffective == ()


@pytest.mark.parametrize(
    ("name", "value", "read", "expected"),
    [
        ("INSTANCE_IPS", "10.0.0.2, fd00::2", lambda s: s.addresses, ("10.0.0.2", "fd00::2")),
        ("SERVICE_ACCOUNT", "web", lambda s: s.identity, "spiffe://cluster.local/ns/shop/sa/web"),
        ("TRUST_DOMAIN", "td", lambda s: s.identity, "spiffe://td/ns/shop/sa/default"),
        ("DISCOVERY_ADDRESS", "a:1", lambda s: (s.config.discovery_address, s.ca_address), ("a:1", "a:1")),
        ("CA_ADDR", "ca:2", lambda s: s.ca_address, "ca:2"),
        ("XDS_SERVER_NAME", "n", lambda s: s.control_plane_name, "n"),
        ("ISTIOD_SAN", "n", lambda s: s.control_plane_name, "n"),
        ("XDS_ROOT_CA", "/r", lambda s: str(s.root), "/r"),
        ("JWT_PATH", "/t", lambda s: str(s.token), "/t"),
        ("SECRET_TTL", "1h30m", lambda s: s.certificate_seconds, 5400),
        ("PROXY_STATE_DIR", "/s", lambda s: str(s.state), "/s"),
        ("ISTIO_META_NETWORK", "n1", lambda s: s.metadata["NETWORK"], "n1"),
        ("ISTIO_METAJSON_LABELS", '{"a": "b"}', lambda s: s.labels, {"a": "b"}),
        ("ISTIO_METAJSON_ANNOTATIONS", '{"a": "b"}', lambda s: s.annotations, {"a": "b"}),
        ("ISTIO_CPU_LIMIT", "3", lambda s: s.threads, 3),
        ("ENVOY_STATUS_PORT", "1", lambda s: s.status_port, 1),
        ("ENVOY_PROMETHEUS_PORT", "2", lambda s: s.prometheus_port, 2),
        ("ENABLE_QUITQUITQUIT", "false", lambda s: s.quit_allowed, False),
        ("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true", lambda s: s.ends_when_idle, True),
        ("MINIMUM_DRAIN_DURATION", "7s", lambda s: s.least_drain_seconds, 7),
        ("METRICS_LOCALHOST_ACCESS_ONLY", "true", lambda s: s.metrics_for_all, False),
        ("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", "1", lambda s: s.probe_localhost, True),
        ("ENVOY_SKIP_DEPRECATED_LOGS", "false", lambda s: s.skip_deprecated_logs, False),
        (
            "ISTIO_PROMETHEUS_ANNOTATIONS",
            '{"scrape": "true", "port": "8080", "path": "m"}',
            lambda s: s.application_metrics,
            ("http://127.0.0.1:8080/m",),
        ),
        ("ISTIO_PROMETHEUS_ANNOTATIONS", '{"scrape": "false"}', lambda s: s.application_metrics, ()),
        (
            "ISTIO_KUBE_APP_PROBERS",
            '{"/app-health/a/livez": {"grpc": {"port": 9}}}',
            lambda s: list(s.probes),
            ["/app-health/a/livez"],
        ),
    ],
)
def test_each_variable(name, value, read, expected):
    assert read(settings(**{name: value})) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POD_NAME", ""),
        ("POD_NAMESPACE", ""),
        ("INSTANCE_IP", ""),
        ("INSTANCE_IP", "web"),
        ("PROXY_CONFIG", "["),
        ("PROXY_CONFIG", "- 1"),
        ("ISTIO_METAJSON_LABELS", "{"),
        ("ISTIO_METAJSON_LABELS", "[1]"),
        ("SECRET_TTL", "1 day"),
        ("SECRET_TTL", "0s"),
        ("CA_ADDR", "nowhere"),
        ("ISTIO_CPU_LIMIT", "many"),
        ("ENVOY_STATUS_PORT", "0"),
        ("ENVOY_PROMETHEUS_PORT", "99999"),
        ("ENABLE_QUITQUITQUIT", "maybe"),
        ("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "yes"),
        ("MINIMUM_DRAIN_DURATION", "soon"),
        ("METRICS_LOCALHOST_ACCESS_ONLY", "x"),
        ("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", "x"),
        ("ENVOY_SKIP_DEPRECATED_LOGS", "x"),
        ("ISTIO_META_DNS_CAPTURE", "on"),
        ("ISTIO_META_ENABLE_DNS_SERVER", "on"),
        ("ISTIO_BOOTSTRAP_OVERRIDE", "/nowhere/override.json"),
        ("ENVOY", "/nowhere/envoy"),
        ("ISTIO_PROMETHEUS_ANNOTATIONS", '{"port": "http"}'),
        ("ISTIO_PROMETHEUS_ANNOTATIONS", '{"port": "15020"}'),
        ("ISTIO_KUBE_APP_PROBERS", "{"),
        ("ISTIO_KUBE_APP_PROBERS", '{"/livez": {"grpc": {"port": 9}}}'),
        ("ISTIO_KUBE_APP_PROBERS", '{"/app-health/a/livez": {}}'),
        ("ISTIO_KUBE_APP_PROBERS", '{"/app-health/a/livez": {"httpGet": {"port": "http"}}}'),
        ("ISTIO_KUBE_APP_PROBERS", '{"/app-health/a/livez": {"grpc": {"port": 9}, "tcpSocket": {"port": 9}}}'),
    ],
)
def test_a_wrong_variable_is_named(name, value):
    with pytest.raises(AgentError, match=name):
        settings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("DNS_PROXY_ADDR", "15053"), ("DNS_PROXY_ADDR", "dns:53"), ("DNS_FORWARD_TIMEOUT", "x"),
                        ("DNS_FORWARD_PARALLEL", "x")]
)  # fmt: skip
def test_a_wrong_variable_of_dns_is_named(name, value):
    with pytest.raises(AgentError, match=name):
        settings(ISTIO_META_DNS_CAPTURE="true", **{name: value})


def test_dns_is_answered_if_somebody_asks_for_it():
    found = settings(ISTIO_META_DNS_CAPTURE="true").dns
    assert found.addresses == (("127.0.0.1", 15053), ("::1", 15053))
    assert (found.upstream_seconds, found.upstream_at_once) == (5, False)
    assert settings("router", ISTIO_META_DNS_CAPTURE="true").dns is None
    assert settings("router", ISTIO_META_ENABLE_DNS_SERVER="true").dns is not None
    said = json.dumps({"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true", "DNS_FORWARD_PARALLEL": "true"}})
    made = settings(PROXY_CONFIG=said, DNS_PROXY_ADDR="[::1]:53", DNS_FORWARD_TIMEOUT="2s")
    assert made.dns.addresses == (("::1", 53),)
    assert (made.dns.upstream_seconds, made.dns.upstream_at_once) == (2, True)
    assert made.metadata["DNS_PROXY_ADDR"] == "[::1]:53"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("proxyAdminPort", 0),
        ("statusPort", "x"),
        ("statusPort", True),
        ("drainDuration", "soon"),
        ("terminationDrainDuration", []),
        ("concurrency", -1),
        ("statsdUdpAddress", "statsd"),
        ("statsCompression", "no"),
        ("extraStatTags", "a"),
        ("proxyStatsMatcher", {"inclusionPrefixes": "a"}),
        ("proxyStatsMatcher", []),
        ("runtimeValues", {"a": []}),
        ("proxyMetadata", {"a": {}}),
        ("fileFlushInterval", "x"),
        ("fileFlushMinSizeKb", "x"),
        ("caCertificatesPem", "x"),
        ("envoyMetricsService", {"address": "x"}),
        ("envoyAccessLogService", {"address": "x:y"}),
        ("tracing", {"zipkin": {"address": "zipkin"}}),
        ("connectionSettings", {"globalDownstreamConnectionLimit": "x"}),
        ("readinessProbe", "x"),
        ("discoveryAddress", 7),
    ],
)
def test_a_wrong_field_of_proxy_config_is_named(field, value):
    with pytest.raises(AgentError, match=f"PROXY_CONFIG: {field}"):
        config(**{field: value})


def test_fields_of_proxy_config():
    found = config(
        drainDuration="1m",
        terminationDrainDuration="0s",
        concurrency=4,
        statsdUdpAddress="10.0.0.9:8125",
        envoyMetricsServiceAddress="metrics:9000",
        zipkinAddress="zipkin:9411",
        fileFlushInterval="0.5s",
        fileFlushMinSizeKb=64,
        caCertificatesPem=["PEM"],
        runtimeValues={"a": True, "b": 2},
        statsCompression=False,
        customConfigFile="/c",
    )
    assert (found.drain_seconds, found.termination_drain_seconds, found.concurrency) == (60, 0, 4)
    assert found.statsd == ("10.0.0.9", 8125)
    assert found.metrics_service.address == ("metrics", 9000)
    assert found.tracer == ("zipkin", ("zipkin", 9411))
    assert (found.flush_seconds, found.flush_kilobytes) == (0.5, 64)
    assert found.ca_certificates == ("PEM",)
    assert found.runtime == {"a": "true", "b": "2"}
    assert (found.stats_compression, found.custom_bootstrap) == (False, "/c")


@pytest.mark.parametrize(("ip", "host"), [("10.9.9.9", "10.9.9.9"), ("fd00::9", "fd00::9")])
def test_the_address_of_the_host_stands_for_its_name(ip, host):
    said = json.dumps({"tracing": {"datadog": {"address": "$(HOST_IP):8126"}}})
    assert settings(PROXY_CONFIG=said, HOST_IP=ip).config.tracer == ("datadog", (host, 8126))


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"statNameLength": 200}, "statNameLength", "unsupported-field"),
        ({"controlPlaneAuthPolicy": "NONE"}, "controlPlaneAuthPolicy", "unsupported-field"),
        ({"privateKeyProvider": {"cryptomb": {}}}, "privateKeyProvider", "unsupported-field"),
        ({"tracing": {"lightstep": {"address": "a:1"}}}, "tracing.lightstep", "unsupported-field"),
        ({"configPath": "/else"}, "configPath", "unsupported-field"),
        ({"drainDurations": "1s"}, "drainDurations", "unknown-field"),
        (
            {"envoyMetricsService": {"address": "a:1", "tlsSettings": {"mode": "SIMPLE"}}},
            "envoyMetricsService.tlsSettings",
            "unsupported-field",
        ),
        (
            {"tracing": {"zipkin": {"address": "a:1"}, "tlsSettings": {"mode": "MUTUAL"}}},
            "tracing.tlsSettings",
            "unsupported-field",
        ),
    ],
)
def test_what_cannot_be_honoured_is_said(fields, field, code):
    found = config(**fields)
    (said,) = found.ineffective
    assert (said.field, said.code) == (field, code)
    assert said.reason
    assert found.tracer is None
    assert found.metrics_service is None


def test_what_injection_always_says_is_no_news():
    said = {"configPath": "./etc/istio/proxy", "statNameLength": 189, "controlPlaneAuthPolicy": "MUTUAL_TLS"}
    more = {"binaryPath": "/usr/local/bin/envoy", "interceptionMode": "REDIRECT", "gatewayTopology": {}}
    assert config(**said, **more, holdApplicationUntilProxyStarts=True, proxyHeaders={}).ineffective == ()


def test_every_field_of_the_api_is_honoured_or_has_a_reason():
    """PC-021."""
    known = {name.rstrip("[]{}") for name in official("MeshConfig")["defaultConfig"]}
    assert known == HONOURED | known_fields()
    assert set(MeshProxyConfig.__struct_encode_fields__) == known
    assert not HONOURED & known_fields()


def test_layers_of_proxy_config(tmp_path):
    """PC-001: a file, then PROXY_CONFIG, then annotations."""
    mesh = tmp_path / "mesh"
    mesh.write_text("defaultConfig:\n  concurrency: 1\n  drainDuration: 1s\n  proxyMetadata: {A: x, B: x}\n")
    (tmp_path / "labels").write_text('pod-template-hash="1"\napp="web"\n')
    said = "concurrency: 3\nproxyMetadata: {B: z}"
    (tmp_path / "annotations").write_text(
        f"proxy.istio.io/config={json.dumps(said)}\n"
        'status.sidecar.istio.io/port="15999"\nsidecar.istio.io/discoveryAddress="elsewhere:15012"\n'
    )
    found = read_agent_settings(
        "router",
        {
            **BASE,
            "POD_LABELS_PATH": str(tmp_path / "labels"),
            "PROXY_CONFIG": "concurrency: 2\nproxyMetadata: {B: y, C: y}",
        },
        mesh_file=str(mesh),
    )
    assert found.threads == 3
    assert found.config.drain_seconds == 1
    assert found.config.metadata == {"A": "x", "B": "z", "C": "y"}
    assert found.config.status_port == 15999
    assert found.control_plane_name == "elsewhere"
    assert found.labels == {"app": "web"}
    (tmp_path / "annotations").write_text('proxy.istio.io/config="statusPort: x"\n')
    with pytest.raises(AgentError, match=r"proxy\.istio\.io/config: statusPort"):
        settings(POD_LABELS_PATH=str(tmp_path / "labels"))


def test_the_override_of_the_bootstrap_is_json_with_the_hosts_address(tmp_path):
    """BOOT-007."""
    path = tmp_path / "custom_bootstrap.json"
    path.write_text("stats_sinks: [{name: $(HOST_IP)}]")
    found = settings(ISTIO_BOOTSTRAP_OVERRIDE=str(path), HOST_IP="10.9.9.9")
    assert json.loads(found.bootstrap_override) == {"stats_sinks": [{"name": "10.9.9.9"}]}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "max 100000"}, 0),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 0),
        ({"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({}, 0),
    ],
)
def test_processors_of_a_container(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert processors(tmp_path) == expected


def test_threads():
    """PC-003."""
    assert settings(ISTIO_CPU_LIMIT="3", PROXY_CONFIG="concurrency: 1").threads == 1
    assert settings(ISTIO_CPU_LIMIT="3", PROXY_CONFIG="concurrency: 0").threads is None


def test_metadata_of_the_node():
    """NODE rows that the control plane reads."""
    variables = {
        "ISTIO_META_CLUSTER_ID": "west",
        "ISTIO_META_NETWORK": "n1",
        "ISTIO_META_OWNER": "kubernetes://x",
        "ISTIO_META_WORKLOAD_NAME": "web",
        "ISTIO_META_MESH_ID": "m",
        "ISTIO_META_INTERCEPTION_MODE": "TPROXY",
        "ISTIO_META_APP_CONTAINERS": "app",
        "ISTIO_META_NODE_NAME": "node",
        "ISTIO_META_NAME": "somebody",
        "ISTIO_METAJSON_LABELS": '{"app": "web", "istio-locality": "r.z.s"}',
        "PROXY_CONFIG": "proxyMetadata: {ISTIO_META_HTTP10: '1'}",
    }
    node = node_identity(settings(**variables), "1.32.0")
    expected = {
        "CLUSTER_ID": "west",
        "NETWORK": "n1",
        "OWNER": "kubernetes://x",
        "WORKLOAD_NAME": "web",
        "MESH_ID": "m",
        "INTERCEPTION_MODE": "TPROXY",
        "APP_CONTAINERS": "app",
        "NODE_NAME": "node",
        "NAME": "web-1",
        "NAMESPACE": "shop",
        "INSTANCE_IPS": "10.0.0.1",
        "HTTP10": "1",
        "PILOT_SAN": ["istiod.istio-system.svc"],
        "ENVOY_STATUS_PORT": 15021,
        "LABELS": {"app": "web", "istio-locality": "r/z/s"},
    }
    assert {key: node.metadata.get(key) for key in expected} == expected
    assert (node.region, node.zone, node.sub_zone) == ("r", "z", "s")
    assert node.id == "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local"


@pytest.mark.parametrize("text", ["a", "a:", ":1", "a:0", "a:65536", "fd00::1", "fd00::1:80x"])
def test_no_host_and_port(text):
    with pytest.raises(AgentError):
        host_port_of(text, "X")


def test_values_that_only_yaml_has_become_texts():
    found = settings(PROXY_CONFIG="proxyMetadata: {1: 2026-01-01}").config
    assert found.metadata == {"1": "2026-01-01"}
    assert json.loads(json.dumps(dict(found.raw))) == {"proxyMetadata": {"1": "2026-01-01"}}


def test_durations():
    assert [seconds_of(t, "X") for t in ("1h30m", "500ms", "0.5s", "45", "0s")] == [5400, 0.5, 0.5, 45, 0]
