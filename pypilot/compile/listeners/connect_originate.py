"""`connect_originate`: the inner end of HBONE tunnels to ambient workloads (SEEN-007, LIS-001)."""

from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from pypilot.compile.listeners.access_log import listener_access_logs, tunnel_access_logs
from pypilot.compile.listeners.listener_filters import original_destination
from pypilot.compile.listeners.network_filters import TCP_PROXY, network_filter
from pypilot.compile.naming import CONNECT_ORIGINATE
from pypilot.wire.resource import Resource
from pypilot.wire.types import LISTENER
from pypilot.world.reader import Reader


def connect_originate(reader: Reader) -> Resource:
    """The listener. Only failures to connect are logged: the stream itself is logged where it began."""
    proxy = tcp_proxy_pb2.TcpProxy(stat_prefix=CONNECT_ORIGINATE, cluster=CONNECT_ORIGINATE)
    proxy.tunneling_config.hostname = "%DOWNSTREAM_LOCAL_ADDRESS%"
    proxy.access_log.extend(tunnel_access_logs(reader))
    listener = listener_pb2.Listener(name=CONNECT_ORIGINATE)
    listener.internal_listener.SetInParent()
    listener.use_original_dst.value = False
    listener.listener_filters.append(original_destination())
    listener.filter_chains.add().filters.append(network_filter(TCP_PROXY, proxy))
    listener.access_log.extend(listener_access_logs(reader))
    return Resource.of(listener.name, LISTENER, listener.SerializeToString(deterministic=True))
