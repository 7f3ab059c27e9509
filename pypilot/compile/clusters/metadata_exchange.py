"""Istio's own network filter on upstream connections, which tells both ends who the other is (DR-020)."""

from functools import cache

from envoy.config.cluster.v3 import cluster_pb2, filter_pb2

from pypilot.compile.clusters.traits import Traits
from pypilot.compile.messages import pack_struct

_TYPE_URL = "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange"


@cache
def _filter() -> filter_pb2.Filter:
    value = {"enable_discovery": True, "protocol": "istio-peer-exchange"}
    return filter_pb2.Filter(name="istio.metadata_exchange", typed_config=pack_struct(_TYPE_URL, value))


def apply_metadata_exchange(cluster: cluster_pb2.Cluster, traits: Traits) -> None:
    """Only for Envoys that have the filter."""
    if traits.istio_build:
        cluster.filters.append(_filter())
