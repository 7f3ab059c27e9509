from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import config_source_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message

from pypilot.wire import types
from pypilot.wire.references import EXTENSION_CONFIG, held_by, references
from pypilot.wire.resource import Chunk, Resource, ResourceSet

ADS = config_source_pb2.ConfigSource(ads=config_source_pb2.AggregatedConfigSource())


def packed(message: Message) -> any_pb2.Any:
    out = any_pb2.Any()
    out.Pack(message)
    return out


def offer(type_url: str, *messages: Message) -> ResourceSet:
    def name(message: Message) -> str:
        return str(getattr(message, "name", "") or getattr(message, "cluster_name", ""))

    return ResourceSet((Chunk(Resource.of(name(m), type_url, m.SerializeToString()) for m in messages),))


def eds(name: str, service: str = "") -> cluster_pb2.Cluster:
    config = cluster_pb2.Cluster.EdsClusterConfig(eds_config=ADS, service_name=service)
    return cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS, eds_cluster_config=config)


def test_what_each_resource_refers_to() -> None:
    assert list(references(types.CLUSTER, {"name": "a", "type": "EDS"})) == [(types.ENDPOINT, "a")]
    named = {"name": "a", "type": "EDS", "eds_cluster_config": {"service_name": "b"}}
    assert list(references(types.CLUSTER, named)) == [(types.ENDPOINT, "b")]
    assert list(references(types.CLUSTER, {"name": "a", "type": "STRICT_DNS"})) == []
    tls = {"x": [{"sds_config": {"ads": {}}, "name": "s"}, {"sds_config": {"api_config_source": {}}, "name": "t"}]}
    assert list(references(types.CLUSTER, tls)) == [(types.SECRET, "s")]
    filters = {"http_filters": [{"name": "wasm", "config_discovery": {}}], "rds": {"route_config_name": "80"}}
    assert set(references(types.LISTENER, filters)) == {(types.ROUTE, "80"), (EXTENSION_CONFIG, "wasm")}


def test_a_proxy_holds_what_is_referred_to_and_nothing_else() -> None:
    sds = tls_pb2.CommonTlsContext(
        tls_certificate_sds_secret_configs=[secret_pb2.SdsSecretConfig(name="wanted", sds_config=ADS)]
    )
    tls = listener_components_pb2.FilterChain()
    tls.transport_socket.name = "tls"
    tls.transport_socket.typed_config.CopyFrom(packed(tls_pb2.DownstreamTlsContext(common_tls_context=sds)))
    hcm = HttpConnectionManager(rds=Rds(route_config_name="80", config_source=ADS), http_filters=[HttpFilter(name="r")])
    tls.filters.add(name="hcm").typed_config.CopyFrom(packed(hcm))
    certificate = common_pb2.TlsCertificate()
    offered = {
        types.CLUSTER: offer(types.CLUSTER, eds("b"), eds("a", "a-service")),
        types.ENDPOINT: offer(
            types.ENDPOINT, *(endpoint_pb2.ClusterLoadAssignment(cluster_name=n) for n in ("b", "a-service", "other"))
        ),
        types.LISTENER: offer(types.LISTENER, listener_pb2.Listener(name="l", filter_chains=[tls])),
        types.ROUTE: offer(types.ROUTE, *(route_pb2.RouteConfiguration(name=n) for n in ("80", "90"))),
        types.SECRET: offer(
            types.SECRET, *(secret_pb2.Secret(name=n, tls_certificate=certificate) for n in ("wanted", "other"))
        ),
    }
    held = held_by(offered)
    assert {types.short_name(t): list(by_name) for t, by_name in held.items()} == {
        "CDS": ["a", "b"],
        "EDS": ["a-service", "b"],
        "LDS": ["l"],
        "RDS": ["80"],
        "SDS": ["wanted"],
    }
