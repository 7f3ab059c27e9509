"""An Envoy `Node` message read into a `Proxy`. No policy: who may connect is decided in auth.py.

Source: envoy.config.core.v3.Node; XDS-002, NODE rows (wire/node.py).
"""

from dataclasses import replace
from typing import Any

from envoy.config.core.v3.base_pb2 import Node
from google.protobuf.json_format import MessageToDict

from pypilot.wire.node import NodeError, Proxy, parse_node
from pypilot.xds.shared import Shared


def read_node(node: Node, shared: Shared) -> Proxy:
    """The proxy that a node message describes.

    A real Envoy lists several hundred extensions in it. Only their names matter, they are read without a detour through
    JSON, and proxies of one build share one set of them.

    Raises:
        NodeError: as `parse_node`, or the metadata holds a number that JSON has not.
    """
    try:
        metadata = MessageToDict(node.metadata, preserving_proto_field_name=True)
    except ValueError as error:
        raise NodeError(f"node id {node.id!r}: metadata: {error}") from None
    fields: dict[str, Any] = {
        "id": node.id,
        "metadata": metadata,
        "locality": {
            "region": node.locality.region,
            "zone": node.locality.zone,
            "sub_zone": node.locality.sub_zone,
        },
    }
    if node.HasField("user_agent_build_version"):
        version = node.user_agent_build_version.version
        fields["user_agent_build_version"] = {
            "version": {"major_number": version.major_number, "minor_number": version.minor_number}
        }
    proxy = parse_node(fields)
    if not node.extensions:
        return proxy
    return replace(proxy, extensions=shared.names(extension.name for extension in node.extensions))
