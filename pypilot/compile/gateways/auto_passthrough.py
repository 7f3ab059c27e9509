"""Chains of AUTO_PASSTHROUGH servers: mutual TLS is forwarded to whichever service its server name names (GW-039).

Only what a sidecar may have begun is matched, so nothing is reached without mutual TLS. Who may connect is the business
of the workload at the other end: the gateway's own policies do not hold.
"""

from collections.abc import Iterator

from pypilot.compile.clusters.stat_names import fill_stat_pattern
from pypilot.compile.destination_rules import Selection, destination_rule_for, subsets_of
from pypilot.compile.listeners.chains import MTLS_ANY, Chain, ChainMatch, TcpChain, TcpDestination
from pypilot.compile.naming import sni
from pypilot.compile.routes.hosts import is_subset
from pypilot.compile.services import visible_services
from pypilot.compile.view import ProxyView
from pypilot.world.model import MeshPort, MeshService, Protocol
from pypilot.world.reader import Reader


def _chain(reader: Reader, service: MeshService, port: MeshPort, selection: Selection, subset: str) -> TcpChain:
    name = sni(port.number, subset, service.hostname)
    pattern = reader.mesh().outbound_cluster_stat_name
    destination = TcpDestination(
        stat_prefix=fill_stat_pattern(pattern, service, port, subset) if pattern else name,
        clusters=((name, 0),),
        protocol=port.protocol,
        selection=selection,
        subset=subset,
        tunnels=False,
        governed=False,
    )
    return TcpChain(ChainMatch(sni=(name,), alpn=MTLS_ANY), destination)


def auto_passthrough_chains(reader: Reader, view: ProxyView, hosts: tuple[str, ...]) -> Iterator[Chain]:
    """A chain for each port and subset of the services of the mesh that the server's hosts cover."""
    for key in visible_services(reader, view):
        service = reader.service(key)
        if service is None or service.mesh_external or not any(is_subset(service.hostname, h) for h in hosts):
            continue
        selection = destination_rule_for(reader, view, service) or ()
        subsets = ("", *(subset.name for subset in subsets_of(reader, selection)))
        for port in service.ports:
            if port.protocol is not Protocol.UDP:
                for subset in subsets:
                    yield _chain(reader, service, port, selection, subset)
