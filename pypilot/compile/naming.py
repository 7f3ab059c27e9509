"""Names that Istio's tools and Envoy's stats rely on. Protocol facts only; nothing is decided here."""

from pypilot.kinds.base import Ref

BLACK_HOLE_CLUSTER = "BlackHoleCluster"
PASSTHROUGH_CLUSTER = "PassthroughCluster"
INBOUND_PASSTHROUGH_CLUSTER = "InboundPassthroughCluster"
CONNECT_ORIGINATE = "connect_originate"
MAIN_INTERNAL = "main_internal"

_KEBAB = {
    "DestinationRule": "destination-rule",
    "Gateway": "gateway",
    "ServiceEntry": "service-entry",
    "Sidecar": "sidecar",
    "VirtualService": "virtual-service",
}


def outbound_cluster(port: int, subset: str, hostname: str) -> str:
    """`outbound|PORT|SUBSET|HOST` (VS-037)."""
    return f"outbound|{port}|{subset}|{hostname}"


def inbound_cluster(port: int) -> str:
    """`inbound|TARGET_PORT||` (DR-082)."""
    return f"inbound|{port}||"


def sni(port: int, subset: str, hostname: str) -> str:
    """`outbound_.PORT_.SUBSET_.HOST`; the subset may be empty (DR-060)."""
    return f"outbound_.{port}_.{subset}_.{hostname}"


def stat_name(name: str) -> str:
    """Statistic names end with the delimiter on which the bootstrap's tag expressions split (BOOT-004)."""
    return name + ";"


def config_path(ref: Ref, api_version: str) -> str:
    """`/apis/GROUP/VERSION/namespaces/NS/kebab-kind/NAME`: `filter_metadata.istio.config` (DOC-001)."""
    return f"/apis/{api_version}/namespaces/{ref.namespace}/{_KEBAB[ref.kind]}/{ref.name}"


def resolve_host(host: str, namespace: str, domain: str) -> str:
    """A short name becomes `HOST.NAMESPACE.svc.DOMAIN`; names with a dot and wildcards stay (VS-001, DR-001)."""
    return host if "." in host or host.startswith("*") else f"{host}.{namespace}.svc.{domain}"
