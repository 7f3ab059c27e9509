"""The network filters of a filter chain: who may connect, then TCP proxy or HTTP connection manager."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from tests.simulate.cluster import endpoints_of
from tests.simulate.fields import Message, UnsupportedError, at, items, number, text, typed
from tests.simulate.filter_chain import Chain
from tests.simulate.http import serve
from tests.simulate.model import Chance, Closed, Connection, Outcome, Request, Trace, Tunnel
from tests.simulate.rbac import TCP_RBAC, Subject, decide
from tests.simulate.resources import Resources

MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
TCP_PROXY = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
_HARMLESS = ("MetadataExchange", "stats.PluginConfig", "tcp_stats.PluginConfig")


def _clusters(proxy: Message) -> Iterator[tuple[Fraction, str, str, Message]]:
    match = at(proxy, "metadata_match", "filter_metadata", "envoy.lb")
    if "cluster" in proxy:
        yield Fraction(1), text(proxy, "cluster"), "cluster", match
        return
    shares = items(at(proxy, "weighted_clusters"), "clusters")
    total = sum(number(share, "weight") for share in shares)
    for i, share in enumerate(shares):
        if number(share, "weight"):
            own = at(share, "metadata_match", "filter_metadata", "envoy.lb")
            path = f"weighted_clusters.clusters[{i}]"
            yield Fraction(number(share, "weight"), total), text(share, "name"), path, {**match, **own}


def _tunnel(
    proxy: Message, resource: str, path: str, resources: Resources, connection: Connection, trace: Trace
) -> Iterator[Chance]:
    for part, cluster, field, subset in _clusters(proxy):
        seen = trace.fork()
        seen.note("tcp proxy", resource, f"{path}.{field}", f"{cluster} with probability {part}")
        endpoints = endpoints_of(cluster, resources, connection, seen, subset)
        outcome: Outcome
        if endpoints is None:
            outcome = Closed("NC", "cluster_not_found")
        elif not endpoints:
            outcome = Closed("UH", "no_healthy_upstream")
        else:
            outcome = Tunnel(cluster, endpoints)
        yield Chance(part, outcome, tuple(seen.steps))


def run_chain(
    name: str, chain: Chain, resources: Resources, connection: Connection, request: Request | None, trace: Trace
) -> Iterator[Chance]:
    """What the chain does with a connection, and with a request on it.

    Raises:
        UnsupportedError: it ends in a filter that is not known here.
    """
    resource = f"LDS {name}"
    if connection.tls and "transport_socket" in chain.message:
        trace.note("filter chain", resource, f"{chain.path}.transport_socket", "terminates TLS")
    elif connection.tls:
        connection = replace(connection, application="tcp")  # what is encrypted cannot be read
    for i, network_filter in enumerate(items(chain.message, "filters")):
        kind, config = typed(network_filter)
        path = f"{chain.path}.filters[{i}]"
        if kind == TCP_PROXY:
            yield from _tunnel(config, resource, path, resources, connection, trace)
            return
        if kind == MANAGER:
            if request is None or connection.application == "tcp":
                trace.note("http", resource, path, "the bytes are no HTTP")
                yield Chance(Fraction(1), Closed("DPE", "codec_error"), tuple(trace.steps))
                return
            yield from serve(config, resource, path, request, resources, connection, trace)
            return
        if kind == TCP_RBAC:
            decision = decide(config, Subject(connection, connection.source))
            trace.note("network filter", resource, f"{path} {text(network_filter, 'name')}", decision.said)
            if not decision.passes:
                yield Chance(Fraction(1), Closed("", decision.details), tuple(trace.steps))
                return
        elif not kind.endswith(_HARMLESS):
            trace.note("network filter", resource, path, f"what {text(network_filter, 'name')} does is not simulated")
    raise UnsupportedError(f"a filter chain without an end: {resource} {chain.path}")
