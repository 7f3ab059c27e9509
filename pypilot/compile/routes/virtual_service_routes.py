"""The routes of one VirtualService for one listener port, serialised once for all views that resolve alike.

*Resolve* (`routes_key`) asks what depends on the viewer: labels that a match names, what a destination's host means,
which DestinationRule hashes it. *Compile* (`compile_routes_of`) takes that key alone.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from pypilot.compile.destination_rules import Selection, subset_of, traffic_policy
from pypilot.compile.features.hash_policy import consistent_hash
from pypilot.compile.naming import outbound_cluster
from pypilot.compile.routes.destination import cluster_host, default_port
from pypilot.compile.routes.match import Source, holds, is_catch_all
from pypilot.compile.routes.route import Targets, build_route
from pypilot.compile.routes.soundness import is_sound_match, is_sound_rule
from pypilot.compile.routes.virtual_services import resolved
from pypilot.kinds.base import Ref
from pypilot.kinds.destination_rule import ConsistentHashLB
from pypilot.kinds.virtual_service import Destination, HTTPMatchRequest, HTTPRoute
from pypilot.wire.node import Labels
from pypilot.wire.resource import length_delimited
from pypilot.world.model import MeshService
from pypilot.world.reader import Reader

ROUTES_TAG = 0x1A
"""`VirtualHost.routes`, field 3."""
UNKNOWN_CLUSTER = "UnknownService"
"""For a destination without host, which only translated routes can have (VS-044)."""


class RouteFrame(NamedTuple):
    """One route as it stands in a serialised VirtualHost."""

    frame: bytes
    catch_all: bool


class Meaning(NamedTuple):
    """What the host of a destination means to the viewer, where that is not the host at the listener's port."""

    host: str
    cluster_host: str
    port: int


class RoutesKey(NamedTuple):
    """Everything on which the routes of a VirtualService depend, but for the VirtualService itself."""

    virtual_service: Ref
    source: Source
    tls: bool = False
    meanings: tuple[Meaning, ...] = ()
    hashes: tuple[tuple[str, Selection], ...] = ()
    """Host -> rules that hash what is sent there."""
    forwarded_host: bool = False


class _Asks(NamedTuple):
    """What the matches and destinations of a VirtualService make its routes depend on."""

    namespace: bool
    labels: frozenset[str]
    hosts: tuple[str, ...]


def _asks(reader: Reader, ref: Ref) -> _Asks:
    found = resolved(reader, ref)
    rules = found.http if found is not None else ()
    matches = [match for rule in rules for match in rule.match if not match.gateways]
    hosts = {d.destination.host: None for rule in rules for d in rule.route}
    for rule in rules:
        hosts.update({m.destination.host: None for m in rule.mirrors})
        if rule.mirror is not None:
            hosts[rule.mirror.host] = None
    return _Asks(
        any(match.source_namespace for match in matches),
        frozenset(label for match in matches for label in match.source_labels),
        tuple(hosts),
    )


def label_keys(reader: Reader, virtual_service: Ref) -> frozenset[str]:
    """The labels of a client that the rules of a VirtualService ask for (VS-028)."""
    return reader.call(_asks, virtual_service).labels


def routes_key(
    reader: Reader,
    virtual_service: Ref,
    source: Source,
    service_of: Callable[[str], MeshService | None],
    hash_of: Callable[[str], Selection | None],
    tls: bool = False,
    forwarded_host: bool = False,
) -> RoutesKey:
    """Resolve the routes of a VirtualService for a viewer.

    Args:
        source: who sends the requests, with all labels that may matter.
        service_of: the service that a host means to the viewer.
        hash_of: the rules that hash what the viewer sends to a host, or None.
    """
    asks = reader.call(_asks, virtual_service)
    labels: Labels = tuple((k, v) for k, v in source.labels if k in asks.labels)
    meanings = (_meaning(host, service_of(host), source.port) for host in asks.hosts)
    hashes = ((host, hash_of(host)) for host in asks.hosts)
    return RoutesKey(
        virtual_service,
        source._replace(namespace=source.namespace if asks.namespace else "", labels=labels),
        tls,
        tuple(m for m in meanings if (m.cluster_host, m.port) != (m.host, source.port)),
        tuple((host, selection) for host, selection in hashes if selection),
        forwarded_host,
    )


def _meaning(host: str, service: MeshService | None, port: int) -> Meaning:
    return Meaning(host, cluster_host(service, host), default_port(service, port))


def _cluster_namer(key: RoutesKey) -> Callable[[Destination], str]:
    meanings = {meaning.host: meaning for meaning in key.meanings}

    def cluster_of(destination: Destination) -> str:
        if not destination.host:
            return UNKNOWN_CLUSTER
        meaning = meanings.get(destination.host) or Meaning(destination.host, destination.host, key.source.port)
        port = destination.port.number or meaning.port
        return outbound_cluster(port, destination.subset, meaning.cluster_host)

    return cluster_of


def _hash_finder(reader: Reader, key: RoutesKey) -> Callable[[Destination], ConsistentHashLB | None]:
    hashes = dict(key.hashes)

    def hash_of(destination: Destination) -> ConsistentHashLB | None:
        selection = hashes.get(destination.host)
        if selection is None:
            return None
        subset = subset_of(reader, selection, destination.subset)
        return consistent_hash(
            traffic_policy(reader, selection),
            subset.traffic_policy if subset is not None else None,
            destination.port.number,
        )

    return hash_of


def _alternatives(rules: Iterable[HTTPRoute]) -> Iterable[tuple[HTTPRoute, HTTPMatchRequest | None]]:
    """Each match is a route of its own (VS-021)."""
    for rule in filter(is_sound_rule, rules):
        if not rule.match:
            yield rule, None
        for match in rule.match:
            yield rule, match


def compile_routes_of(reader: Reader, key: RoutesKey) -> tuple[RouteFrame, ...]:
    """The routes in order, ending with the first that takes everything (VS-022)."""
    found = resolved(reader, key.virtual_service)
    if found is None:
        return ()
    targets = Targets(
        port=key.source.port,
        cluster_of=_cluster_namer(key),
        hash_of=_hash_finder(reader, key),
        default_retries=reader.mesh().default_http_retry_policy,
        tls=key.tls,
        forwarded_host=key.forwarded_host,
    )
    frames: list[RouteFrame] = []
    for rule, match in _alternatives(found.http):
        if not holds(match, key.source) or not is_sound_match(match):
            continue
        route = build_route(found, rule, match, targets)
        if route is None:
            continue
        catch_all = is_catch_all(route.match)
        frames.append(RouteFrame(length_delimited(ROUTES_TAG, route.SerializeToString(deterministic=True)), catch_all))
        if catch_all:
            break
    return tuple(frames)
