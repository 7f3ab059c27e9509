"""Compiled listeners as messages, and the parts of them that tests ask for."""

from collections.abc import Iterable, Iterator

from envoy.config.listener.v3 import listener_components_pb2 as components
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from google.protobuf import any_pb2

from pypilot.compile.listeners import compile_listeners
from pypilot.kinds.base import Object
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.kinds.mesh_config_parse import parse_mesh_config
from pypilot.wire.node import Proxy
from pypilot.wire.resource import Resource
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.reader import Reader
from pypilot.world.world import World

MANAGER = "envoy.filters.network.http_connection_manager"
TCP_PROXY = "envoy.filters.network.tcp_proxy"
Manager = hcm_pb2.HttpConnectionManager


def decode(resource: Resource) -> listener_pb2.Listener:
    message = listener_pb2.Listener()
    assert any_pb2.Any.FromString(resource.any_bytes).Unpack(message)
    return message


def mesh_config(text: str) -> MeshConfig | None:
    mesh, _ = parse_mesh_config(text)
    return mesh


def world_of(objects: Iterable[Object] = (), mesh: str = "") -> World:
    return advance(World(), Delta(upserts=tuple(objects), mesh=mesh_config(mesh) if mesh else None))


def listeners_of(proxy: Proxy, objects: Iterable[Object] = (), mesh: str = "") -> dict[str, listener_pb2.Listener]:
    """Name -> listener."""
    compiled = compile_listeners(Reader(world_of(objects, mesh)), proxy)
    return {resource.name: decode(resource) for resource in compiled}


def chains(listener: listener_pb2.Listener) -> list[components.FilterChain]:
    default = [listener.default_filter_chain] if listener.HasField("default_filter_chain") else []
    return [*listener.filter_chains, *default]


def managers(listener: listener_pb2.Listener) -> Iterator[Manager]:
    for chain in chains(listener):
        for network_filter in chain.filters:
            if network_filter.name == MANAGER:
                message = Manager()
                network_filter.typed_config.Unpack(message)
                yield message


def tcp_proxies(listener: listener_pb2.Listener) -> Iterator[tcp_proxy_pb2.TcpProxy]:
    for chain in chains(listener):
        for network_filter in chain.filters:
            if network_filter.name == TCP_PROXY:
                message = tcp_proxy_pb2.TcpProxy()
                network_filter.typed_config.Unpack(message)
                yield message
