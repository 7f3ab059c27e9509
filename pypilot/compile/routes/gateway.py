"""The RouteConfigurations of gateway proxies (GW-012…019, RDS-019): one per plain HTTP port, one per HTTPS server.

Servers that share a route name share virtual hosts: a host gets the routes of every VirtualService that binds to it
there, in order. Which servers there are, and under which names, `compile.gateways` decides.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from pypilot.compile.destination_rules import Selection
from pypilot.compile.gateways.merge import MergedServer, server_of
from pypilot.compile.proxy_settings import RouteHeaders
from pypilot.compile.routes.assign import bound_to, has_routes
from pypilot.compile.routes.domains import authority, host_port
from pypilot.compile.routes.hosts import for_namespace, intersection, specificity
from pypilot.compile.routes.match import Source
from pypilot.compile.routes.seen import hashed_services
from pypilot.compile.routes.virtual_hosts import HostKey, compile_host, route_configuration
from pypilot.compile.routes.virtual_service_routes import RoutesKey, label_keys, routes_key
from pypilot.compile.routes.virtual_services import virtual_services_for
from pypilot.compile.services import service_for
from pypilot.compile.view import ProxyView
from pypilot.kinds.base import Ref
from pypilot.wire.node import Labels, Proxy
from pypilot.wire.resource import Chunk, Resource, ResourceSet
from pypilot.world.model import MeshService, ServiceKey
from pypilot.world.reader import Reader

BLACK_HOLE = "blackhole"


@dataclass(slots=True)
class _Host:
    """A virtual host in the making."""

    port: int
    """Number of the server that came first: part of the name (GW-018)."""
    parts: list[RoutesKey] = field(default_factory=list)
    require_tls: bool = False


def _visible(reader: Reader, namespace: str) -> frozenset[ServiceKey]:
    return frozenset((*reader.public_services(), *reader.private_services(namespace)))


def _service_finder(reader: Reader, view: ProxyView, owner: str) -> Callable[[str], MeshService | None]:
    """What a VirtualService means by a host: its own namespace's service, if the gateway may see that one."""

    def service_of(host: str) -> MeshService | None:
        own = ServiceKey(host, owner)
        return reader.service(own) if own in visible else service_for(reader, view, host)

    visible = reader.call(_visible, view.namespace)
    return service_of


def _hash_finder(reader: Reader, view: ProxyView) -> Callable[[str], Selection | None]:
    return hashed_services(reader, view).get


def _gateway(server: MergedServer) -> str:
    return f"{server.gateway.namespace}/{server.gateway.name}"


class _Assignment:
    """The virtual hosts of one RouteConfiguration."""

    def __init__(self, reader: Reader, view: ProxyView, headers: RouteHeaders) -> None:
        self.reader = reader
        self.view = view
        self.headers = headers
        self.hosts: dict[str, _Host] = {}
        self._keys: dict[tuple[str, Ref], RoutesKey] = {}

    def add(self, server: MergedServer) -> None:
        """Bind VirtualServices to one server, and redirect its hosts if it says so."""
        for ref in virtual_services_for(self.reader, self.view.namespace, _gateway(server)):
            open_to = [host.lower() for host in for_namespace(server.hosts, ref.namespace)]
            shared = intersection(open_to, self.reader.call(bound_to, ref).hosts)
            if not shared:
                continue
            key = self._routes_key(server, ref)
            if not self.reader.call(has_routes, key):
                continue
            self._keys[_gateway(server), ref] = key
            for name in shared:
                host = self.hosts.setdefault(name, _Host(server.number))
                host.parts.append(key)
                host.require_tls = host.require_tls or server.https_redirect
        if server.https_redirect:
            # With its namespace, where it has one: such a host is redirected for bound VirtualServices alone.
            for name in server.hosts:
                self.hosts.setdefault(name.lower(), _Host(server.number)).require_tls = True

    def _routes_key(self, server: MergedServer, ref: Ref) -> RoutesKey:
        """A VirtualService has the same routes on all servers of a Gateway: those of the first on which it has any."""
        found = self._keys.get((_gateway(server), ref))
        if found is None:
            settings = server_of(self.reader, server)
            found = routes_key(
                self.reader,
                ref,
                Source(server.number, _gateway(server), self.view.namespace, self.view.labels),
                _service_finder(self.reader, self.view, ref.namespace),
                _hash_finder(self.reader, self.view),
                tls=settings is not None and settings.tls is not None,
                forwarded_host=self.headers.forwarded_host,
            )
        return found

    def result(self) -> tuple[HostKey, ...]:
        """Hosts with the same routes become one, named after the most specific of them (GW-017)."""
        made: dict[str, HostKey] = {}
        primary: dict[tuple[RoutesKey, ...], str] = {}
        for name in sorted(self.hosts, key=specificity):
            host = self.hosts[name]
            parts = tuple(host.parts)
            first = made.get(primary.get(parts, ""))
            if first is not None and first.require_tls == host.require_tls:
                made[primary[parts]] = first._replace(domains=(*first.domains, authority(name)))
                continue
            primary[parts] = name
            made[name] = HostKey(
                host_port(name, host.port), (authority(name),), parts, self.headers.attempt_count, host.require_tls
            )
        return tuple(sorted(made.values(), key=lambda key: key.name))


def compile_route_name(
    reader: Reader, view: ProxyView, name: str, servers: tuple[MergedServer, ...], headers: RouteHeaders
) -> Resource:
    """The configuration of one route name. Without any host it answers 404 to everything (GW-014)."""
    assignment = _Assignment(reader, view, headers)
    for server in servers:
        assignment.add(server)
    hosts = assignment.result() or (HostKey(host_port(BLACK_HOLE, servers[0].number), ("*",), (), attempt_count=False),)
    return route_configuration(name, (reader.call(compile_host, host) for host in hosts))


def compile_gateway(
    reader: Reader,
    view: ProxyView,
    names: tuple[tuple[str, tuple[MergedServer, ...]], ...],
    headers: RouteHeaders,
) -> ResourceSet:
    """All configurations that the listeners of a gateway proxy may name."""
    made = (reader.call(compile_route_name, view, name, servers, headers) for name, servers in names)
    return ResourceSet((Chunk(made),))


def _asked_labels(reader: Reader, namespace: str, gateways: tuple[str, ...]) -> frozenset[str]:
    services = (ref for gateway in gateways for ref in virtual_services_for(reader, namespace, gateway))
    return frozenset(key for ref in services for key in label_keys(reader, ref))


def gateway_view(reader: Reader, view: ProxyView, proxy: Proxy, servers: Iterable[MergedServer]) -> ProxyView:
    """The view with those labels of the proxy that some VirtualService of its Gateways matches, too (VS-028)."""
    gateways = tuple(dict.fromkeys(_gateway(server) for server in servers))
    asked = reader.call(_asked_labels, view.namespace, gateways)
    labels: Labels = tuple((k, v) for k, v in proxy.labels if k in asked or view.label(k) is not None)
    return replace(view, labels=labels)
