"""Names by which injection is asked for and known: annotations, labels, containers (INJ-002, INJ-010, INJ-014…018)."""

from typing import Final

PROXY: Final = "istio-proxy"
INIT: Final = "istio-init"
AUTO_IMAGE: Final = "auto"
"""Stands for the injected image in a container that the user defines (INJ-017)."""

INJECT: Final = "sidecar.istio.io/inject"
STATUS: Final = "sidecar.istio.io/status"
TEMPLATES: Final = "inject.istio.io/templates"
OVERRIDES: Final = "proxy.istio.io/overrides"
REVISION: Final = "istio.io/rev"
STATUS_PORT: Final = "status.sidecar.istio.io/port"
MODE: Final = "sidecar.istio.io/interceptionMode"
REWRITE_PROBES: Final = "sidecar.istio.io/rewriteAppHTTPProbers"
NATIVE: Final = "sidecar.istio.io/nativeSidecar"
MERGE_METRICS: Final = "prometheus.istio.io/merge-metrics"
PROBERS: Final = "ISTIO_KUBE_APP_PROBERS"
SCRAPING: Final = "ISTIO_PROMETHEUS_ANNOTATIONS"


def sidecar_annotation(name: str) -> str:
    """`proxyCPU` -> `sidecar.istio.io/proxyCPU`."""
    return f"sidecar.istio.io/{name}"


def traffic_annotation(name: str) -> str:
    """`excludeInboundPorts` -> `traffic.sidecar.istio.io/excludeInboundPorts`."""
    return f"traffic.sidecar.istio.io/{name}"


def readiness_annotation(name: str) -> str:
    """`periodSeconds` -> `readiness.status.sidecar.istio.io/periodSeconds`."""
    return f"readiness.status.sidecar.istio.io/{name}"
