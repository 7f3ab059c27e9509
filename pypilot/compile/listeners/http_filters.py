"""The HTTP filters of a connection manager, in the order of the tuples (FILT-001, FILT-003, FILT-011).

A feature that needs a filter everywhere has one entry; None leaves it out. Filters that only Istio's build has are for
that build alone.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, TypeAlias

from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.grpc_stats.v3 import config_pb2 as grpc_stats_pb2
from envoy.extensions.filters.http.grpc_web.v3 import grpc_web_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from google.protobuf import message_factory
from google.protobuf.message import Message

from pypilot.compile.listeners.dynamic_dns import any_host_filter, wildcard_host_filter
from pypilot.compile.listeners.manager_spec import ManagerSpec
from pypilot.compile.messages import pack, pack_struct
from pypilot.compile.policies.filters import http_policy_filters
from pypilot.wire.istio_messages import find_istio_message
from pypilot.world.reader import Reader

_Builder: TypeAlias = Callable[[ManagerSpec], hcm_pb2.HttpFilter | None]

_PEER_METADATA = "type.googleapis.com/io.istio.http.peer_metadata.Config"
_ALPN = "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig"
_ALPN_OVERRIDES = (
    ("HTTP10", ("istio-http/1.0", "istio", "http/1.0")),
    ("HTTP11", ("istio-http/1.1", "istio", "http/1.1")),
    ("HTTP2", ("istio-h2", "istio", "h2")),
)
"""What the upstream TLS handshake offers, by the protocol of the request."""


def _filter(name: str, config: Message) -> hcm_pb2.HttpFilter:
    return hcm_pb2.HttpFilter(name=name, typed_config=pack(config))


@cache
def _peer_metadata(inbound: bool, in_mesh_only: bool) -> hcm_pb2.HttpFilter:
    """Istio's own: learns who the other side is, and tells it (FILT-004, PC-015)."""
    headers: dict[str, Any] = {"skip_external_clusters": True} if in_mesh_only and not inbound else {}
    side = "downstream" if inbound else "upstream"
    value = {
        f"{side}_discovery": [{"istio_headers": {}}, {"workload_discovery": {}}],
        f"{side}_propagation": [{"istio_headers": headers}],
    }
    return hcm_pb2.HttpFilter(name="istio.metadata_exchange", typed_config=pack_struct(_PEER_METADATA, value))


def _exchange(spec: ManagerSpec) -> hcm_pb2.HttpFilter | None:
    if not spec.traits.tcp.istio_build or not spec.exchanges_metadata:
        return None
    return _peer_metadata(spec.side == "inbound", spec.traits.settings.headers.exchange_in_mesh_only)


def _grpc_web(spec: ManagerSpec) -> hcm_pb2.HttpFilter | None:
    return _filter("envoy.filters.http.grpc_web", grpc_web_pb2.GrpcWeb()) if spec.grpc_web else None


@cache
def _grpc_stats_filter() -> hcm_pb2.HttpFilter:
    config = grpc_stats_pb2.FilterConfig(emit_filter_state=True)
    config.stats_for_all_methods.value = False
    return _filter("envoy.filters.http.grpc_stats", config)


def _grpc_stats(_: ManagerSpec) -> hcm_pb2.HttpFilter:
    return _grpc_stats_filter()


@cache
def _alpn_filter() -> hcm_pb2.HttpFilter:
    descriptor = find_istio_message(_ALPN)
    assert descriptor is not None
    config = message_factory.GetMessageClass(descriptor)()
    for protocol, offered in _ALPN_OVERRIDES:
        config.alpn_override.add(upstream_protocol=protocol, alpn_override=offered)  # type: ignore[attr-defined]
    return _filter("istio.alpn", config)


def _alpn(spec: ManagerSpec) -> hcm_pb2.HttpFilter | None:
    return _alpn_filter() if spec.traits.tcp.istio_build and spec.side != "inbound" else None


@cache
def _fault_filter() -> hcm_pb2.HttpFilter:
    return _filter("envoy.filters.http.fault", fault_pb2.HTTPFault())


def _fault(_: ManagerSpec) -> hcm_pb2.HttpFilter:
    """Does nothing by itself: routes configure it."""
    return _fault_filter()


@cache
def _cors_filter() -> hcm_pb2.HttpFilter:
    return _filter("envoy.filters.http.cors", cors_pb2.Cors())


def _cors(_: ManagerSpec) -> hcm_pb2.HttpFilter:
    """Does nothing by itself: routes configure it."""
    return _cors_filter()


def _dynamic_host(spec: ManagerSpec) -> hcm_pb2.HttpFilter | None:
    """Resolves the request's own host, for wildcard hosts of DYNAMIC_DNS (SE-019)."""
    return wildcard_host_filter(spec.dynamic_host, spec.traits.tcp) if spec.dynamic_host else None


def _any_host(spec: ManagerSpec) -> hcm_pb2.HttpFilter | None:
    return any_host_filter(spec.traits.tcp) if spec.resolves_any_host else None


def _router(spec: ManagerSpec) -> hcm_pb2.HttpFilter:
    quiet = not spec.traits.settings.headers.debug_headers
    return _filter("envoy.filters.http.router", router_pb2.Router(suppress_envoy_headers=quiet))


_BEFORE_POLICIES = (_exchange,)
_AFTER_POLICIES = (
    _grpc_web,
    _grpc_stats,
    _alpn,
    _fault,
    _cors,
    _dynamic_host,
    _any_host,
    _router,
)


def _made(builders: Iterable[_Builder], spec: ManagerSpec) -> Iterator[hcm_pb2.HttpFilter]:
    return (http_filter for build in builders if (http_filter := build(spec)) is not None)


def http_filters(reader: Reader, spec: ManagerSpec) -> list[hcm_pb2.HttpFilter]:
    """All HTTP filters of a connection manager, the router last."""
    policies = http_policy_filters(reader, spec.policies)
    return [*_made(_BEFORE_POLICIES, spec), *policies, *_made(_AFTER_POLICIES, spec)]
