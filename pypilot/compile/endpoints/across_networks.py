"""Endpoints of other networks give way to the gateways of their network (EDS-008, EDS-009, NODE-013).

Works on lists of `LocalityGroup`, before policies for localities. Must not build messages.
"""

from collections.abc import Callable
from dataclasses import replace

from pypilot.compile.endpoints.lb_endpoint import MAX_WEIGHT
from pypilot.compile.endpoints.locality import LocalityGroup
from pypilot.compile.place import Place
from pypilot.kinds.names import is_address
from pypilot.world.model import Endpoint
from pypilot.world.networks import NETWORK_LABEL, NetworkGateway, NetworkGateways


def _dialled(place: Place, gateways: tuple[NetworkGateway, ...]) -> tuple[NetworkGateway, ...]:
    """The gateways that the proxy has an address family for. Names may have any."""
    if len(place.families) != 1:
        return gateways
    version = place.families[0]
    return tuple(g for g in gateways if not is_address(g.address) or (6 if ":" in g.address else 4) == version)


def _stand_in(gateway: NetworkGateway, port: str, weight: int) -> Endpoint:
    """A gateway as an endpoint: it takes mutual TLS only, and reads the service from the SNI."""
    return Endpoint(
        address=gateway.address,
        ports=((port, gateway.port),),
        labels=((NETWORK_LABEL, gateway.network),),
        tls_mode="istio",
        network=gateway.network,
        cluster_id=gateway.cluster,
        weight=weight or 1,
        health="UNKNOWN",
        is_gateway=True,
    )


def across_networks(
    groups: list[LocalityGroup],
    port: str,
    place: Place,
    gateways: NetworkGateways,
    speaks_tls: Callable[[Endpoint], bool],
) -> list[LocalityGroup]:
    """The groups as they can be reached from a place. Without any gateway every address is dialled as it is."""
    if not gateways:
        return [_weighed(group, tuple(e for e in group.endpoints if e.address)) for group in groups]
    scale = gateways.scale
    out = []
    for group in groups:
        direct: list[Endpoint] = []
        shares: dict[NetworkGateway, int] = {}
        for endpoint in group.endpoints:
            into = gateways.into(endpoint.network, endpoint.cluster_id)
            weight = min((endpoint.weight or 1) * scale, MAX_WEIGHT)
            near = endpoint.network in ("", place.network)
            if near or not into:
                if endpoint.address:
                    direct.append(replace(endpoint, weight=weight))
                continue
            reachable = _dialled(place, into)
            if speaks_tls(endpoint):
                for gateway in reachable:
                    shares[gateway] = shares.get(gateway, 0) + weight // len(reachable)
        stand_ins = (_stand_in(gateway, port, shares[gateway]) for gateway in sorted(shares))
        out.append(_weighed(group, (*direct, *stand_ins)))
    return out


def _weighed(group: LocalityGroup, endpoints: tuple[Endpoint, ...]) -> LocalityGroup:
    if endpoints == group.endpoints:
        return group
    return replace(group, endpoints=endpoints, weight=sum(e.weight or 1 for e in endpoints))
