"""What becomes of a request or connection that was sent to a cluster: its endpoints, and how they are spoken to.

Source: envoy.config.cluster.v3.Cluster. Must not know HTTP.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from tests.simulate.balancing import Host, Policy, endpoint_shares, hosts_of
from tests.simulate.fields import Message, at, items, number, text, typed
from tests.simulate.model import Connection, Endpoint, Trace
from tests.simulate.resources import Resources

LB = "envoy.lb"
SOCKET_MATCH = "envoy.transport_socket_match"


def _address(host: Host) -> str:
    address = at(host.message, "endpoint", "address")
    if "pipe" in address:
        return text(at(address, "pipe"), "path")
    if "envoy_internal_address" in address:
        return text(at(address, "envoy_internal_address"), "server_listener_name")
    socket = at(address, "socket_address")
    return f"{text(socket, 'address')}:{number(socket, 'port_value')}"


def _has(metadata: Message, wanted: Mapping[str, Any]) -> bool:
    return all(name in metadata and metadata[name] == value for name, value in wanted.items())


def _in_subset(cluster: Message, hosts: tuple[Host, ...], wanted: Mapping[str, Any]) -> tuple[Host, ...]:
    """`lb_subset_config`: the endpoints with the wanted metadata, if the cluster has a selector for these keys."""
    config = at(cluster, "lb_subset_config")
    selectors = [frozenset(items(selector, "keys")) for selector in items(config, "subset_selectors")]
    if not selectors:
        return hosts
    if wanted and frozenset(wanted) in selectors:
        found = tuple(host for host in hosts if _has(at(host.metadata, LB), wanted))
        if found:
            return found
    match text(config, "fallback_policy", "NO_FALLBACK"):
        case "ANY_ENDPOINT":
            return hosts
        case "DEFAULT_SUBSET":
            return tuple(h for h in hosts if _has(at(h.metadata, LB), at(config, "default_subset")))
    return ()


def _tls(socket: Message, host: Host, authority: str, cluster: Message) -> tuple[bool, str, tuple[str, ...]]:
    """Whether it is TLS, the server name and the protocols that are offered."""
    kind, config = typed(socket)
    if "transport_socket" in config:  # one within another, as the PROXY protocol is
        return _tls(at(config, "transport_socket"), host, authority, cluster)
    if not kind.endswith(".UpstreamTlsContext"):
        return False, "", ()
    options = at(cluster, "typed_extension_protocol_options", "envoy.extensions.upstreams.http.v3.HttpProtocolOptions")
    name = text(config, "sni")
    if at(options, "upstream_http_protocol_options").get("auto_sni") and authority:
        name = authority.rpartition(":")[0] if authority.rpartition(":")[2].isdigit() else authority
    if config.get("auto_host_sni"):
        name = text(at(host.message, "endpoint"), "hostname") or name
    return True, name, tuple(items(at(config, "common_tls_context"), "alpn_protocols"))


def _endpoint(cluster: Message, host: Host, probability: Fraction, authority: str) -> Endpoint:
    """The first transport socket match that the endpoint's metadata satisfies, else the cluster's own socket."""
    name, socket = "", at(cluster, "transport_socket")
    for candidate in items(cluster, "transport_socket_matches"):
        if _has(at(host.metadata, SOCKET_MATCH), at(candidate, "match")):
            name, socket = text(candidate, "name"), at(candidate, "transport_socket")
            break
    tls, sni, alpn = _tls(socket, host, authority, cluster)
    where = _address(host)
    return Endpoint(where, probability, host.priority, host.locality, name, tls, sni, alpn)


def _only(cluster: Message, address: str, authority: str) -> tuple[Endpoint, ...]:
    placeholder = Host({}, ("", "", ""), 0, 0)
    tls, sni, alpn = _tls(at(cluster, "transport_socket"), placeholder, authority, cluster)
    return (Endpoint(address, Fraction(1), tls=tls, sni=sni, alpn=alpn),)


def endpoints_of(
    name: str,
    resources: Resources,
    connection: Connection,
    trace: Trace,
    subset: Mapping[str, Any] | None = None,
    authority: str = "",
) -> tuple[Endpoint, ...] | None:
    """The endpoints that may be chosen; none if there is no healthy one, None if there is no such cluster.

    Args:
        subset: `metadata_match` of the route, for `envoy.lb`.
        authority: the host of the request, if it is one.
    """
    cluster = resources.clusters.get(name)
    if cluster is None:
        trace.note("cluster", f"CDS {name}", "", "there is no such cluster")
        return None
    resource, kind = f"CDS {name}", text(cluster, "type", "STATIC")
    if "cluster_type" in cluster:
        trace.note("cluster", resource, "cluster_type", "resolves the request's own host")
        return _only(cluster, authority or f"{connection.destination}:{connection.port}", authority)
    if kind == "ORIGINAL_DST" and not connection.captured_at:
        trace.note("cluster", resource, "type", "the connection was not captured: there is no original destination")
        return ()
    if kind == "ORIGINAL_DST":
        port = number(at(cluster, "original_dst_lb_config"), "upstream_port_override", connection.port)
        trace.note("cluster", resource, "type", "goes to the original destination")
        return _only(cluster, f"{connection.destination}:{port}", authority)
    assignment, source = at(cluster, "load_assignment"), f"{resource} load_assignment"
    if kind == "EDS":
        service = text(at(cluster, "eds_cluster_config"), "service_name") or name
        assignment, source = resources.endpoints.get(service, {}), f"EDS {service}"
    hosts = hosts_of(assignment)
    usable = _in_subset(cluster, hosts, subset or {})
    shares = endpoint_shares(usable, Policy.of(cluster, assignment))
    trace.note("cluster", resource, "type", f"{kind}: {len(shares)} of {len(hosts)} endpoints may be chosen")
    found = tuple(_endpoint(cluster, host, share, authority) for host, share in shares)
    for endpoint in found:
        trace.note("endpoint", source, "endpoints", f"{endpoint.address} with probability {endpoint.probability}")
    return found
