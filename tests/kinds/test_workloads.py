"""ServiceEntry (SE-014, SE-019, SE-023), WorkloadEntry (WE-002, WE-003), WorkloadGroup (WE-008), ProxyConfig (PC-022).

What is rejected of each, and that it is no more than that.
"""

from typing import Any

import pytest

from pypilot.kinds import kind_of
from pypilot.kinds.base import Object
from pypilot.kinds.parse import Parsed, parse_object
from pypilot.kinds.service_entry import ServiceEntry
from pypilot.kinds.workload_entry import WorkloadEntry
from tests.world.objects import make

HTTP = {"number": 80, "name": "http", "protocol": "HTTP"}
TCP = {"number": 81, "name": "tcp", "protocol": "TCP"}


def parse(kind: str, spec: dict[str, Any], version: str = "networking.istio.io/v1", **metadata: Any) -> Parsed:
    entry = kind_of(version, kind)
    assert entry is not None
    data = {"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "ns", **metadata}, "spec": spec}
    return parse_object(entry, data)


def service_entry(**spec: Any) -> Parsed:
    return parse("ServiceEntry", {"hosts": ["a.example"], "ports": [HTTP], **spec})


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"hosts": []}, "spec.hosts"),
        ({"hosts": ["*"]}, "spec.hosts[0]"),
        ({"hosts": ["a.*.example"]}, "spec.hosts[0]"),
        ({"hosts": ["-a.example"]}, "spec.hosts[0]"),
        ({"hosts": ["*.example"], "resolution": "DNS"}, "spec.hosts[0]"),
        ({"resolution": "DYNAMIC_DNS"}, "spec.hosts[0]"),
        ({"addresses": ["10.0.0.0/33"]}, "spec.addresses[0]"),
        ({"addresses": ["10.0.0.0/8"], "resolution": "DNS"}, "spec.addresses[0]"),
        ({"hosts": ["*.example"], "addresses": ["10.0.0.1"], "resolution": "DYNAMIC_DNS"}, "spec.addresses"),
        ({"ports": [{**HTTP, "protocol": "SMOKE"}]}, "spec.ports[0].protocol"),
        ({"ports": [{**HTTP, "name": "Not_a_label"}]}, "spec.ports[0].name"),
        ({"ports": [{**HTTP, "targetPort": 70000}]}, "spec.ports[0].targetPort"),
        ({"ports": [{**HTTP, "number": 0}]}, "spec.ports[0].number"),
        ({"hosts": ["*.example"], "resolution": "DYNAMIC_DNS", "ports": [TCP]}, "spec.ports[0].protocol"),
        ({"endpoints": [{"address": "192.0.2.1"}]}, "spec.endpoints"),
        (
            {
                "resolution": "STATIC",
                "endpoints": [{"address": "192.0.2.1"}],
                "workloadSelector": {"labels": {"a": "b"}},
            },
            "spec.workloadSelector",
        ),
        ({"resolution": "STATIC", "workloadSelector": {"labels": {"a": "*"}}}, "spec.workloadSelector.labels.a"),
        ({"exportTo": ["*", "a"]}, "spec.exportTo[0]"),
        ({"exportTo": [".", "ns"]}, "spec.exportTo[1]"),
        ({"exportTo": ["~", "a"]}, "spec.exportTo[0]"),
        ({"exportTo": ["a b"]}, "spec.exportTo[0]"),
    ],
)
def test_a_service_entry_that_cannot_be_used(spec: dict[str, Any], path: str) -> None:
    parsed = service_entry(**spec)
    assert parsed.object is None
    assert path in [f.field for f in parsed.findings]


@pytest.mark.parametrize(
    ("spec", "path", "left"),
    [
        ({"ports": [HTTP, {**TCP, "number": 80}]}, "spec.ports[1].number", {"ports": 1}),
        ({"ports": [HTTP, {**TCP, "name": "http"}]}, "spec.ports[1].name", {"ports": 1}),
        ({"hosts": ["a.example", "b..example"]}, "spec.hosts[1]", {"hosts": 1}),
        (
            {"hosts": ["a.example", "b.example"], "resolution": "DNS", "ports": [HTTP, TCP]},
            "spec.ports[1].protocol",
            {"ports": 1, "hosts": 2},
        ),
        (
            {"resolution": "DNS_ROUND_ROBIN", "endpoints": [{"address": "a.example"}, {"address": "b.example"}]},
            "spec.endpoints[1]",
            {"endpoints": 1},
        ),
        *(
            (
                {"resolution": "STATIC", "endpoints": [{"address": "192.0.2.1"}, bad]},
                f"spec.endpoints[1].{path}",
                {"endpoints": 1},
            )
            for bad, path in (
                ({"address": "name.example"}, "address"),
                ({}, "address"),
                ({"address": "unix://relative"}, "address"),
                ({"address": "unix:///x", "ports": {"http": 1}}, "ports"),
                ({"address": "192.0.2.2", "ports": {"http": 70000}}, "ports.http"),
                ({"address": "192.0.2.2", "labels": {"a": "not a value"}}, "labels.a"),
            )
        ),
    ],
)
def test_the_smallest_thing_of_a_service_entry_is_rejected(
    spec: dict[str, Any], path: str, left: dict[str, int]
) -> None:
    parsed = service_entry(**spec)
    assert [f.field for f in parsed.findings] == [path]
    assert isinstance(parsed.object, ServiceEntry)
    for field, number in left.items():
        assert len(getattr(parsed.object.spec, field)) == number


