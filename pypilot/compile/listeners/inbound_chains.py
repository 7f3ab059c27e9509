"""Filter chains for one served port of a workload: HTTP or bytes, to cluster `inbound|PORT||` (LIS-023…029)."""

from collections.abc import Iterator
from typing import NamedTuple

from envoy.config.listener.v3 import listener_components_pb2 as components
from envoy.config.route.v3 import route_components_pb2, route_pb2

from pypilot.compile.clusters.stat_names import fill_stat_pattern
from pypilot.compile.gateways.downstream_tls import mesh_tls_socket
from pypilot.compile.ingress import IngressTarget, stand_in
from pypilot.compile.listeners.chains import TcpDestination
from pypilot.compile.listeners.http_connection_manager import manager_filter
from pypilot.compile.listeners.inbound_matches import InboundMatch, inbound_matches
from pypilot.compile.listeners.manager_spec import ManagerSpec
from pypilot.compile.listeners.network_filters import metadata_exchange, tcp_filters
from pypilot.compile.listeners.traits import HttpTraits
from pypilot.compile.messages import istio_metadata
from pypilot.compile.naming import INBOUND_PASSTHROUGH_CLUSTER, config_path, inbound_cluster, stat_name
from pypilot.compile.policies.selection import PolicySet
from pypilot.compile.routes.default_routes import inbound_route
from pypilot.compile.targets import ServiceTarget
from pypilot.kinds.peer_authentication import MutualTLSMode
from pypilot.world.model import Protocol
from pypilot.world.reader import Reader

VIRTUAL_INBOUND = "virtualInbound"


class Serving(NamedTuple):
    """What is served on one port, or on all that no service names."""

    cluster: str
    port: int
    """The workload's port; 0 for all that no service names."""
    protocol: Protocol
    stat_prefix: str
    tcp_stat_prefix: str
    tcp_name: str
    http_name: str
    operation: str
    """The name of its spans."""
    service_port: int
    config: str = ""
    """Path of the Sidecar that asks for it."""


UNNAMED = Serving(
    cluster=INBOUND_PASSTHROUGH_CLUSTER,
    port=0,
    protocol=Protocol.UNSUPPORTED,
    stat_prefix=stat_name(INBOUND_PASSTHROUGH_CLUSTER),
    tcp_stat_prefix=INBOUND_PASSTHROUGH_CLUSTER,
    tcp_name=VIRTUAL_INBOUND,
    http_name=f"{VIRTUAL_INBOUND}-catchall-http",
    operation=":0/*",
    service_port=0,
)
"""Ports that no service names (LIS-028)."""


def service_serving(reader: Reader, target: ServiceTarget, wildcard: str) -> Serving:
    """One port of a service."""
    cluster = inbound_cluster(target.target)
    service = reader.service(target.service)
    pattern = reader.mesh().inbound_cluster_stat_name
    name = f"{wildcard}_{target.target}"
    return Serving(
        cluster=cluster,
        port=target.target,
        protocol=target.port.protocol,
        stat_prefix=stat_name(f"inbound_{name}"),
        tcp_stat_prefix=fill_stat_pattern(pattern, service, target.port) if pattern and service else cluster,
        tcp_name=name,
        http_name=name,
        operation=f"{target.service.hostname}:{target.port.number}/*",
        service_port=target.port.number,
    )


def ingress_serving(reader: Reader, target: IngressTarget) -> Serving:
    """One port that a Sidecar opens (SC-013)."""
    cluster = inbound_cluster(target.target)
    pattern = reader.mesh().inbound_cluster_stat_name
    name = f"{target.bind}_{target.target}"
    return Serving(
        cluster=cluster,
        port=target.target,
        protocol=target.port.protocol,
        stat_prefix=stat_name(f"inbound_{name}"),
        tcp_stat_prefix=fill_stat_pattern(
            pattern, stand_in(target.sidecar.name, target.sidecar.namespace, target.port), target.port
        )
        if pattern
        else cluster,
        tcp_name=name,
        http_name=name,
        operation=f"{target.owner}:{target.port.number}/*",
        service_port=target.port.number,
        config=config_path(target.sidecar, "networking.istio.io/v1"),
    )


def serving_of(reader: Reader, target: ServiceTarget | IngressTarget, wildcard: str) -> Serving:
    """One port, whoever asks for it."""
    if isinstance(target, IngressTarget):
        return ingress_serving(reader, target)
    return service_serving(reader, target, wildcard)


def _routes(reader: Reader, serving: Serving) -> route_pb2.RouteConfiguration:
    grpc = serving.protocol in (Protocol.GRPC, Protocol.GRPC_WEB)
    host = route_components_pb2.VirtualHost(name=f"inbound|http|{serving.service_port}", domains=["*"])
    host.routes.append(
        inbound_route(serving.cluster, serving.operation, reader.mesh().default_inbound_http_retry_policy, grpc)
    )
    config = route_pb2.RouteConfiguration(name=serving.cluster, virtual_hosts=[host])
    config.validate_clusters.value = False
    return config


def _filters(
    reader: Reader, serving: Serving, http: bool, tunnelled: bool, traits: HttpTraits, policies: PolicySet
) -> list[components.Filter]:
    if not http:
        destination = TcpDestination(
            serving.tcp_stat_prefix, ((serving.cluster, 0),), serving.protocol, exchanges_metadata=True
        )
        return tcp_filters(reader, destination, traits.tcp, policies)
    # A tunnel has told already who the peer is; only named ports make use of that.
    exchanges = not (tunnelled and serving.port)
    spec = ManagerSpec(
        side="inbound",
        stat_prefix=serving.stat_prefix,
        routes=_routes(reader, serving),
        traits=traits,
        grpc_web=serving.protocol is Protocol.GRPC_WEB,
        http2=serving.protocol.is_http2,
        exchanges_metadata=exchanges,
        policies=policies,
    )
    first = [metadata_exchange()] if traits.tcp.istio_build and exchanges else []
    return [*first, manager_filter(reader, spec)]


def _chain(
    reader: Reader, serving: Serving, match: InboundMatch, tunnelled: bool, traits: HttpTraits, policies: PolicySet
) -> components.FilterChain:
    chain = components.FilterChain(name=serving.http_name if match.http else serving.tcp_name)
    chain.filter_chain_match.application_protocols.extend(match.alpn)
    if not tunnelled:
        chain.filter_chain_match.transport_protocol = match.transport
    if serving.port:
        chain.filter_chain_match.destination_port.value = serving.port
    chain.filters.extend(_filters(reader, serving, match.http, tunnelled, traits, policies))
    if serving.config:
        chain.metadata.CopyFrom(istio_metadata({"config": serving.config}))
    if match.terminates_tls:
        socket = reader.call(mesh_tls_socket, not match.http, traits.server_files, traits.certificates_over_ads)
        chain.transport_socket.CopyFrom(socket)
    return chain


def serving_chains(
    reader: Reader,
    serving: Serving,
    traits: HttpTraits,
    mode: MutualTLSMode,
    policies: PolicySet,
    tunnelled: bool = False,
) -> Iterator[components.FilterChain]:
    """The chains of one port.

    Args:
        mode: the mutual TLS that is demanded there.
        policies: those of the workload.
        tunnelled: what arrives came through an HBONE tunnel, which was the TLS.
    """
    for match in inbound_matches(serving.protocol, "DISABLE" if tunnelled else mode):
        yield _chain(reader, serving, match, tunnelled, traits, policies)
