"""The inspectors of inbound listeners, each switched off on ports where no chain needs it (LIS-022, LIS-031).

An inspector waits for the client's first bytes: on a port whose server speaks first that would be for ever.
"""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from envoy.config.listener.v3 import listener_components_pb2 as components

from pypilot.compile.listeners.chains import PLAIN_HTTP, TLS
from pypilot.compile.listeners.listener_filters import (
    http_inspector,
    tls_inspector,
)

Predicate: TypeAlias = components.ListenerFilterChainMatchPredicate


def _ports(ports: Sequence[int]) -> Predicate:
    """Matches connections to any of these ports."""
    rules = []
    for port in ports:
        rule = Predicate()
        rule.destination_port_range.start = port
        rule.destination_port_range.end = port + 1
        rules.append(rule)
    return rules[0] if len(rules) == 1 else Predicate(or_match=Predicate.MatchSet(rules=rules))


def _inspector(
    whole: components.ListenerFilter, wanted: set[int], known: set[int], by_default: bool
) -> components.ListenerFilter:
    """The inspector for the ports that want it; `by_default` for all that no chain names, too.

    0 stands for the ports that no chain names.
    """
    exceptions = sorted(known - wanted if by_default else wanted - {0})
    if not exceptions:
        return whole
    limited = components.ListenerFilter()
    limited.CopyFrom(whole)
    named = _ports(exceptions)
    limited.filter_disabled.CopyFrom(named if by_default else Predicate(not_match=named))
    return limited


def inspectors(chains: Iterable[components.FilterChain]) -> list[components.ListenerFilter]:
    """Those that the chains need. HTTP comes second: it is looked for only where TLS was not found."""
    known, tls, http = set[int](), set[int](), set[int]()
    for chain in chains:
        match = chain.filter_chain_match
        port = match.destination_port.value
        known.add(port)
        if match.transport_protocol == TLS:
            tls.add(port)
        if not set(match.application_protocols).isdisjoint(PLAIN_HTTP):
            http.add(port)
    made = []
    if tls:
        made.append(_inspector(tls_inspector(), tls, known, 0 in tls))
    if http:
        made.append(_inspector(http_inspector(), http, known, by_default=True))
    return made