@pytest.mark.parametrize(
    ("spec", "path", "code"),
    [
        ({"resolution": "STATIC", "workloadSelector": {}}, "spec.workloadSelector", "selects-all"),
        ({"workloadSelector": {"labels": {"a": "b"}}}, "spec.workloadSelector", "no-effect"),
        (
            {"resolution": "STATIC", "endpoints": [{"address": "192.0.2.1", "ports": {"other": 1}}]},
            "spec.endpoints[0].ports.other",
            "no-effect",
        ),
        ({"hosts": ["*a.example"]}, "spec.hosts[0]", "partial-wildcard"),
    ],
)
def test_a_service_entry_with_a_warning_is_used_as_it_is(spec: dict[str, Any], path: str, code: str) -> None:
    parsed = service_entry(**spec)
    assert parsed.object is not None
    assert [(f.field, f.severity, f.code) for f in parsed.findings] == [(path, "warning", code)]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({}, "spec.address"),
        ({"address": "not an address"}, "spec.address"),
        ({"address": "192.0.2.1", "ports": {"Bad_name": 1}}, "spec.ports.Bad_name"),
        ({"address": "192.0.2.1", "ports": {"http": 0}}, "spec.ports.http"),
        ({"address": "unix:///x/"}, "spec.address"),
        ({"address": "192.0.2.1", "labels": {"a/b/c": "x"}}, "spec.labels.a/b/c"),
        ({"address": "192.0.2.1", "weight": -1}, "spec.weight"),
    ],
)
def test_a_workload_entry_that_cannot_be_used(spec: dict[str, Any], path: str) -> None:
    parsed = parse("WorkloadEntry", spec)
    assert parsed.object is None
    assert [f.field for f in parsed.findings] == [path]


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "vm.example", "unix:///run/x.sock", "unix://@x"])
def test_addresses_of_a_workload_entry(address: str) -> None:
    assert parse("WorkloadEntry", {"address": address}).clean


def test_an_entry_without_address_needs_a_network() -> None:
    assert parse("WorkloadEntry", {"network": "far"}).clean


def workload(annotation: str = "", status: str = "") -> Object:
    conditions = [{"type": "Healthy", "status": status}] if status else []
    annotations = {"proxy.istio.io/health-checks-enabled": annotation} if annotation else {}
    return make(
        "WorkloadEntry",
        "vm",
        labels={"a": "metadata"},
        annotations=annotations,
        spec={"address": "192.0.2.1", "labels": {"a": "spec", "b": "spec"}},
        status={"conditions": conditions},
    )


@pytest.mark.parametrize(
    ("annotation", "status", "usable"),
    [("", "", True), ("", "False", True), ("true", "", False), ("true", "False", False), ("true", "True", True)],
)
def test_health_of_a_workload_entry(annotation: str, status: str, usable: bool) -> None:
    entry = workload(annotation, status)
    assert isinstance(entry, WorkloadEntry)
    assert entry.usable is usable
    assert entry.labels == {"a": "metadata", "b": "spec"}


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({}, "spec.template"),
        ({"template": {}, "metadata": {"labels": {"a": "not a value"}}}, "spec.metadata.labels.a"),
        ({"template": {}, "probe": {}}, "spec.probe"),
        ({"template": {}, "probe": {"httpGet": {"port": 1}, "tcpSocket": {"port": 1}}}, "spec.probe"),
        ({"template": {}, "probe": {"httpGet": {"port": 0}}}, "spec.probe.httpGet.port"),
        ({"template": {}, "probe": {"httpGet": {"port": 1, "scheme": "FTP"}}}, "spec.probe.httpGet.scheme"),
        (
            {"template": {}, "probe": {"httpGet": {"port": 1, "httpHeaders": [{"name": "a b"}]}}},
            "spec.probe.httpGet.httpHeaders[0].name",
        ),
        ({"template": {}, "probe": {"exec": {}}}, "spec.probe.exec.command"),
        ({"template": {}, "probe": {"periodSeconds": -1, "tcpSocket": {"port": 1}}}, "spec.probe.periodSeconds"),
    ],
)
def test_a_workload_group_that_cannot_be_used(spec: dict[str, Any], path: str) -> None:
    parsed = parse("WorkloadGroup", spec)
    assert parsed.object is None
    assert [f.field for f in parsed.findings if f.severity == "error"] == [path]


def test_a_template_needs_no_address() -> None:
    probe = {
        "periodSeconds": 5,
        "httpGet": {"path": "/ready", "port": 8080, "httpHeaders": [{"name": "a", "value": "b"}]},
    }
    spec = {
        "template": {"serviceAccount": "vm", "ports": {"http": 80}},
        "metadata": {"labels": {"app": "a"}},
        "probe": probe,
    }
    assert parse("WorkloadGroup", spec).clean


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"concurrency": -1}, "spec.concurrency"),
        ({"selector": {"matchLabels": {"a": "*"}}}, "spec.selector.matchLabels.a"),
        ({"environmentVariables": {"A": ["b"]}}, "spec.environmentVariables.A"),
    ],
)
def test_a_proxy_config_that_cannot_be_used(spec: dict[str, Any], path: str) -> None:
    parsed = parse("ProxyConfig", spec, "networking.istio.io/v1beta1")
    assert parsed.object is None
    assert [f.field for f in parsed.findings if f.severity == "error"] == [path]
