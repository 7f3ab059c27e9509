"""Which chains a served port needs, by its protocol and by what is accepted there (LIS-023, LIS-025, LIS-026).

PERMISSIVE (mutual TLS and plain text) where the proxy has mesh certificates, else plain text alone.
"""

from typing import NamedTuple

from pypilot.compile.listeners.chains import MTLS_ANY, MTLS_HTTP, MTLS_TCP, PLAIN_HTTP, RAW_BUFFER, TLS
from pypilot.world.model import Protocol


class InboundMatch(NamedTuple):
    """One chain of a served port."""

    http: bool
    transport: str
    alpn: tuple[str, ...] = ()
    terminates_tls: bool = False


_PLAIN_HTTP = InboundMatch(True, RAW_BUFFER)
_PLAIN_TCP = InboundMatch(False, RAW_BUFFER)
_SNIFFED_HTTP = InboundMatch(True, RAW_BUFFER, PLAIN_HTTP)
_OWN_TLS = InboundMatch(False, TLS)
"""TLS that the workload itself terminates."""


def inbound_matches(protocol: Protocol, mesh_tls: bool) -> tuple[InboundMatch, ...]:
    """The chains of one port, in order."""
    if protocol.is_http:
        mutual = InboundMatch(True, TLS, MTLS_ANY, terminates_tls=True)
        return (mutual, _PLAIN_HTTP) if mesh_tls else (_PLAIN_HTTP,)
    if not protocol.is_unsupported and protocol is not Protocol.HBONE:
        mutual = InboundMatch(False, TLS, MTLS_ANY, terminates_tls=True)
        return (mutual, _OWN_TLS, _PLAIN_TCP) if mesh_tls else (_PLAIN_TCP,)
    if not mesh_tls:
        return (_SNIFFED_HTTP, _PLAIN_TCP)
    mutual_http = InboundMatch(True, TLS, MTLS_HTTP, terminates_tls=True)
    mutual_tcp = InboundMatch(False, TLS, MTLS_TCP, terminates_tls=True)
    return (mutual_http, _SNIFFED_HTTP, mutual_tcp, _PLAIN_TCP, _OWN_TLS)
