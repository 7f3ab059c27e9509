"""What must be true of every manifest, without a cluster."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pypilot.kinds import KINDS, kind_of
from pypilot.kinds.mesh_config_parse import parse_mesh_config
from pypilot.kinds.parse import parse_object
from pypilot.settings import SETTINGS, flag_of
from tests.deploy.manifests import KUSTOMIZE, Data, documents

NOT_OBJECTS = ("kustomization.yaml", "image-fields.yaml")
FILES = sorted(p for p in KUSTOMIZE.glob("*/*.yaml") if p.name not in NOT_OBJECTS)
OBJECTS = [(path, data) for path in FILES for data in documents(path.read_text())]
WORKLOADS = [data for _, data in OBJECTS if data["kind"] == "Deployment"]


def by_name(data: Data) -> str:
    return str(data["metadata"]["name"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_file_is_listed_by_its_kustomization(path: Path) -> None:
    listed = yaml.safe_load((path.parent / "kustomization.yaml").read_text())["resources"]
    assert path.name in listed


def test_every_object_names_its_version_kind_and_name() -> None:
    assert len(OBJECTS) > 25
    for path, data in OBJECTS:
        assert data["apiVersion"], path
        assert data["kind"], path
        assert data["metadata"]["name"], path


@pytest.mark.parametrize("workload", WORKLOADS, ids=by_name)
def test_pods_are_restricted(workload: Data) -> None:
    """The Pod Security Standard `restricted`, and a root file system that cannot be written."""
    pod = workload["spec"]["template"]["spec"]
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert isinstance(context["runAsUser"], int)
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert "limits" in container["resources"]
        assert "requests" in container["resources"]
        assert container["readinessProbe"]
        assert all(port["containerPort"] >= 1024 for port in container["ports"])
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert not any("hostPath" in volume for volume in pod.get("volumes", ()))


@pytest.mark.parametrize("workload", WORKLOADS, ids=by_name)
def test_a_stopping_pod_has_time_for_what_it_does_first(workload: Data) -> None:
    pod = workload["spec"]["template"]["spec"]
    for container in pod["containers"]:
        if "lifecycle" in container:
            seconds = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        else:
            told = next(e["value"] for e in container["env"] if e["name"] == "PROXY_CONFIG")
            seconds = int(yaml.safe_load(told)["terminationDrainDuration"].removesuffix("s"))
        assert 0 < seconds < pod.get("terminationGracePeriodSeconds", 30)


@pytest.mark.parametrize("workload", WORKLOADS, ids=by_name)
def test_selectors_find_the_pods(workload: Data) -> None:
    labels = workload["spec"]["template"]["metadata"]["labels"]
    name, place = by_name(workload), workload["metadata"].get("namespace")
    selectors = [workload["spec"]["selector"]["matchLabels"]]
    for _, data in OBJECTS:
        if data["kind"] == "PodDisruptionBudget" and by_name(data) == name:
            selectors.append(data["spec"]["selector"]["matchLabels"])
        if data["kind"] == "HorizontalPodAutoscaler":
            assert data["spec"]["scaleTargetRef"]["name"] in {by_name(w) for w in WORKLOADS}
    services = [
        data
        for _, data in OBJECTS
        if data["kind"] == "Service"
        and data["metadata"].get("namespace") == place
        and labels.items() >= data["spec"]["selector"].items()
    ]
    assert services
    assert all(labels.items() >= selector.items() for selector in selectors)
    ports = workload["spec"]["template"]["spec"]["containers"][0]["ports"]
    known: set[Any] = {port["name"] for port in ports} | {port["containerPort"] for port in ports}
    for service in services:
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= known


def test_istiod_is_known_by_istios_ports() -> None:
    service = next(d for _, d in OBJECTS if d["kind"] == "Service" and by_name(d) == "istiod")
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert ports == {"grpc-xds": 15010, "https-dns": 15012, "https-webhook": 443, "http-monitoring": 15014}


def test_the_arguments_are_flags_of_serve() -> None:
    pilot = next(w for w in WORKLOADS if by_name(w) == "pypilot")
    command, *flags = pilot["spec"]["template"]["spec"]["containers"][0]["args"]
    assert command == "serve"
    assert {flag.partition("=")[0] for flag in flags} <= {flag_of(name) for name in SETTINGS}


def test_the_mesh_config_is_clean() -> None:
    data = next(d["data"] for _, d in OBJECTS if d["kind"] == "ConfigMap" and by_name(d) == "istio")
    mesh, findings = parse_mesh_config(data["mesh"])
    assert mesh is not None
    assert not findings


def test_the_samples_are_clean() -> None:
    seen = set()
    for path, data in OBJECTS:
        kind = kind_of(data["apiVersion"], data["kind"])
        if path.parent.name == "samples" and kind is not None:
            parsed = parse_object(kind, data)
            assert parsed.object is not None, parsed.findings
            assert not parsed.findings, parsed.findings
            seen.add(kind.name)
    assert {"Gateway", "VirtualService", "DestinationRule", "Service"} <= seen


def test_the_samples_program_is_python() -> None:
    ast.parse((KUSTOMIZE / "samples/echo.py").read_text())


def test_no_role_is_wider_than_its_purpose() -> None:
    writes = {"create", "update", "patch", "delete", "deletecollection"}
    readable = {(kind.group, kind.plural) for kind in KINDS} | {("apiextensions.k8s.io", "customresourcedefinitions")}
    unnamed = set()
    roles = [d for _, d in OBJECTS if d["kind"] in ("Role", "ClusterRole")]
    assert len(roles) == 5
    for rule in (rule for role in roles for rule in role["rules"]):
        assert "*" not in json.dumps(rule)
        forbidden = {"deletecollection", "impersonate", "escalate", "bind"}
        # A machine that registered itself is forgotten when it has gone.
        forbidden |= {"delete"} if rule["resources"] != ["workloadentries"] else set()
        assert not forbidden & set(rule["verbs"])
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                if not rule.get("resourceNames"):
                    unnamed |= {(group, resource, verb) for verb in writes & set(rule["verbs"])}
                    if not writes & set(rule["verbs"]):
                        assert (group, resource) in readable
    assert unnamed == {
        ("", "configmaps", "create"),
        ("", "secrets", "create"),
        ("authentication.k8s.io", "tokenreviews", "create"),
        ("authorization.k8s.io", "localsubjectaccessreviews", "create"),
        ("coordination.k8s.io", "leases", "create"),
        ("networking.istio.io", "gateways", "create"),
        ("networking.k8s.io", "ingresses/status", "patch"),
        ("networking.istio.io", "serviceentries/status", "update"),
        *(("networking.istio.io", "workloadentries", verb) for verb in ("create", "update", "delete")),
        ("networking.istio.io", "workloadentries/status", "update"),
    }
