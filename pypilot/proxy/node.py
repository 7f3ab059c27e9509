"""The Node by which an Envoy makes itself known (NODE rows). Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pypilot.proxy.settings import AgentSettings

_LOCALITY_LABEL = "istio-locality"
_NAME_LABELS = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """What the bootstrap's `node` says."""

    id: str
    cluster: str
    region: str
    zone: str
    sub_zone: str
    metadata: Mapping[str, Any]


def node_identity(settings: AgentSettings, version: str) -> NodeIdentity:
    """The Node of a proxy; `version` is ours, told as Istio's (NODE-010)."""
    labels = dict(settings.labels)
    canonical = next((labels[k] for k in _NAME_LABELS if labels.get(k)), settings.pod)
    place = str(labels.get(_LOCALITY_LABEL, "")).replace(".", "/")
    region, zone, sub_zone, *_ = (*place.split("/"), "", "", "")
    metadata: dict[str, Any] = {
        "NAME": settings.pod,
        "NAMESPACE": settings.namespace,
        "INSTANCE_IPS": ",".join(settings.addresses),
        "SERVICE_ACCOUNT": settings.service_account,
        "ISTIO_VERSION": version,
        "CLUSTER_ID": "Kubernetes",
        "MESH_ID": settings.trust_domain,
        "LABELS": labels,
        "ENVOY_STATUS_PORT": 15021,
        "ENVOY_PROMETHEUS_PORT": 15090,
        "PILOT_SAN": [settings.control_plane_name],
        "WORKLOAD_SDS": "true",
        **_known_forms(settings.metadata),
    }
    if settings.config.raw:  # else the mesh's default holds
        metadata["PROXY_CONFIG"] = dict(settings.config.raw)
    proxy_id = f"{settings.role}~{settings.addresses[0]}~{settings.pod}.{settings.namespace}~{settings.domain}"
    return NodeIdentity(proxy_id, f"{canonical}.{settings.namespace}", region, zone, sub_zone, metadata)


def _known_forms(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Values that Istio's agent gives another form than text."""
    found = dict(metadata)
    for key in ("ENVOY_STATUS_PORT", "ENVOY_PROMETHEUS_PORT"):
        if str(found.get(key, "")).isdigit():
            found[key] = int(found[key])
    if isinstance(text := found.get("LABELS"), str):
        try:
            found["LABELS"] = json.loads(text)
        except ValueError:
            del found["LABELS"]
    return found
