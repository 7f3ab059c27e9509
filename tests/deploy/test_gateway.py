"""The installed gateway, as its agent understands what the manifest tells it."""

from pathlib import Path
from typing import Any

import pytest

from pypilot.cli.proxy import proxy
from pypilot.proxy.node import NodeIdentity, node_identity
from pypilot.proxy.settings import AgentSettings, read_agent_settings
from tests.deploy.manifests import KUSTOMIZE, Data, documents, find, templated

POD = {
    "metadata.name": "gw-1",
    "metadata.namespace": "mesh",
    "status.podIP": "10.0.0.1",
    "status.hostIP": "10.9.9.9",
    "spec.serviceAccountName": "gw",
    "spec.nodeName": "node-1",
}
"""What Kubernetes fills in."""
PODINFO = "/etc/istio/pod"


def installed() -> Data:
    return find(documents((KUSTOMIZE / "ingress/deployment.yaml").read_text()), "Deployment", "istio-ingressgateway")


def charted(*values: str) -> Data:
    arguments = [part for value in values for part in ("--set", value)]
    return find(templated(*arguments, namespace="mesh"), "Deployment", "istio-ingressgateway")


def container(workload: Data) -> Data:
    found: Data = workload["spec"]["template"]["spec"]["containers"][0]
    return found


def told(workload: Data, directory: Path, mesh: str = "") -> tuple[AgentSettings, dict[str, Any]]:
    """Settings as in a pod of it, whose volume with labels is this directory; and the command line's parameters."""
    labels = workload["spec"]["template"]["metadata"]["labels"]
    (directory / "labels").write_text("".join(f'{key}="{value}"\n' for key, value in labels.items()))
    (directory / "mesh").write_text(mesh)
    environment = {
        e["name"]: e["value"] if "value" in e else POD[e["valueFrom"]["fieldRef"]["fieldPath"]]
        for e in container(workload)["env"]
    }
    command, *arguments = container(workload)["args"]
    assert command == "proxy"
    # Whoever starts the container replaces these.
    arguments = [a.replace("$(POD_NAMESPACE)", environment["POD_NAMESPACE"]) for a in arguments]
    parameters = proxy.make_context("proxy", arguments).params
    given = {**environment, "POD_LABELS_PATH": str(directory / "labels")}
    return (
        read_agent_settings(parameters["role"], given, parameters["domain"], str(directory / "mesh")),
        parameters,
    )


def node(settings: AgentSettings) -> NodeIdentity:
    return node_identity(settings, "1")


def test_the_agent_understands_all_that_the_manifest_says(tmp_path: Path) -> None:
    settings, parameters = told(installed(), tmp_path)
    assert parameters["envoy_arguments"] == ()
    assert settings.role == "router"
    assert settings.identity == "spiffe://cluster.local/ns/mesh/sa/gw"
    assert settings.config.discovery_address == settings.ca_address == "istiod.istio-system.svc:15012"
    assert settings.control_plane_name == "istiod.istio-system.svc"
    assert settings.config.ineffective == ()
    assert settings.config.termination_drain_seconds == settings.config.drain_seconds == 20


def test_its_node_is_what_the_control_plane_selects_it_by(tmp_path: Path) -> None:
    found = node(told(installed(), tmp_path)[0])
    assert found.id == "router~10.0.0.1~gw-1.mesh~mesh.svc.cluster.local"
    assert found.cluster == "istio-ingressgateway.mesh"
    assert found.metadata["LABELS"].items() >= {"app": "istio-ingressgateway", "istio": "ingressgateway"}.items()
    expected = {
        "NAME": "gw-1",
        "NAMESPACE": "mesh",
        "INSTANCE_IPS": "10.0.0.1",
        "SERVICE_ACCOUNT": "gw",
        "CLUSTER_ID": "Kubernetes",
        "NODE_NAME": "node-1",
        "WORKLOAD_NAME": "istio-ingressgateway",
    }
    assert found.metadata.items() >= expected.items()


