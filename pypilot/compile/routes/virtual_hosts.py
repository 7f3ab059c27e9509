"""Virtual hosts as serialised frames, each remembered on its own, and the configuration that joins them.

`RouteConfiguration.virtual_hosts` and `VirtualHost.routes` are repeated fields, which concatenate on the wire: one
changed VirtualService recompiles its own hosts and no others. Who may use which domain is settled before a part is
keyed, so that parts do not depend on their neighbours.
"""

from collections.abc import Iterable
from typing import NamedTuple

from envoy.config.route.v3 import route_components_pb2 as routes
from envoy.config.route.v3 import route_pb2
from google.protobuf import wrappers_pb2

from pypilot.compile.destination_rules import Selection, traffic_policy
from pypilot.compile.features.direct_response import MAX_BODY_BYTES
from pypilot.compile.features.hash_policy import consistent_hash
from pypilot.compile.naming import outbound_cluster
from pypilot.compile.outbound_policy import OutboundPolicy
from pypilot.compile.routes.default_routes import catch_all_host, outbound_route
from pypilot.compile.routes.virtual_service_routes import ROUTES_TAG, RoutesKey, compile_routes_of
from pypilot.wire import types
from pypilot.wire.resource import Resource, length_delimited
from pypilot.world.reader import Reader

VIRTUAL_HOSTS_TAG = 0x12
"""`RouteConfiguration.virtual_hosts`, field 2."""


class ServicePart(NamedTuple):
    """The routes of a service that no VirtualService speaks for."""

    hostname: str
    port: int
    hashed_by: Selection = ()


class HostKey(NamedTuple):
    """One virtual host: the key of a compile call."""

    name: str
    domains: tuple[str, ...]
    parts: tuple[RoutesKey | ServicePart, ...]
    attempt_count: bool = True
    """Upstreams see `x-envoy-attempt-count` (RDS-010, PC-013)."""
    require_tls: bool = False
    """Plain requests are sent to https (GW-019)."""


def _service_routes(reader: Reader, part: ServicePart) -> bytes:
    hashed = consistent_hash(traffic_policy(reader, part.hashed_by), None, part.port) if part.hashed_by else None
    route = outbound_route(
        outbound_cluster(part.port, "", part.hostname),
        f"{part.hostname}:{part.port}/*",
        reader.mesh().default_http_retry_policy,
        hashed,
    )
    return length_delimited(ROUTES_TAG, route.SerializeToString(deterministic=True))


def _routes(reader: Reader, parts: tuple[RoutesKey | ServicePart, ...]) -> bytes:
    """Routes in order. Where several VirtualServices share a host, what takes everything goes last (VS-010, GW-016)."""
    first: list[bytes] = []
    last: list[bytes] = []
    for part in parts:
        if isinstance(part, ServicePart):
            first.append(_service_routes(reader, part))
            continue
        for route in reader.call(compile_routes_of, part):
            (last if route.catch_all else first).append(route.frame)
    return b"".join((*first, *last))


def compile_host(reader: Reader, key: HostKey) -> bytes:
    """The frame of a virtual host in its RouteConfiguration."""
    head = routes.VirtualHost(
        name=key.name,
        domains=key.domains,
        include_request_attempt_count=key.attempt_count,
        require_tls=routes.VirtualHost.ALL if key.require_tls else routes.VirtualHost.NONE,
    )
    return length_delimited(VIRTUAL_HOSTS_TAG, head.SerializeToString(deterministic=True) + _routes(reader, key.parts))


def compile_catch_all(_reader: Reader, policy: OutboundPolicy, attempt_count: bool, forwarded_host: bool) -> bytes:
    """The frame of the virtual host for hosts that nobody knows (RDS-011…013, MESH-003)."""
    host = catch_all_host(policy, attempt_count, forwarded_host)
    return length_delimited(VIRTUAL_HOSTS_TAG, host.SerializeToString(deterministic=True))


def route_configuration(name: str, frames: Iterable[bytes], ignore_port: bool = True) -> Resource:
    """The configuration of a name from the frames of its virtual hosts (RDS-002).

    `ignore_port`: a port in the Host header does not count.
    """
    head = route_pb2.RouteConfiguration(
        name=name,
        validate_clusters=wrappers_pb2.BoolValue(value=False),
        max_direct_response_body_size_bytes=wrappers_pb2.UInt32Value(value=MAX_BODY_BYTES),
        ignore_port_in_host_matching=ignore_port,
    )
    return Resource.of(name, types.ROUTE, head.SerializeToString(deterministic=True) + b"".join(frames))
