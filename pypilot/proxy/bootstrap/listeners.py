"""Static listeners: readiness and metrics, which everybody may ask whatever the mesh demands (LIS-034, LIS-035)."""

from collections.abc import Iterator
from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import HttpProtocolOptions, TypedExtensionConfig
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost
from envoy_data_plane.envoy.extensions.compression.brotli.compressor.v3 import Brotli
from envoy_data_plane.envoy.extensions.compression.gzip.compressor.v3 import Gzip
from envoy_data_plane.envoy.extensions.compression.zstd.compressor.v3 import Zstd
from envoy_data_plane.envoy.extensions.filters.http.compressor.v3 import (
    Compressor,
    CompressorCommonDirectionConfig,
    CompressorResponseDirectionConfig,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
)

from pypilot.proxy.bootstrap.clusters import ADMIN_CLUSTER, AGENT_CLUSTER, loopback
from pypilot.proxy.bootstrap.common import address, packed
from pypilot.proxy.settings import AgentSettings

_METRICS = ("text/plain", "application/vnd.google.protobuf", "application/openmetrics-text")


def _compressor(name: str, library: object) -> HttpFilter:
    common = CompressorCommonDirectionConfig(content_type=list(_METRICS))
    made = Compressor(
        compressor_library=TypedExtensionConfig(name=name, typed_config=packed(library)),
        response_direction_config=CompressorResponseDirectionConfig(common_config=common),
    )
    return HttpFilter(name=f"envoy.filters.http.compressor.{name}", typed_config=packed(made))


def _passed_on(host: str, port: int, prefix: str, cluster: str, filters: list[HttpFilter]) -> Listener:
    """A port whose requests go to a local cluster."""
    route = Route(match=RouteMatch(prefix=prefix), route=RouteAction(cluster=cluster))
    routes = RouteConfiguration(virtual_hosts=[VirtualHost(name="backend", domains=["*"], routes=[route])])
    router = HttpFilter(name="envoy.filters.http.router", typed_config=packed(Router()))
    manager = HttpConnectionManager(
        stat_prefix=cluster,
        route_config=routes,
        http_filters=[*filters, router],
        common_http_protocol_options=HttpProtocolOptions(idle_timeout=timedelta(hours=1)),
    )
    chain = FilterChain(
        filters=[Filter(name="envoy.filters.network.http_connection_manager", typed_config=packed(manager))]
    )
    return Listener(
        name=f"{host}_{port}",
        address=address(host, port),
        filter_chains=[chain],
        ignore_global_conn_limit=True,
        bypass_overload_manager=True,
    )


def listeners(settings: AgentSettings) -> Iterator[Listener]:
    """Both of them."""
    everywhere = "::" if settings.is_ipv6 else "0.0.0.0"  # noqa: S104
    yield _passed_on(everywhere, settings.status_port, "/healthz/ready", AGENT_CLUSTER, [])
    compressed = [_compressor("brotli", Brotli()), _compressor("zstd", Zstd()), _compressor("gzip", Gzip())]
    yield _passed_on(
        everywhere if settings.metrics_for_all else loopback(settings),
        settings.prometheus_port,
        "/stats/prometheus",
        ADMIN_CLUSTER,
        compressed if settings.config.stats_compression else [],
    )
