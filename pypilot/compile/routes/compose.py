"""Everything of type RouteConfiguration that one proxy may ask for."""

from pypilot.compile.gateways.merge import merged_servers
from pypilot.compile.proxy_settings import route_headers
from pypilot.compile.routes.gateway import compile_gateway, gateway_view
from pypilot.compile.routes.names import all_names
from pypilot.compile.routes.seen import routing_view
from pypilot.compile.routes.sidecar import compile_sidecar
from pypilot.compile.view import view_of
from pypilot.wire.node import Proxy
from pypilot.wire.resource import EMPTY, ResourceSet
from pypilot.world.reader import Reader


def compile_routes(reader: Reader, proxy: Proxy) -> ResourceSet:
    """Every RouteConfiguration that the proxy's listeners may name."""
    view = routing_view(reader.call(view_of, proxy))
    headers = reader.call(route_headers, proxy.proxy_config)
    if view.is_sidecar:
        # The only pod of a headless service has no listener to itself, so nothing names its routes.
        bound = proxy.interception_mode == "NONE"
        sniffed = (name.service for name in all_names(reader, view, bound))
        own = tuple(service for service in sniffed if service is not None and service.pods == (proxy.ip,))
        return reader.call(compile_sidecar, view, headers, bound, own)
    if view.is_router:
        merged = merged_servers(reader, proxy)
        served = gateway_view(reader, view, proxy, (server for _, servers in merged.routes for server in servers))
        return reader.call(compile_gateway, served, merged.routes, headers)
    return EMPTY
