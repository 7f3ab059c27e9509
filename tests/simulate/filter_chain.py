"""Which filter chain of a listener handles a connection (envoy.config.listener.v3.FilterChainMatch).

Envoy narrows the chains criterion by criterion, each time to those with the most specific match, and never goes back:
a chain that fits better at an early criterion hides others even if it fails at a later one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TypeAlias

from tests.simulate.fields import Message, UnsupportedError, at, items, number, text
from tests.simulate.listener import Detected
from tests.simulate.model import Connection, Trace


@dataclass(frozen=True, slots=True)
class Chain:
    """A filter chain and where it stands."""

    path: str
    message: Message

    @property
    def match(self) -> Message:
        return at(self.message, "filter_chain_match")


Chains: TypeAlias = Sequence[Chain]


def _by_rank(chains: Chains, rank: Callable[[Message], int | None]) -> Chains:
    """The chains of the highest rank; None is no match."""
    ranked = [(found, chain) for chain in chains if (found := rank(chain.match)) is not None]
    best = max((found for found, _ in ranked), default=None)
    return [chain for found, chain in ranked if found == best]


def _port_rank(match: Message, port: int) -> int | None:
    wanted = number(match, "destination_port")
    return 0 if not wanted else 1 if wanted == port else None


def _prefix_rank(match: Message, field: str, address: str) -> int | None:
    ranges = items(match, field)
    if not ranges:
        return -1
    here = ip_address(address)
    lengths = []
    for prefix in ranges:
        network = ip_network(f"{text(prefix, 'address_prefix')}/{number(prefix, 'prefix_len')}", strict=False)
        if here in network:
            lengths.append(network.prefixlen)
    return max(lengths, default=None)


def _name_rank(match: Message, name: str) -> int | None:
    """An exact name, then the longest wildcard suffix, then none at all."""
    wanted = items(match, "server_names")
    if not wanted:
        return 0
    ranks = []
    for pattern in map(str.lower, wanted):
        if pattern == name:
            ranks.append(len(name) + 1)
        elif pattern.startswith("*.") and len(name) > len(pattern) - 1 and name.endswith(pattern[1:]):
            ranks.append(len(pattern) - 1)
    return max(ranks, default=None) if name else None


def _application_rank(match: Message, offered: Sequence[str]) -> int | None:
    """The first of the offered protocols that some chain names."""
    wanted = items(match, "application_protocols")
    if not wanted:
        return 0
    return max((len(offered) - i for i, protocol in enumerate(offered) if protocol in wanted), default=None)


def _source_rank(match: Message, connection: Connection) -> int | None:
    local = connection.source == connection.destination or ip_address(connection.source).is_loopback
    match text(match, "source_type", "ANY"):
        case "ANY":
            return 0
        case "SAME_IP_OR_LOOPBACK":
            return 1 if local else None
        case "EXTERNAL":
            return None if local else 1
    raise UnsupportedError(f"FilterChainMatch.source_type {match['source_type']}")


def _source_port_rank(match: Message, port: int) -> int | None:
    wanted = items(match, "source_ports")
    return 0 if not wanted else 1 if port in map(int, wanted) else None


def _criteria(connection: Connection, detected: Detected) -> Iterable[tuple[str, Callable[[Message], int | None]]]:
    """In Envoy's order."""

    def transport(match: Message) -> int | None:
        wanted = text(match, "transport_protocol")
        return 0 if not wanted else 1 if wanted == detected.transport else None

    yield "destination_port", lambda m: _port_rank(m, connection.port)
    yield "prefix_ranges", lambda m: _prefix_rank(m, "prefix_ranges", connection.destination)
    yield "server_names", lambda m: _name_rank(m, detected.server_name)
    yield "transport_protocol", transport
    yield "application_protocols", lambda m: _application_rank(m, detected.applications)
    yield "direct_source_prefix_ranges", lambda m: _prefix_rank(m, "direct_source_prefix_ranges", connection.source)
    yield "source_type", lambda m: _source_rank(m, connection)
    yield "source_prefix_ranges", lambda m: _prefix_rank(m, "source_prefix_ranges", connection.source)
    yield "source_ports", lambda m: _source_port_rank(m, connection.source_port)


def choose_chain(
    name: str, listener: Message, connection: Connection, detected: Detected, trace: Trace
) -> Chain | None:
    """The chain, the default one if none matches; None if there is neither."""
    if "filter_chain_matcher" in listener:
        raise UnsupportedError("Listener.filter_chain_matcher")
    where = f"LDS {name}"
    chains: Chains = [Chain(f"filter_chains[{i}]", c) for i, c in enumerate(items(listener, "filter_chains"))]
    for criterion, rank in _criteria(connection, detected):
        left = _by_rank(chains, rank)
        if not left and chains:
            path = f"filter_chains[].filter_chain_match.{criterion}"
            trace.note("filter chain", where, path, f"none of {len(chains)} matches")
        elif len(left) < len(chains):
            path = f"filter_chains[].filter_chain_match.{criterion}"
            trace.note("filter chain", where, path, f"{len(left)} of {len(chains)} left")
        chains = left
    if chains:
        trace.note("filter chain", where, chains[0].path, text(chains[0].message, "name") or "chosen")
        return chains[0]
    default = at(listener, "default_filter_chain")
    if default:
        trace.note("filter chain", where, "default_filter_chain", text(default, "name") or "chosen")
        return Chain("default_filter_chain", default)
    trace.note("filter chain", where, "filter_chains", "no chain matches")
    return None
