from envoy.admin.v3 import config_dump_pb2, config_dump_shared_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from google.protobuf.json_format import ParseDict

from pypilot.admin.config_dump import config_dump
from pypilot.wire import types
from tests.wire.test_references import eds, offer

OFFERED = {
    types.CLUSTER: offer(types.CLUSTER, eds("a"), cluster_pb2.Cluster(name="b")),
    types.ENDPOINT: offer(types.ENDPOINT, endpoint_pb2.ClusterLoadAssignment(cluster_name="a")),
    types.LISTENER: offer(types.LISTENER, listener_pb2.Listener(name="l")),
}


def test_the_dump_is_envoys_own_message() -> None:
    dump = config_dump(OFFERED, with_endpoints=True)
    message = ParseDict(dump, config_dump_pb2.ConfigDump())
    sections = {c.TypeName(): c for c in message.configs}
    clusters = config_dump_shared_pb2.ClustersConfigDump()
    assert sections["envoy.admin.v3.ClustersConfigDump"].Unpack(clusters)
    assert [c.cluster.type_url for c in clusters.dynamic_active_clusters] == [types.CLUSTER] * 2
    known = offer(types.CLUSTER, eds("a")).get("a")
    assert known is not None
    assert clusters.dynamic_active_clusters[0].version_info == known.version
    listeners = config_dump_shared_pb2.ListenersConfigDump()
    assert sections["envoy.admin.v3.ListenersConfigDump"].Unpack(listeners)
    assert listeners.dynamic_listeners[0].name == "l"
    assert listeners.dynamic_listeners[0].active_state.listener.type_url == types.LISTENER
    assert "envoy.admin.v3.EndpointsConfigDump" in sections


def test_endpoints_only_on_request() -> None:
    assert not any("Endpoints" in section["@type"] for section in config_dump(OFFERED)["configs"])