def test_what_the_mesh_says_for_all_proxies_holds_for_it(tmp_path: Path) -> None:
    mesh = "defaultConfig: {concurrency: 3, terminationDrainDuration: 1s}"
    settings, _ = told(installed(), tmp_path, mesh)
    assert settings.threads == 3
    assert settings.config.termination_drain_seconds == 20
    assert node(settings).metadata["PROXY_CONFIG"]["concurrency"] == 3


def test_its_files_are_where_the_agent_looks(tmp_path: Path) -> None:
    """And nothing but its state can be written."""
    settings, parameters = told(installed(), tmp_path)
    pod = installed()["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    at = {mount["mountPath"]: volumes.pop(mount["name"]) for mount in container(installed())["volumeMounts"]}
    assert not volumes
    mesh_file = next(p.default for p in proxy.params if p.name == "mesh_file")
    (source,) = at.pop(str(settings.token.parent))["projected"]["sources"]
    assert (source["serviceAccountToken"]["path"], source["serviceAccountToken"]["audience"]) == (
        settings.token.name,
        "istio-ca",
    )
    assert at.pop(str(settings.root.parent))["configMap"]["name"] == "istio-ca-root-cert"
    assert [item["path"] for item in at.pop(PODINFO)["downwardAPI"]["items"]] == ["labels", "annotations"]
    mesh = at.pop(str(Path(mesh_file).parent))["configMap"]
    assert [item["path"] for item in mesh["items"]] == [Path(mesh_file).name]
    assert at.keys() == {str(settings.state)}
    assert "emptyDir" in at[str(settings.state)]
    assert parameters["mesh_file"] == mesh_file


@pytest.mark.parametrize(
    ("values", "field", "expected"),
    [
        ((), "trust_domain", "cluster.local"),
        (("mesh.trustDomain=corp.example",), "identity", "spiffe://corp.example/ns/mesh/sa/gw"),
        (("mesh.trustDomain=null",), "trust_domain", "cluster.local"),
        (("revision=canary",), "control_plane_name", "istiod-canary.mesh.svc"),
        (("revision=canary",), "ca_address", "istiod-canary.mesh.svc:15012"),
        (("clusterDomain=example.local",), "domain", "mesh.svc.example.local"),
        (("gateway.extraEnv[0].name=SECRET_TTL", "gateway.extraEnv[0].value=1h"), "certificate_seconds", 3600),
    ],
)
def test_values_of_the_chart_reach_the_agent(
    tmp_path: Path, values: tuple[str, ...], field: str, expected: object
) -> None:
    settings, _ = told(charted(*values), tmp_path)
    assert getattr(settings, field) == expected
    assert settings.config.ineffective == ()


def test_values_of_the_chart_reach_the_node(tmp_path: Path) -> None:
    workload = charted("clusterId=7a", "gateway.labels.istio=edge", "gateway.podLabels.tier=front")
    found = node(told(workload, tmp_path)[0])
    assert found.metadata["CLUSTER_ID"] == "7a"
    assert found.metadata["LABELS"].items() >= {"istio": "edge", "tier": "front"}.items()


def test_arguments_of_the_chart_reach_the_agent_and_envoy(tmp_path: Path) -> None:
    more = "gateway.extraArgs={--log_output_level=default:debug,--,--component-log-level,upstream:info}"
    _, parameters = told(charted("gateway.logLevel=info", more), tmp_path)
    assert parameters["log_level"] == "info"
    assert parameters["own_level"] == "default:debug"
    assert parameters["envoy_arguments"] == ("--component-log-level", "upstream:info")


@pytest.mark.parametrize("seconds", [0, 300])
def test_draining_fits_into_the_time_that_kubernetes_gives(tmp_path: Path, seconds: int) -> None:
    workload = charted(f"gateway.drainSeconds={seconds}")
    settings, _ = told(workload, tmp_path)
    assert settings.config.termination_drain_seconds == settings.config.drain_seconds == seconds
    assert workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > seconds + 10
