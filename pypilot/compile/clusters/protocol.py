"""The protocol spoken to the upstream: HTTP/2, HTTP/1.1, or what the caller spoke (DR-034…036)."""

from envoy.config.core.v3 import protocol_pb2

from pypilot.compile.clusters.draft import ClusterDraft
from pypilot.compile.clusters.traits import Traits
from pypilot.compile.messages import preserve_case
from pypilot.kinds.destination_rule import HTTPSettings
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.world.model import MeshPort


def use_http2(draft: ClusterDraft) -> None:
    """Fix HTTP/2, unless a protocol is already chosen."""
    options = draft.http_options()
    if options.WhichOneof("upstream_protocol_options") is None:
        options.explicit_http_config.http2_protocol_options.SetInParent()


def use_downstream_protocol(draft: ClusterDraft) -> None:
    """Speak upstream what the caller spoke (DR-035)."""
    explicit = draft.http_options().explicit_http_config.http_protocol_options
    http1 = protocol_pb2.Http1ProtocolOptions()
    http1.CopyFrom(explicit)
    draft.http_options().ClearField("use_downstream_protocol_config")
    options = draft.http_options().use_downstream_protocol_config
    options.http_protocol_options.CopyFrom(http1)
    options.http2_protocol_options.SetInParent()


def keep_case(draft: ClusterDraft) -> None:
    """HTTP/1.1 with the names of headers as they were written (PC-016)."""
    draft.http_options().explicit_http_config.http_protocol_options.header_key_format.CopyFrom(preserve_case())


def apply_port_protocol(draft: ClusterDraft, port: MeshPort, traits: Traits) -> None:
    """What the service port declares. Gateways do not detect protocols, so there an undeclared port stays HTTP/1.1."""
    if port.protocol.is_http2:
        use_http2(draft)
        return
    if traits.keeps_case and (port.protocol.is_http or port.protocol.is_unsupported):
        keep_case(draft)
    if port.protocol.is_unsupported and not traits.is_router:
        use_downstream_protocol(draft)


def apply_h2_upgrade(draft: ClusterDraft, port: MeshPort, mesh: MeshConfig, http: HTTPSettings | None) -> None:
    """DR-034: the rule's word counts for any port; the mesh's only for ports declared HTTP."""
    policy = http.h2_upgrade_policy if http is not None else "DEFAULT"
    if http is not None and http.use_client_protocol:
        return
    if policy == "UPGRADE" or (policy == "DEFAULT" and port.protocol.is_http and mesh.h2_upgrade_policy == "UPGRADE"):
        use_http2(draft)
