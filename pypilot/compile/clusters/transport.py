"""Transport sockets without certificates: plain, through the HBONE listener, with a PROXY header (DR-056, DR-077)."""

from functools import cache
from typing import Literal, TypeAlias

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2, proxy_protocol_pb2
from envoy.extensions.transport_sockets.internal_upstream.v3 import internal_upstream_pb2
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2

from pypilot.compile.messages import pack

TransportSocket: TypeAlias = base_pb2.TransportSocket
Match: TypeAlias = cluster_pb2.Cluster.TransportSocketMatch

_RAW_BUFFER = "envoy.transport_sockets.raw_buffer"
_INTERNAL_UPSTREAM = "envoy.transport_sockets.internal_upstream"
_PROXY_PROTOCOL = "envoy.transport_sockets.upstream_proxy_protocol"
_ORIGINAL_DST_METADATA = "envoy.filters.listener.original_dst"


@cache
def raw_buffer() -> TransportSocket:
    """Plain text. Callers must not change it."""
    return TransportSocket(name=_RAW_BUFFER, typed_config=pack(raw_buffer_pb2.RawBuffer()))


@cache
def plain_match() -> Match:
    """Matches every endpoint: plain text. Callers must not change it."""
    match = Match(name="tlsMode-disabled", transport_socket=raw_buffer())
    match.match.SetInParent()
    return match


def istio_tls_match(socket: TransportSocket, everywhere: bool = False) -> Match:
    """Mutual TLS for endpoints that say `tlsMode: istio`, or for all (a rule demands it)."""
    match = Match(name="tlsMode-istio", transport_socket=socket)
    if not everywhere:
        match.match.fields["tlsMode"].string_value = "istio"
    return match


def tunnel_end() -> TransportSocket:
    """Plain text to an internal listener of the same Envoy; istiod names both sockets in short."""
    plain = TransportSocket(name="raw_buffer", typed_config=pack(raw_buffer_pb2.RawBuffer()))
    transport = internal_upstream_pb2.InternalUpstreamTransport(transport_socket=plain)
    return TransportSocket(name="internal_upstream", typed_config=pack(transport))


def _hbone_match(inner: TransportSocket) -> Match:
    transport = internal_upstream_pb2.InternalUpstreamTransport(transport_socket=inner)
    for name, kind in ((_ORIGINAL_DST_METADATA, "host"), ("istio", "cluster"), ("istio", "host")):
        source = transport.passthrough_metadata.add(name=name)
        getattr(source.kind, kind).SetInParent()
    match = Match(name="hbone", transport_socket=TransportSocket(name=_INTERNAL_UPSTREAM, typed_config=pack(transport)))
    match.match.fields["tunnel"].string_value = "http"
    return match


@cache
def hbone_match() -> Match:
    """Endpoints that say `tunnel: http`: by the internal listener `connect_originate`. Callers must not change it."""
    return _hbone_match(raw_buffer())


def hbone_around(inner: TransportSocket) -> Match:
    """The same, with the caller's own TLS inside the tunnel (DR-077)."""
    return _hbone_match(inner)


def user_match(socket: TransportSocket) -> Match:
    """The rule's own TLS, for every endpoint without a tunnel."""
    return Match(name="user", transport_socket=socket)


def _with_proxy_header(inner: TransportSocket, version: Literal["V1", "V2"]) -> TransportSocket:
    config = proxy_protocol_pb2.ProxyProtocolConfig(version=version)
    wrapper = upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport(config=config, transport_socket=inner)
    return TransportSocket(name=_PROXY_PROTOCOL, typed_config=pack(wrapper))


def apply_proxy_protocol(cluster: cluster_pb2.Cluster, version: Literal["V1", "V2"]) -> None:
    """Wrap every socket of a cluster so that connections open with a PROXY header (DR-078)."""
    for match in cluster.transport_socket_matches:
        match.transport_socket.CopyFrom(_with_proxy_header(match.transport_socket, version))
    if cluster.HasField("transport_socket"):
        cluster.transport_socket.CopyFrom(_with_proxy_header(cluster.transport_socket, version))
    elif not cluster.transport_socket_matches:
        plain = TransportSocket(name="raw_buffer", typed_config=raw_buffer().typed_config)
        cluster.transport_socket.CopyFrom(_with_proxy_header(plain, version))
