"""All clusters of a proxy: chunks shared by all that see the same, the built-in ones, and the workload's own."""

from pypilot.compile.clusters.builtin import builtin_clusters
from pypilot.compile.clusters.inbound import inbound_clusters, inbound_parts
from pypilot.compile.clusters.outbound import service_clusters, sni_clusters
from pypilot.compile.clusters.traits import Traits, traits_of
from pypilot.compile.groups import CompilePart, PartGroup, group_chunks, grouped, shared_set
from pypilot.compile.outbound_policy import outbound_policy
from pypilot.compile.parts import cluster_parts, forwards_by_sni, place_in
from pypilot.compile.place import Place
from pypilot.compile.view import ProxyView, takes_tunnels, view_of
from pypilot.wire.node import Proxy
from pypilot.wire.resource import Chunk, ResourceSet
from pypilot.world.reader import Reader


def _groups(reader: Reader, view: ProxyView, place: Place) -> tuple[PartGroup, ...]:
    return grouped(cluster_parts(reader, view, place))


def _seen_from(reader: Reader, view: ProxyView, traits: Traits, place: Place, by_sni: bool) -> tuple[Chunk, ...]:
    compilers: tuple[CompilePart, ...] = (service_clusters, sni_clusters) if by_sni else (service_clusters,)
    return group_chunks(reader, compilers, reader.call(_groups, view, place), traits)


def compile_clusters(reader: Reader, proxy: Proxy) -> ResourceSet:
    """Everything that the proxy gets over CDS."""
    view = reader.call(view_of, proxy)
    traits = traits_of(reader, view, proxy)
    outbound = reader.call(_seen_from, view, traits, place_in(reader, view, proxy), forwards_by_sni(reader, proxy))
    any_host = outbound_policy(reader, view).resolves_any_host
    tunnels = takes_tunnels(reader, view, proxy)
    builtin = reader.call(builtin_clusters, traits, proxy.dns_resolver, tunnels, any_host)
    inbound = reader.call(inbound_clusters, inbound_parts(reader, proxy), traits)
    return shared_set(reader, (*outbound, builtin, inbound))
