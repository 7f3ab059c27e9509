"""Filter chains as plain, hashable data: what resolving yields, and what compiling takes. No look-ups, no filters.

Envoy refuses a listener two of whose chains could both match a connection; `without_overlaps` sees to it that none has.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import product
from typing import NamedTuple, TypeAlias

from envoy.config.listener.v3 import listener_components_pb2 as components

from pypilot.compile.destination_rules import Selection
from pypilot.kinds.base import Ref
from pypilot.kinds.names import is_network
from pypilot.world.model import WILDCARD_ADDRESS, Protocol

RAW_BUFFER = "raw_buffer"
TLS = "tls"
PLAIN_HTTP = ("http/1.1", "h2c")
"""What the HTTP inspector calls HTTP in clear (LIS-004)."""
MTLS_HTTP = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
MTLS_TCP = ("istio-peer-exchange", "istio")
MTLS_ANY = ("istio", "istio-peer-exchange", *MTLS_HTTP)

_Combination: TypeAlias = tuple[str, str, str, str]


class ChainMatch(NamedTuple):
    """`FilterChainMatch`, but for what only inbound chains use."""

    sni: tuple[str, ...] = ()
    cidrs: tuple[str, ...] = ()
    alpn: tuple[str, ...] = ()
    transport: str = ""

    @property
    def takes_all(self) -> bool:
        """True for a chain that matches every connection (LIS-008)."""
        return (not self.sni or "*" in self.sni) and not (self.alpn or self.transport or self.cidrs)

    @property
    def identity(self) -> tuple[str, tuple[str, ...], frozenset[str], frozenset[str]]:
        """Chains of one identity are in conflict: the later one goes (LIS-011)."""
        networks = frozenset(str(n) for n in _networks(self.cidrs))
        return (self.transport, self.alpn, frozenset(self.sni) - {"*"}, networks)

    def combinations(self) -> Iterator[_Combination]:
        """All that the match says, each for itself."""
        names = self.sni if self.sni and "*" not in self.sni else ("",)
        networks = [str(n) for n in _networks(self.cidrs)] or [""]
        return product(names, networks, self.alpn or ("",), (self.transport,))


class TcpDestination(NamedTuple):
    """Where a chain of bytes goes, and what shapes its `TcpProxy`."""

    stat_prefix: str
    clusters: tuple[tuple[str, int], ...]
    """(cluster, weight); weight 0 for one that takes all."""
    protocol: Protocol
    selection: Selection = ()
    """The rules of the (first) destination's host."""
    subset: str = ""
    tunnels: bool = True
    """The rules may ask for a tunnel (VS-084)."""
    dynamic_host: str = ""
    """The wildcard host whose names are resolved when they come, by SNI (SE-019)."""
    port: int = 0
    exchanges_metadata: bool = False
    governed: bool = True
    """The proxy's policies hold for who connects."""


class TcpChain(NamedTuple):
    """Bytes to a destination."""

    match: ChainMatch
    destination: TcpDestination
    config: str = ""
    """Path of the VirtualService that made it (DOC-001)."""
    server: tuple[Ref, int] | None = None
    """Gateway and position of the server whose TLS it terminates."""


class HttpChain(NamedTuple):
    """Requests to routes."""

    match: ChainMatch
    route_name: str
    grpc_web: bool = False
    dynamic_host: str = ""
    stat_prefix: str = ""
    """Empty for one made from the listener's name."""
    absolute_urls: bool = False
    """Clients use it as an HTTP proxy."""
    server: tuple[Ref, int] | None = None


Chain: TypeAlias = TcpChain | HttpChain


def _networks(cidrs: Iterable[str]) -> Iterator[IPv4Network | IPv6Network]:
    """Those that can be read; `0.0.0.0/0` says nothing."""
    for text in cidrs:
        if not is_network(text):
            continue
        network = ip_network(text, strict=False)
        if str(network.network_address) != WILDCARD_ADDRESS:
            yield network


def is_server_name(name: str) -> bool:
    """True for names that Envoy takes in `server_names`: a wildcard stands for whole labels."""
    return bool(name) and "*" not in name.removeprefix("*.")


def build_match(match: ChainMatch) -> components.FilterChainMatch | None:
    """None for a chain that takes all."""
    if match.takes_all:
        return None
    made = components.FilterChainMatch(transport_protocol=match.transport, application_protocols=match.alpn)
    if "*" not in match.sni:
        made.server_names.extend(sorted(match.sni))
    written: set[IPv4Network | IPv6Network] = set()
    for text in sorted(match.cidrs):
        for network in _networks((text,)):
            if network in written:  # Envoy refuses a chain that claims one network twice
                continue
            written.add(network)
            # The whole address: Envoy masks it itself.
            address = ip_address(text.partition("/")[0])
            made.prefix_ranges.add(address_prefix=str(address)).prefix_len.value = network.prefixlen
    return made


def without_overlaps(chains: Iterable[Chain]) -> tuple[Chain, ...]:
    """The chains in order; server names that an earlier one has, or that Envoy would refuse, are taken away.

    A chain of which nothing is left goes.
    """
    taken: set[_Combination] = set()
    kept: list[Chain] = []
    for chain in chains:
        match = chain.match
        if match.sni and "*" not in match.sni:
            free = tuple(
                name
                for name in match.sni
                if is_server_name(name) and taken.isdisjoint(match._replace(sni=(name,)).combinations())
            )
            if not free:
                continue
            match = match._replace(sni=tuple(dict.fromkeys(free)))
        elif not taken.isdisjoint(match.combinations()):
            continue
        taken.update(match.combinations())
        kept.append(chain._replace(match=match))
    return tuple(kept)
