"""Names of clusters in statistics: the mesh's patterns, or the cluster's own name (DR-016, MESH-031)."""

from pypilot.compile.naming import stat_name
from pypilot.world.model import MeshPort, MeshService


def fill_stat_pattern(pattern: str, service: MeshService, port: MeshPort, subset: str = "", target: int = 0) -> str:
    """The pattern with its `%WORDS%` replaced. Only Kubernetes services have short names."""
    short = f"{service.name}.{service.namespace}" if service.kubernetes else service.hostname
    values = {
        "%SERVICE%": short,
        "%SERVICE_NAME%": service.name if service.kubernetes else service.hostname,
        "%SERVICE_FQDN%": service.hostname,
        "%SUBSET_NAME%": subset,
        "%TARGET_PORT%": str(target),
        "%SERVICE_PORT%": str(port.number),
        "%SERVICE_PORT_NAME%": port.name,
    }
    for word, value in values.items():
        pattern = pattern.replace(word, value)
    return pattern


def outbound_stat_name(name: str, pattern: str, service: MeshService, port: MeshPort, subset: str) -> str:
    """`alt_stat_name` of an outbound cluster."""
    return stat_name(fill_stat_pattern(pattern, service, port, subset) if pattern else name)


def inbound_stat_name(name: str, pattern: str, service: MeshService, port: MeshPort, target: int) -> str:
    """`alt_stat_name` of an inbound cluster."""
    return stat_name(fill_stat_pattern(pattern, service, port, target=target) if pattern else name)
