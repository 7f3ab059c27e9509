"""Parts that sidecars and gateways have in common: metadata, variables, volumes (INJ-009…012). Pure."""

import json
from collections.abc import Mapping
from typing import Any

from pypilot.injection.names import PROXY, REVISION, STATUS_PORT, sidecar_annotation
from pypilot.injection.pod import Json, proxy_of
from pypilot.injection.target import Target

BOOTSTRAP_OVERRIDE = sidecar_annotation("bootstrapOverride")
_DEFAULT_CONTAINER = ("kubectl.kubernetes.io/default-logs-container", "kubectl.kubernetes.io/default-container")


def first(labels: Mapping[str, str], *names: str, default: str = "") -> str:
    """The first label of these that says something."""
    return next((labels[n] for n in names if labels.get(n)), default)


def metadata(target: Target) -> Json:
    """Labels and annotations of every injected pod (INJ-009, INJ-010)."""
    labels = target.pod["metadata"]["labels"]
    canonical = "service.istio.io/canonical-"
    name = first(
        labels, f"{canonical}name", "app.kubernetes.io/name", "app", default=target.workload.name[:63].strip("-_.")
    )
    revision = first(labels, f"{canonical}revision", "app.kubernetes.io/version", "version", default="latest")
    containers = target.application_containers
    main = {n: containers[0]["name"] for n in _DEFAULT_CONTAINER if containers and n not in target.annotations}
    return {
        "labels": {f"{canonical}name": name, f"{canonical}revision": revision},
        "annotations": {REVISION: target.installation.revision or "default", **main},
    }


def _field(path: str) -> Json:
    return {"fieldRef": {"fieldPath": path}}


def variables(target: Target, proxy_config: Mapping[str, Any]) -> list[Json]:
    """The agent's environment (INJ-011)."""
    installation, workload = target.installation, target.workload
    values = installation.config.values
    namespace = target.namespace or "default"
    owner = f"{workload.kind.lower()}s/{workload.name}"
    own_proxy = proxy_of(target.pod, PROXY)
    serving = [*target.application_containers, *([own_proxy] if own_proxy else ())]
    app_ports = [p for c in serving for p in c.get("ports") or ()]
    plural: dict[str, Any] = {
        **({"REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION": "true"} if installation.inbound_to_localhost else {}),
        "PILOT_CERT_PROVIDER": "istiod",
        "CA_ADDR": f"{installation.service}:15012",
        "POD_NAME": _field("metadata.name"),
        "POD_NAMESPACE": _field("metadata.namespace"),
        "INSTANCE_IP": _field("status.podIP"),
        "SERVICE_ACCOUNT": _field("spec.serviceAccountName"),
        "HOST_IP": _field("status.hostIP"),
        "ISTIO_CPU_LIMIT": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1"}},
        "PROXY_CONFIG": json.dumps(_told(target, proxy_config), sort_keys=True),
        "ISTIO_META_POD_PORTS": json.dumps(app_ports, sort_keys=True),
        "ISTIO_META_APP_CONTAINERS": ",".join(c["name"] for c in target.application_containers),
        "GOMEMLIMIT": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1"}},
        "ISTIO_META_CLUSTER_ID": installation.cluster_id,
        "ISTIO_META_NODE_NAME": _field("spec.nodeName"),
        "ISTIO_META_INTERCEPTION_MODE": target.mode,
        "ISTIO_META_WORKLOAD_NAME": first(
            target.pod["metadata"]["labels"], "service.istio.io/workload-name", default=workload.name
        ),
        "ISTIO_META_OWNER": workload.name
        and f"kubernetes://apis/{workload.api_version}/namespaces/{namespace}/{owner}",
        "ISTIO_META_MESH_ID": values.mesh_id or installation.trust_domain,
        "TRUST_DOMAIN": installation.trust_domain,
        **(
            {"ISTIO_BOOTSTRAP_OVERRIDE": "/etc/istio/custom-bootstrap/custom_bootstrap.json"}
            if BOOTSTRAP_OVERRIDE in target.annotations
            else {}
        ),
        **target.metadata,
    }
    optional = {"ISTIO_META_WORKLOAD_NAME", "ISTIO_META_OWNER"}
    return [
        {"name": n, "value": v} if isinstance(v, str) else {"name": n, "valueFrom": v}
        for n, v in plural.items()
        if v or n not in optional
    ]


def _told(target: Target, proxy_config: Mapping[str, Any]) -> dict[str, Any]:
    """The ProxyConfig, with the port that the pod's probes were sent to."""
    return {**proxy_config, **({"statusPort": target.status_port} if STATUS_PORT in target.annotations else {})}


def arguments(target: Target, role: str) -> list[str]:
    """Of the agent (INJ-007)."""
    values = target.values
    return [
        *("proxy", role, "--domain", f"$(POD_NAMESPACE).svc.{target.installation.cluster_domain}"),
        f"--proxyLogLevel={target.side('logLevel', values.log_level)}",
        f"--proxyComponentLogLevel={target.side('componentLogLevel', values.component_log_level)}",
        log_level(target),
    ]


def log_level(target: Target) -> str:
    """The argument that says how much the agent and the init container log."""
    return f"--log_output_level={target.side('agentLogLevel', target.values.agent_log_level)}"


def pull_policy(target: Target) -> Json:
    """`imagePullPolicy`, if one is configured."""
    policy = target.installation.config.values.image_pull_policy
    return {"imagePullPolicy": policy} if policy else {}


def mounts(target: Target) -> list[Json]:
    """`volumeMounts` of the proxy (INJ-012)."""
    override = [_mount("custom-bootstrap-volume", "/etc/istio/custom-bootstrap")]
    return [
        _mount("workload-socket", "/var/run/secrets/workload-spiffe-uds"),
        _mount("credential-socket", "/var/run/secrets/credential-uds"),
        _mount("workload-certs", "/var/run/secrets/workload-spiffe-credentials"),
        _mount("istiod-ca-cert", "/var/run/secrets/istio"),
        _mount("istio-data", "/var/lib/istio/data"),
        *(override if BOOTSTRAP_OVERRIDE in target.annotations else ()),
        _mount("istio-envoy", "/etc/istio/proxy"),
        _mount("istio-token", "/var/run/secrets/tokens"),
        _mount("istio-podinfo", "/etc/istio/pod"),
    ]


def _mount(name: str, path: str) -> Json:
    return {"name": name, "mountPath": path}


def volumes(target: Target) -> list[Json]:
    """`volumes` (INJ-012); the token has the audience that the control plane asks for."""
    override = {"name": "custom-bootstrap-volume", "configMap": {"name": target.said(BOOTSTRAP_OVERRIDE, "")}}
    token = {"path": "istio-token", "expirationSeconds": 43_200, "audience": "istio-ca"}
    items = [{"path": part, **_field(f"metadata.{part}")} for part in ("labels", "annotations")]
    return [
        {"name": "workload-socket", "emptyDir": {}},
        {"name": "credential-socket", "emptyDir": {}},
        {"name": "workload-certs", "emptyDir": {}},
        *([override] if BOOTSTRAP_OVERRIDE in target.annotations else ()),
        {"name": "istio-envoy", "emptyDir": {"medium": "Memory"}},
        {"name": "istio-data", "emptyDir": {}},
        {"name": "istio-podinfo", "downwardAPI": {"items": items}},
        {"name": "istio-token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert"}},
    ]


def pull_secrets(target: Target) -> Json:
    """`imagePullSecrets`, if some are configured."""
    names = target.installation.config.values.image_pull_secrets
    return {"imagePullSecrets": [{"name": name} for name in names]} if names else {}
