"""Networks: in which one an address is, and which gateways lead into each (MESH-045, KSVC-016, KSVC-017, KSVC-034).

Values only; `advance` says when they are made anew. Must not know endpoints of services.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from math import lcm
from typing import NamedTuple, TypeAlias

from pypilot.kinds.core import Node
from pypilot.kinds.mesh_networks import MeshNetworks
from pypilot.kinds.names import is_address
from pypilot.kinds.service import Service
from pypilot.world.model import MeshService

NETWORK_LABEL = "topology.istio.io/network"
PORT_LABEL = "networking.istio.io/gatewayPort"
NODE_SELECTOR = "traffic.istio.io/nodeSelector"
_DEFAULT_PORT = 15443
_Range: TypeAlias = IPv4Network | IPv6Network


class NetworkGateway(NamedTuple):
    """A way into a network from outside: it forwards mutual TLS to what the SNI names."""

    address: str
    port: int
    network: str
    cluster: str = ""
    """The cluster whose gateway it is; empty for one of the mesh configuration."""


@dataclass(frozen=True, slots=True)
class NetworkGateways:
    """All gateways, by address and port."""

    gateways: tuple[NetworkGateway, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.gateways)

    @property
    def resolved(self) -> "NetworkGateways":
        """Those that are known by address: names cannot go over EDS."""
        return NetworkGateways(tuple(g for g in self.gateways if is_address(g.address)))

    def into(self, network: str, cluster: str) -> tuple[NetworkGateway, ...]:
        """The gateways of a network and cluster; where it has none of its own, all of the network."""
        found = tuple(g for g in self.gateways if g.network == network)
        return tuple(g for g in found if g.cluster == cluster) or found

    @property
    def scale(self) -> int:
        """What weights are multiplied by, so that they divide by any number of gateways (EDS-009)."""
        sizes: dict[object, int] = {}
        for gateway in self.gateways:
            for group in (gateway.network, (gateway.network, gateway.cluster)):
                sizes[group] = sizes.get(group, 0) + 1
        return lcm(*sizes.values())


class NetworkLookup:
    """In which network something is: its label, else the root namespace's, else the mesh networks'."""

    def __init__(self, default: str, networks: MeshNetworks, cluster_id: str) -> None:
        self._default = default
        self._registry = ""
        self._ranges: list[tuple[int, str, _Range]] = []
        for name, network in sorted(networks.networks.items()):
            for endpoints in network.endpoints:
                if endpoints.from_cidr:
                    cidr = ip_network(endpoints.from_cidr, strict=False)
                    self._ranges.append((cidr.prefixlen, name, cidr))
                elif endpoints.from_registry == cluster_id:
                    self._registry = self._registry or name
        self._ranges.sort(key=lambda entry: entry[:2])

    def __call__(self, address: str, labels: Mapping[str, str]) -> str:
        """The network's name, or the empty string. Of ranges that contain the address the widest counts."""
        stated = labels.get(NETWORK_LABEL) or self._default or self._registry
        if stated or not self._ranges or not is_address(address):
            return stated
        ip = ip_address(address)
        return next((name for _, name, cidr in self._ranges if ip.version == cidr.version and ip in cidr), "")


def _ports_into(
    service: Service, mesh_service: MeshService, networks: MeshNetworks, cluster_id: str
) -> set[tuple[str, int]]:
    """(network, service port) for which the Service is a gateway: by its label, else by the mesh networks."""
    labels = service.metadata.labels
    if network := labels.get(NETWORK_LABEL, ""):
        stated = labels.get(PORT_LABEL, "")
        port = int(stated) if stated.isdecimal() else _DEFAULT_PORT
        return {(network, port)} if mesh_service.port(port) is not None else set()
    found: set[tuple[str, int]] = set()
    for name, entry in networks.networks.items():
        if any(e.from_registry == cluster_id for e in entry.endpoints):
            found.update((name, g.port) for g in entry.gateways if g.registry_service_name == mesh_service.hostname)
    return found


def node_selector(service: Service) -> Mapping[str, str] | None:
    """Which nodes' addresses stand for a NodePort Service outside (KSVC-017); None if it does not say."""
    text = service.metadata.annotations.get(NODE_SELECTOR)
    if service.spec.type != "NodePort" or text is None:
        return None
    try:
        selector = json.loads(text)
    except ValueError:
        return None
    return {str(k): str(v) for k, v in selector.items()} if isinstance(selector, dict) else None


def service_gateways(
    service: Service, mesh_service: MeshService, networks: MeshNetworks, cluster_id: str, nodes: Iterable[Node]
) -> tuple[NetworkGateway, ...]:
    """The gateways that a Service is, one for each of its outside addresses."""
    into = _ports_into(service, mesh_service, networks, cluster_id)
    if not into:
        return ()
    addresses = list(mesh_service.external_addresses)
    outside = {}
    selector = node_selector(service)
    if selector is not None:
        matching = (n for n in nodes if all(n.metadata.labels.get(k) == v for k, v in selector.items()))
        addresses = [node.external_address for node in matching if node.external_address]
        outside = {p.port: p.node_port for p in service.spec.ports if p.node_port}
    found = {
        NetworkGateway(address, outside.get(port, port), network, cluster_id)
        for address in addresses
        for network, port in into
    }
    return tuple(sorted(found))


def all_gateways(networks: MeshNetworks, of_services: Iterable[tuple[NetworkGateway, ...]]) -> NetworkGateways:
    """Those of the mesh configuration by address, and those that Services are."""
    found = {gateway for gateways in of_services for gateway in gateways}
    for name, network in networks.networks.items():
        found.update(NetworkGateway(g.address, g.port, name) for g in network.gateways if g.address)
    return NetworkGateways(tuple(sorted(found)))
