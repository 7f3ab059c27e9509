"""The protocol spoken to the upstream: HTTP/2, HTTP/1.1, or what the caller spoke (DR-034…036)."""

from pypilot.compile.clusters.draft import ClusterDraft
from pypilot.kinds.destination_rule import HTTPSettings
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.wire.node import ProxyType
from pypilot.world.model import MeshPort


def use_http2(draft: ClusterDraft) -> None:
    """Fix HTTP/2, unless a protocol is already chosen."""
    options = draft.http_options()
    if options.WhichOneof("upstream_protocol_options") is None:
        options.explicit_http_config.http2_protocol_options.SetInParent()


def use_downstream_protocol(draft: ClusterDraft) -> None:
    """Speak upstream what the caller spoke (DR-035)."""
    options = draft.http_options().use_downstream_protocol_config
    options.http_protocol_options.SetInParent()
    options.http2_protocol_options.SetInParent()


def apply_port_protocol(draft: ClusterDraft, port: MeshPort, proxy_type: ProxyType) -> None:
    """What the service port declares. Gateways do not detect protocols, so there an undeclared port stays HTTP/1.1."""
    if port.protocol.is_http2:
        use_http2(draft)
    elif port.protocol.is_unsupported and proxy_type != "router":
        use_downstream_protocol(draft)


def apply_h2_upgrade(draft: ClusterDraft, port: MeshPort, mesh: MeshConfig, http: HTTPSettings | None) -> None:
    """DR-034: the rule's word counts for any port; the mesh's only for ports declared HTTP."""
    policy = http.h2_upgrade_policy if http is not None else "DEFAULT"
    if http is not None and http.use_client_protocol:
        return
    if policy == "UPGRADE" or (policy == "DEFAULT" and port.protocol.is_http and mesh.h2_upgrade_policy == "UPGRADE"):
        use_http2(draft)
