"""Bootstrap configuration for an Envoy that gets everything over ADS.

Plain dictionaries in proto3 JSON form: Envoy itself checks every field when it reads them, so a typed message would
only add its import time. Nothing here starts anything.

Source: envoy.config.bootstrap.v3.Bootstrap; node conventions NODE-001…NODE-012.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

JsonObject: TypeAlias = dict[str, Any]
Address: TypeAlias = tuple[str, int] | Path
"""A host and port, or the path of a unix socket."""
AdsProtocol: TypeAlias = Literal["DELTA_GRPC", "GRPC"]
"""Incremental, or state of the world."""

XDS_CLUSTER = "xds-grpc"


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who an Envoy says it is."""

    type: str
    ip: str
    name: str
    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)
    domain: str = "cluster.local"

    @property
    def id(self) -> str:
        """`TYPE~IP~NAME.NAMESPACE~NAMESPACE.svc.DOMAIN` (NODE-001)."""
        return f"{self.type}~{self.ip}~{self.name}.{self.namespace}~{self.namespace}.svc.{self.domain}"

    def node(self) -> JsonObject:
        """The `Node` message. No ISTIO_VERSION: these are upstream Envoys, which list their extensions themselves."""
        return {
            "id": self.id,
            "cluster": f"{self.name}.{self.namespace}",
            "metadata": {
                "NAME": self.name,
                "NAMESPACE": self.namespace,
                "INSTANCE_IPS": self.ip,
                "LABELS": dict(self.labels),
                "CLUSTER_ID": "Kubernetes",
            },
        }


def address(where: Address) -> JsonObject:
    """`envoy.config.core.v3.Address`."""
    if isinstance(where, Path):
        return {"pipe": {"path": str(where)}}
    return {"socket_address": {"address": where[0], "port_value": where[1]}}


def static_cluster(name: str, endpoints: Sequence[Address], *, http2: bool = False) -> JsonObject:
    """A STATIC cluster."""
    cluster: JsonObject = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(e)}} for e in endpoints]}],
        },
    }
    if http2:
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return cluster


def ads_bootstrap(
    identity: NodeIdentity,
    xds: Address,
    *,
    protocol: AdsProtocol = "DELTA_GRPC",
    initial_metadata: Mapping[str, str] | None = None,
) -> JsonObject:
    """An Envoy that asks `xds` for clusters and listeners, and for whatever these refer to.

    Args:
        identity: The node that it says it is.
        xds: Where the control plane answers, in plaintext.
        protocol: Incremental or state-of-the-world ADS.
        initial_metadata: gRPC metadata of the stream (credentials, for instance).
    """
    # Zero: wait for the control plane however long it takes, as Istio's bootstrap does.
    over_ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    service: JsonObject = {"envoy_grpc": {"cluster_name": XDS_CLUSTER}}
    if initial_metadata:
        service["initial_metadata"] = [{"key": k, "value": v} for k, v in initial_metadata.items()]
    return {
        "node": identity.node(),
        "dynamic_resources": {
            "ads_config": {
                "api_type": protocol,
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [service],
            },
            "cds_config": over_ads,
            "lds_config": over_ads,
        },
        "static_resources": {"clusters": [static_cluster(XDS_CLUSTER, [xds], http2=True)]},
        # Envoy's own limit of 100 refuses most regular expressions that people write; this is Istio's.
        "layered_runtime": {
            "layers": [{"name": "pypilot", "static_layer": {"re2.max_program_size.error_level": 32768}}]
        },
    }


def static_bootstrap(
    identity: NodeIdentity, *, listeners: Sequence[JsonObject] = (), clusters: Sequence[JsonObject] = ()
) -> JsonObject:
    """An Envoy without a control plane."""
    return {
        "node": identity.node(),
        "static_resources": {"listeners": list(listeners), "clusters": list(clusters)},
    }
