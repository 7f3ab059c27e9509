"""Does a patch mean this listener, chain, filter, route configuration, virtual host, route or cluster? Changes nothing.

An absent match means all. Matches look at resources as earlier patches left them.
"""

from typing import Any, NamedTuple

from pypilot.compile.envoy_filters.model import Patch
from pypilot.compile.listeners.inbound_chains import VIRTUAL_INBOUND
from pypilot.compile.listeners.virtual_outbound import VIRTUAL_OUTBOUND
from pypilot.kinds.envoy_filter import FilterMatch

VIRTUAL = frozenset({VIRTUAL_INBOUND, VIRTUAL_OUTBOUND})
_ACTIONS = {"route": "ROUTE", "redirect": "REDIRECT", "direct_response": "DIRECT_RESPONSE"}


# -- listeners --------------------------------------------------------------------------------------------------------


def listener_matches(listener: Any, patch: Patch) -> bool:
    """Name and port; for what is inside a virtual listener the port is that of the chain (EF-016)."""
    match = patch.match.listener
    if match is None:
        return True
    if match.name and match.name != listener.name:
        return False
    if not match.port_number or (patch.apply_to != "LISTENER" and listener.name in VIRTUAL):
        return True
    address = listener.address
    return address.HasField("socket_address") and bool(address.socket_address.port_value == match.port_number)


def chain_matches(listener: Any, chain: Any, patch: Patch) -> bool:
    """EF-011, EF-016."""
    match = patch.match.listener
    if match is None:
        return True
    own = chain.filter_chain_match
    if listener.name in VIRTUAL and match.port_number and own.destination_port.value != match.port_number:
        return False
    wanted = match.filter_chain
    if wanted is None:
        return True
    return (
        wanted.name in ("", chain.name)
        and (not wanted.sni or wanted.sni in own.server_names)
        and wanted.transport_protocol in ("", own.transport_protocol)
        and (
            not wanted.application_protocols
            or all(p in own.application_protocols for p in wanted.application_protocols.split(","))
        )
        and wanted.destination_port in (0, own.destination_port.value)
    )


def named_listener_filter(patch: Patch) -> str:
    """The listener filter that a patch names; empty for none."""
    return patch.match.listener.listener_filter if patch.match.listener is not None else ""


def _named_filter(patch: Patch) -> FilterMatch | None:
    chain = patch.match.listener.filter_chain if patch.match.listener is not None else None
    return chain.filter if chain is not None else None


def names_filter(patch: Patch) -> bool:
    """True if the patch names a network filter."""
    return _named_filter(patch) is not None


def filter_matches(item: Any, patch: Patch) -> bool:
    """A network filter's name."""
    wanted = _named_filter(patch)
    return wanted is None or bool(wanted.name == item.name)


def names_http_filter(patch: Patch) -> bool:
    """True if the patch names an HTTP filter."""
    wanted = _named_filter(patch)
    return wanted is not None and wanted.sub_filter is not None


def http_filter_matches(item: Any, patch: Patch) -> bool:
    """An HTTP filter's name."""
    wanted = _named_filter(patch)
    sub = wanted.sub_filter if wanted is not None else None
    return sub is None or bool(sub.name == item.name)


# -- routes -----------------------------------------------------------------------------------------------------------


class _RouteName(NamedTuple):
    port: int = 0
    port_name: str = ""
    gateway: str = ""


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() else 0


def _gateway_route(name: str) -> _RouteName:
    """What a gateway's route name says (GW-007); plain HTTP names no Gateway (SEEN-011)."""
    kind, _, rest = name.partition(".")
    if kind == "http":
        return _RouteName(_number(rest))
    parts = rest.split(".")
    if kind != "https" or len(parts) != 4:
        return _RouteName()
    return _RouteName(_number(parts[0]), parts[1], f"{parts[3]}/{parts[2]}")


def gateway_port(name: str) -> int:
    """The port in a gateway's route name; 0 if there is none."""
    return _gateway_route(name).port


ServicePorts = tuple[tuple[int, tuple[int, ...]], ...]
"""Listening port -> numbers of the servers that share it."""


def configuration_matches(name: str, patch: Patch, gateway: bool, ports: ServicePorts = ()) -> bool:
    """EF-018: name and port; for gateways the server's port name and Gateway, too."""
    match = patch.match.route_configuration
    if match is None:
        return True
    if match.name not in ("", name):
        return False
    if not gateway:
        own = _number(name.split("|")[1]) if name.startswith("inbound|") else _number(name)
        return match.port_number in (0, own)
    parsed = _gateway_route(name)
    if match.port_name not in ("", parsed.port_name) or match.gateway not in ("", parsed.gateway):
        return False
    return not match.port_number or match.port_number in dict(ports).get(parsed.port, (parsed.port,))


def host_matches(host: Any, patch: Patch) -> bool:
    """EF-019: name and domain of a virtual host."""
    match = patch.match.route_configuration
    wanted = match.vhost if match is not None else None
    if wanted is None:
        return True
    return wanted.name in ("", host.name) and (not wanted.domain_name or wanted.domain_name in host.domains)


def names_route(patch: Patch) -> bool:
    """True if the patch names a route."""
    match = patch.match.route_configuration
    return match is not None and match.vhost is not None and match.vhost.route is not None


def route_matches(route: Any, patch: Patch) -> bool:
    """EF-020: name and action of a route."""
    match = patch.match.route_configuration
    wanted = match.vhost.route if match is not None and match.vhost is not None else None
    if wanted is None:
        return True
    if wanted.name not in ("", route.name):
        return False
    action = _ACTIONS.get(route.WhichOneof("action"))
    return wanted.action == "ANY" or action is None or action == wanted.action


# -- clusters ---------------------------------------------------------------------------------------------------------


def cluster_matches(name: str, patch: Patch, hosts: tuple[str, ...] = ()) -> bool:
    """EF-021: by name, or by what the name says.

    Args:
        hosts: the services that an inbound cluster serves, for its name does not say them.
    """
    match = patch.match.cluster
    if match is None:
        return True
    if match.name:
        return match.name == name
    separator = "_." if name.startswith(("outbound_.", "inbound_.")) else "|"
    parts = name.split(separator, 3)
    direction, port, subset, hostname = parts if len(parts) == 4 else ("", "", "", "")
    own = hosts if direction.startswith("inbound") and hosts else (hostname,)
    return (
        match.subset in ("", subset)
        and (not match.service or match.service in own)
        and match.port_number in (0, _number(port))
    )
