"""`filter_metadata.istio` of clusters: provenance and the services behind them (DOC-002, DR-010, DR-017, DR-068)."""

from collections.abc import Iterable

from envoy.config.cluster.v3 import cluster_pb2
from google.protobuf import struct_pb2

from pypilot.kinds.destination_rule import ClientTLSSettings
from pypilot.world.model import MeshService


def _istio(cluster: cluster_pb2.Cluster) -> struct_pb2.Struct:
    struct: struct_pb2.Struct = cluster.metadata.filter_metadata["istio"]
    return struct


def describe_services(cluster: cluster_pb2.Cluster, services: Iterable[MeshService]) -> None:
    """The services whose telemetry the cluster's traffic counts for."""
    values = _istio(cluster).fields["services"].list_value
    values.SetInParent()
    for service in services:
        fields = values.values.add().struct_value.fields
        fields["host"].string_value = service.hostname
        fields["name"].string_value = service.name
        fields["namespace"].string_value = service.namespace


def describe_rule(cluster: cluster_pb2.Cluster, path: str, tls: ClientTLSSettings | None, subset: str = "") -> None:
    """The DestinationRule that shaped the cluster. Own TLS keeps the ALPN filter off the request (DR-068)."""
    if not path:
        return
    fields = _istio(cluster).fields
    fields["config"].string_value = path
    if subset:
        fields["subset"].string_value = subset
    if tls is not None and tls.mode in ("SIMPLE", "MUTUAL"):
        fields["alpn_override"].string_value = "false"


def mark(cluster: cluster_pb2.Cluster, key: str) -> None:
    """A true flag: `external`, `disable_mx` (DR-017)."""
    _istio(cluster).fields[key].bool_value = True
