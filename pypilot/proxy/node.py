"""The Node by which an Envoy makes itself known (NODE rows). Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pypilot.proxy.settings import AgentSettings

_LOCALITY_LABEL: Final = "istio-locality"
_NAME_LABELS: Final = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
_USUAL_CLUSTER: Final = "istio-proxy"


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """What the bootstrap's `node` says."""

    id: str
    cluster: str
    region: str
    zone: str
    sub_zone: str
    metadata: Mapping[str, Any]


def _usual_cluster(settings: AgentSettings, workload: str) -> str:
    """`app.namespace`; the labels in the reverse order, as it always was."""
    labels = settings.labels
    name = next((labels[k] for k in reversed(_NAME_LABELS) if labels.get(k)), workload) or _USUAL_CLUSTER
    return f"{name}.{settings.namespace}"


def service_cluster(settings: AgentSettings) -> str:
    """`serviceCluster` or `tracingServiceName` of ProxyConfig, by which tracers and others know the workload."""
    config, labels = settings.config, settings.labels
    workload = str(settings.metadata.get("WORKLOAD_NAME", ""))
    canonical = next((labels[k] for k in _NAME_LABELS if labels.get(k)), workload or _USUAL_CLUSTER)
    if config.service_cluster not in ("", _USUAL_CLUSTER):
        return config.service_cluster
    if config.tracing_service_name == "CANONICAL_NAME_AND_NAMESPACE":
        return f"{canonical}.{settings.namespace}"
    if config.tracing_service_name == "CANONICAL_NAME_ONLY" and canonical != _USUAL_CLUSTER:
        return canonical
    return _usual_cluster(settings, workload)


def node_identity(settings: AgentSettings, version: str) -> NodeIdentity:
    """The Node of a proxy; `version` is ours, told as Istio's (NODE-010)."""
    labels = dict(settings.labels)
    if place := labels.get(_LOCALITY_LABEL, "").replace(".", "/"):
        labels[_LOCALITY_LABEL] = place
    region, zone, sub_zone, *_ = (*place.split("/"), "", "", "")
    metadata: dict[str, Any] = {
        "CLUSTER_ID": "Kubernetes",
        "MESH_ID": settings.trust_domain,
        "ISTIO_VERSION": version,
        **settings.metadata,
        # What the agent knows cannot be said otherwise.
        "NAME": settings.pod,
        "NAMESPACE": settings.namespace,
        "INSTANCE_IPS": ",".join(settings.addresses),
        "SERVICE_ACCOUNT": settings.service_account,
        "LABELS": labels,
        "ENVOY_STATUS_PORT": settings.status_port,
        "ENVOY_PROMETHEUS_PORT": settings.prometheus_port,
        "PILOT_SAN": [settings.control_plane_name],
        "WORKLOAD_SDS": "true",
        **({"ANNOTATIONS": dict(settings.annotations)} if settings.annotations else {}),
        **({"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true"} if settings.ends_when_idle else {}),
    }
    if settings.config.raw:  # else the mesh's default holds
        metadata["PROXY_CONFIG"] = dict(settings.config.raw)
    proxy_id = f"{settings.role}~{settings.addresses[0]}~{settings.pod}.{settings.namespace}~{settings.domain}"
    return NodeIdentity(proxy_id, service_cluster(settings), region, zone, sub_zone, metadata)
