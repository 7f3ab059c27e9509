"""What a proxy's ProxyConfig is before it starts: for whoever injects it (PC-001, PC-022). Pure.

A running proxy carries the outcome in its node's metadata (`PROXY_CONFIG`), and compile functions read it from there: a
ProxyConfig resource changes nothing for a proxy that runs.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from pypilot.kinds.base import Finding
from pypilot.kinds.proxy_config import ProxyConfig
from pypilot.kinds.yaml_data import YamlError, load_document
from pypilot.wire.proxy_config import merged

ANNOTATION = "proxy.istio.io/config"
BUILT_IN: Mapping[str, Any] = MappingProxyType(
    {
        "configPath": "./etc/istio/proxy",
        "binaryPath": "/usr/local/bin/envoy",
        "serviceCluster": "istio-proxy",
        "drainDuration": "45s",
        "terminationDrainDuration": "5s",
        "proxyAdminPort": 15000,
        "controlPlaneAuthPolicy": "MUTUAL_TLS",
        "discoveryAddress": "istiod.istio-system.svc:15012",
        "statNameLength": 189,
        "statusPort": 15020,
    }
)
"""PC-002."""


def _as_settings(config: ProxyConfig | None) -> dict[str, Any]:
    """A resource in the form of MeshConfig's `defaultConfig`."""
    if config is None:
        return {}
    spec = config.spec
    out: dict[str, Any] = {}
    if spec.concurrency is not None:
        out["concurrency"] = spec.concurrency
    if spec.environment_variables:
        out["proxyMetadata"] = dict(spec.environment_variables)
    if spec.image is not None:
        out["image"] = {"imageType": spec.image.image_type}
    return out


def _of_annotation(text: str) -> tuple[dict[str, Any], tuple[Finding, ...]]:
    at = f"metadata.annotations.{ANNOTATION}"
    try:
        data, _ = load_document(text)
    except YamlError as error:
        return {}, (Finding(at, f"not valid YAML: {error} (line {error.line + 1})", code="syntax"),)
    if data is None:
        return {}, ()
    if not isinstance(data, Mapping):
        return {}, (Finding(at, "want a mapping of ProxyConfig fields", code="syntax"),)
    return dict(data), ()


def effective_proxy_config(
    configs: Iterable[ProxyConfig],
    *,
    root_namespace: str,
    default: Mapping[str, Any],
    namespace: str,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
) -> tuple[dict[str, Any], tuple[Finding, ...]]:
    """What a pod gets, in JSON form, and what is wrong with its annotation, which then counts for nothing.

    Built in < MeshConfig's `defaultConfig` < the root namespace's resource < the namespace's < the annotation < the
    resource that selects the pod (as in istiod's code). Of several the oldest holds.

    Args:
        configs: All resources of the kind, in any order.
        root_namespace: Where the resource for the whole mesh is.
        default: `defaultConfig` in JSON form.
        namespace: The pod's.
        labels: The pod's.
        annotations: The pod's.
    """
    ordered = sorted(configs, key=lambda c: c.age_key)
    general = {c.namespace: c for c in reversed(ordered) if not c.wanted and c.spec.selector is None}
    selecting = (c for c in ordered if c.namespace == namespace and c.wanted)
    own = next((c for c in selecting if all(labels.get(k) == v for k, v in c.wanted.items())), None)
    stated, findings = _of_annotation(annotations.get(ANNOTATION, ""))
    out = merged(BUILT_IN, default)
    for layer in (
        _as_settings(general.get(root_namespace)),
        _as_settings(general.get(namespace) if namespace != root_namespace else None),
        stated,
        _as_settings(own),
    ):
        out = merged(out, layer)
    return out, findings
