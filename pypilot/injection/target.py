"""What is known when one pod is injected: the mesh, the installation, the pod's own words. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pypilot.injection.config import InjectionConfig, ProxyValues
from pypilot.injection.names import INIT, MODE, NATIVE, PROXY, STATUS_PORT, sidecar_annotation, traffic_annotation
from pypilot.injection.pod import Json, Workload, annotation, workload_of
from pypilot.kinds.proxy_config import ProxyConfig

_IMAGE_TYPES = ("debug", "distroless")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What all pods have in common."""

    image: str
    root_namespace: str = "istio-system"
    revision: str = "default"
    cluster_domain: str = "cluster.local"
    cluster_id: str = "Kubernetes"
    native_sidecars: bool = True
    """Kubernetes has init containers that go on running; a pod may say otherwise."""
    trust_domain: str = "cluster.local"
    proxy_port: int = 15001
    inbound_port: int = 15006
    inbound_to_localhost: bool = False
    """MeshConfig's `inboundTrafficPolicy` (MESH-015): applications may listen on loopback alone."""
    merges_metrics: bool = True
    """MeshConfig's `enablePrometheusMerge`."""
    default_config: Mapping[str, Any] = field(default_factory=dict)
    """MeshConfig's `defaultConfig`, in JSON form: what it sets."""
    proxy_configs: tuple[ProxyConfig, ...] = ()
    config: InjectionConfig = InjectionConfig()

    @property
    def service(self) -> str:
        """Host of the control plane."""
        name = "istiod" if self.revision in ("", "default") else f"istiod-{self.revision}"
        return f"{name}.{self.root_namespace}.svc"


@dataclass(frozen=True, slots=True)
class Target:
    """One pod, as it was before any injection."""

    installation: Installation
    pod: Json
    namespace: str
    proxy_config: Mapping[str, Any]
    """The effective one (PC-001)."""

    @property
    def values(self) -> ProxyValues:
        return self.installation.config.values.proxy

    @property
    def annotations(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.pod["metadata"]["annotations"]
        return found

    @property
    def workload(self) -> Workload:
        return workload_of(self.pod)

    @property
    def application_containers(self) -> list[Json]:
        return [c for c in self.pod["spec"]["containers"] if c["name"] not in (PROXY, INIT)]

    @property
    def mode(self) -> str:
        """How connections come to Envoy (PC-004)."""
        return self.said(MODE, str(self.proxy_config.get("interceptionMode") or "REDIRECT"))

    @property
    def native(self) -> bool:
        """As a native sidecar; an annotation wins over what Kubernetes can do (INJ-005)."""
        return (self.said(NATIVE, "") or str(self.installation.native_sidecars).lower()) != "false"

    @property
    def status_port(self) -> int:
        """The agent's; 0: it answers no probes."""
        return int(self.said(STATUS_PORT, str(self.proxy_config.get("statusPort", 15020))))

    @property
    def metadata(self) -> Mapping[str, str]:
        """`proxyMetadata`, by name (PC-006)."""
        given = self.proxy_config.get("proxyMetadata")
        if not isinstance(given, Mapping):
            return {}
        return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in sorted(given.items())}

    @property
    def image(self) -> str:
        """By annotation, ConfigMap or setting; an image type becomes the end of its tag."""
        given = self.side("proxyImage", self.values.image)
        image = given or self.installation.image
        configured = self.proxy_config.get("image")
        kind = configured.get("imageType", "") if isinstance(configured, Mapping) else ""
        kind = self.side("proxyImageType", str(kind))
        if not kind or self.annotations.get(sidecar_annotation("proxyImage")):
            return image
        name, separator, tag = image.rpartition(":")
        if not separator or "/" in tag:
            name, tag = image, "latest"
        for known in _IMAGE_TYPES:
            tag = tag.removesuffix(f"-{known}")
        return f"{name}:{tag}" if kind == "default" else f"{name}:{tag}-{kind}"

    def said(self, name: str, default: str) -> str:
        """An annotation, or the default."""
        return annotation(self.pod, name, default)

    def side(self, name: str, default: str) -> str:
        """An annotation `sidecar.istio.io/NAME`, or the default."""
        return self.said(sidecar_annotation(name), default)

    def traffic(self, name: str, default: str) -> str:
        """An annotation `traffic.sidecar.istio.io/NAME`, or the default."""
        return self.said(traffic_annotation(name), default)
