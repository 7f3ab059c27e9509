"""Which chains a served port needs, by its protocol and the mutual TLS that is demanded (LIS-023…026, PA-005…011)."""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from pypilot.compile.listeners.chains import MTLS_ANY, MTLS_HTTP, MTLS_TCP, PLAIN_HTTP, RAW_BUFFER, TLS
from pypilot.kinds.peer_authentication import MutualTLSMode
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
_Chains: TypeAlias = Mapping[MutualTLSMode, tuple[InboundMatch, ...]]


def _mutual(http: bool, alpn: tuple[str, ...] = ()) -> InboundMatch:
    return InboundMatch(http, TLS, alpn, terminates_tls=True)


_HTTP: _Chains = {
    "PERMISSIVE": (_mutual(True, MTLS_ANY), _PLAIN_HTTP),
    "STRICT": (_mutual(True),),
    "DISABLE": (_PLAIN_HTTP,),
}
_TCP: _Chains = {
    "PERMISSIVE": (_mutual(False, MTLS_ANY), _OWN_TLS, _PLAIN_TCP),
    "STRICT": (_mutual(False),),
    "DISABLE": (_PLAIN_TCP,),
}
_SNIFFED: _Chains = {
    "PERMISSIVE": (_mutual(True, MTLS_HTTP), _SNIFFED_HTTP, _mutual(False, MTLS_TCP), _PLAIN_TCP, _OWN_TLS),
    "STRICT": (_mutual(True, MTLS_HTTP), _mutual(False)),
    "DISABLE": (_SNIFFED_HTTP, _PLAIN_TCP),
}


def inbound_matches(protocol: Protocol, mode: MutualTLSMode) -> tuple[InboundMatch, ...]:
    """The chains of one port, in order. `mode` is DISABLE too where the proxy has no mesh certificates."""
    if protocol.is_http:
        return _HTTP[mode]
    if not protocol.is_unsupported and protocol is not Protocol.HBONE:
        return _TCP[mode]
    return _SNIFFED[mode]
