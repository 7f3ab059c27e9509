"""The RouteConfigurations of sidecars: one a HTTP port, and one a service whose protocol is detected (RDS-001…016)."""

from collections.abc import Mapping
from types import MappingProxyType

from pypilot.compile.outbound_policy import outbound_policy
from pypilot.compile.proxy_settings import RouteHeaders
from pypilot.compile.routes.assign import virtual_hosts_on_port
from pypilot.compile.routes.domains import proxied_domains
from pypilot.compile.routes.names import RouteName, all_names
from pypilot.compile.routes.seen import SniffedName, route_names
from pypilot.compile.routes.virtual_hosts import HostKey, compile_catch_all, compile_host, route_configuration
from pypilot.compile.view import ProxyView
from pypilot.wire.resource import Chunk, Resource, ResourceSet
from pypilot.world.reader import Reader


def _unknown(reader: Reader, view: ProxyView, headers: RouteHeaders) -> bytes:
    """The virtual host for hosts that nobody knows."""
    policy = outbound_policy(reader, view)
    return reader.call(compile_catch_all, policy, headers.attempt_count, headers.forwarded_host)


def compile_port(reader: Reader, view: ProxyView, port: int, headers: RouteHeaders) -> Resource:
    """The configuration `PORT`: all services of the port, then the host for unknown ones."""
    frames = [reader.call(compile_host, key) for key in virtual_hosts_on_port(reader, view, port, headers)]
    frames.append(_unknown(reader, view, headers))
    return route_configuration(str(port), frames)


def _by_domain(reader: Reader, view: ProxyView, port: int, headers: RouteHeaders) -> Mapping[str, HostKey]:
    hosts = virtual_hosts_on_port(reader, view, port, headers)
    return MappingProxyType({domain: key for key in hosts for domain in key.domains})


def compile_sniffed(reader: Reader, view: ProxyView, hostname: str, port: int, headers: RouteHeaders) -> Resource:
    """The configuration `HOST:PORT`: the service's own host alone, for whatever Host header (RDS-014)."""
    key = reader.call(_by_domain, view, port, headers).get(hostname.lower())
    frames = [reader.call(compile_host, key._replace(domains=("*",)))] if key is not None else []
    return route_configuration(f"{hostname}:{port}", frames)


def compile_http_proxy(reader: Reader, view: ProxyView, name: str, headers: RouteHeaders) -> Resource:
    """The configuration of an explicit proxy, or of a Unix socket: the services of all ports (RDS-017, SC-011).

    Unlike elsewhere the port in the Host header counts, for it tells the ports of a service apart.
    """
    keys = [
        key._replace(domains=proxied_domains(key.domains, port))
        for port in route_names(reader, view).http
        for key in virtual_hosts_on_port(reader, view, port, headers)
    ]
    frames = [reader.call(compile_host, key) for key in sorted(keys, key=lambda key: key.name)]
    frames.append(_unknown(reader, view, headers))
    return route_configuration(name, frames, ignore_port=False)


def _compile(reader: Reader, name: RouteName, headers: RouteHeaders) -> Resource:
    if name.service is not None:
        return reader.call(compile_sniffed, name.view, name.service.hostname, name.port, headers)
    if name.port:
        return reader.call(compile_port, name.view, name.port, headers)
    return reader.call(compile_http_proxy, name.view, name.name, headers)


def compile_sidecar(
    reader: Reader, view: ProxyView, headers: RouteHeaders, bound: bool, own: tuple[SniffedName, ...] = ()
) -> ResourceSet:
    """All configurations that the listeners of a view's sidecars may name; not those of `own`."""
    names = all_names(reader, view, bound)
    ports = Chunk(_compile(reader, name, headers) for name in names if name.service is None)
    sniffed = Chunk(
        _compile(reader, name, headers) for name in names if name.service is not None and name.service not in own
    )
    return ResourceSet((ports, sniffed))
