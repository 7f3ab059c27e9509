"""Listener filters: what is found out about a connection before a chain is chosen (LIS-016, LIS-020, FILT-010)."""

from functools import cache

from envoy.config.listener.v3 import listener_components_pb2 as components
from envoy.extensions.filters.listener.http_inspector.v3 import http_inspector_pb2
from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2
from envoy.extensions.filters.listener.original_src.v3 import original_src_pb2
from envoy.extensions.filters.listener.proxy_protocol.v3 import proxy_protocol_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from google.protobuf.message import Message

from pypilot.compile.messages import pack

_READ_BUFFER = 512
"""Envoy's 64 KiB would be taken for every connection."""
_ORIGINAL_SOURCE_MARK = 1337


def _filter(name: str, config: Message) -> components.ListenerFilter:
    return components.ListenerFilter(name=f"envoy.filters.listener.{name}", typed_config=pack(config))


@cache
def tls_inspector() -> components.ListenerFilter:
    """Server name, ALPN, and whether it is TLS at all. Callers must not change it."""
    config = tls_inspector_pb2.TlsInspector()
    config.initial_read_buffer_size.value = _READ_BUFFER
    return _filter("tls_inspector", config)


@cache
def http_inspector() -> components.ListenerFilter:
    """Whether plain bytes are HTTP. Callers must not change it."""
    return _filter("http_inspector", http_inspector_pb2.HttpInspector())


@cache
def original_destination() -> components.ListenerFilter:
    """The address that the client meant before the capture redirected it. Callers must not change it."""
    return _filter("original_dst", original_dst_pb2.OriginalDst())


@cache
def original_source() -> components.ListenerFilter:
    """Under TPROXY the application sees the client's own address (LIS-020). Callers must not change it."""
    return _filter("original_src", original_src_pb2.OriginalSrc(mark=_ORIGINAL_SOURCE_MARK))


@cache
def proxy_protocol() -> components.ListenerFilter:
    """The PROXY header of a load balancer in front (PC-010). Callers must not change it."""
    return _filter("proxy_protocol", proxy_protocol_pb2.ProxyProtocol())
