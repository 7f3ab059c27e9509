"""Which protocol a port speaks, from the words that users write (KSVC-007…009)."""

from types import MappingProxyType

from pypilot.world.model import Protocol

_WORDS = MappingProxyType(
    {
        "http": Protocol.HTTP,
        "http2": Protocol.HTTP2,
        "http_proxy": Protocol.HTTP_PROXY,
        "grpc": Protocol.GRPC,
        "https": Protocol.HTTPS,
        "tls": Protocol.TLS,
        "tcp": Protocol.TCP,
        "udp": Protocol.UDP,
        "mongo": Protocol.MONGO,
        "redis": Protocol.REDIS,
        "mysql": Protocol.MYSQL,
        "hbone": Protocol.HBONE,
    }
)
_KUBERNETES = MappingProxyType(
    {"kubernetes.io/h2c": Protocol.HTTP2, "kubernetes.io/ws": Protocol.HTTP, "kubernetes.io/wss": Protocol.HTTPS}
)
_SERVER_FIRST_PORTS = frozenset({25, 53, 3306, 27017})
"""SMTP, DNS, MySQL, MongoDB: detection would wait for a client that waits (KSVC-009)."""


def parse_protocol(word: str) -> Protocol:
    """The protocol of one word, in any case; UNSUPPORTED for anything else."""
    lower = word.lower()
    if lower in ("grpc-web", "grpcweb"):
        return Protocol.GRPC_WEB
    return _WORDS.get(lower, Protocol.UNSUPPORTED)


def service_port_protocol(number: int, name: str, transport: str, app_protocol: str) -> Protocol:
    """The protocol of a Kubernetes Service port: appProtocol, else the part of the name before `-`."""
    if transport == "UDP":
        return Protocol.UDP
    if transport not in ("TCP", ""):
        return Protocol.UNSUPPORTED
    if app_protocol.lower() in _KUBERNETES:
        return _KUBERNETES[app_protocol.lower()]
    text = (app_protocol or name).lower()
    if text.startswith("grpc-web"):
        return Protocol.GRPC_WEB
    protocol = parse_protocol(text.partition("-")[0])
    if protocol is Protocol.UNSUPPORTED and number in _SERVER_FIRST_PORTS:
        return Protocol.TCP
    return protocol
