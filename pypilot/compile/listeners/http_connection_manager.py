"""`HttpConnectionManager` of sidecars and gateways (FILT-008, FILT-009, GW-052…054, LIS-025, MESH-046)."""

from functools import cache
from ipaddress import ip_interface
from typing import TypeAlias

from envoy.config.listener.v3 import listener_components_pb2 as components
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.request_id.uuid.v3 import uuid_pb2
from google.protobuf import wrappers_pb2

from pypilot.compile.connection_settings import apply_connection_settings, at_the_edge
from pypilot.compile.listeners.access_log import access_logs
from pypilot.compile.listeners.http_filters import http_filters
from pypilot.compile.listeners.manager_spec import ManagerSpec
from pypilot.compile.listeners.network_filters import network_filter
from pypilot.compile.listeners.tracing import tracing
from pypilot.compile.messages import ads_config_source, duration, pack, preserve_case
from pypilot.kinds.base import Duration
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.kinds.mesh_networks import MeshNetworks
from pypilot.world.reader import Reader

Manager: TypeAlias = hcm_pb2.HttpConnectionManager
SERVER_NAME = "istio-envoy"
_GATEWAY_CERT_PARTS = ("subject", "cert", "dns", "uri")


@cache
def _request_id() -> hcm_pb2.RequestIDExtension:
    config = uuid_pb2.UuidRequestIdConfig()
    config.use_request_id_for_trace_sampling.value = True
    return hcm_pb2.RequestIDExtension(typed_config=pack(config))


def _apply_normalization(manager: Manager, mesh: MeshConfig) -> None:
    """MESH-033."""
    mode = mesh.path_normalization.normalization
    manager.normalize_path.value = mode != "NONE"
    manager.merge_slashes = mode in ("MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")
    manager.path_with_escaped_slashes_action = (
        Manager.UNESCAPE_AND_FORWARD if mode == "DECODE_AND_MERGE_SLASHES" else Manager.KEEP_UNCHANGED
    )


def _apply_protocols(manager: Manager, spec: ManagerSpec) -> None:
    options = manager.http_protocol_options
    if spec.side == "gateway":
        options.SetInParent()
    if spec.traits.http10:
        options.accept_http_10 = True
    if spec.absolute_urls:
        options.allow_absolute_url.value = True
    if spec.traits.settings.headers.preserve_case:
        options.header_key_format.CopyFrom(preserve_case())
    if spec.http2:
        manager.http2_protocol_options.SetInParent()
    if spec.traits.tcp.idle is not None:
        manager.common_http_protocol_options.idle_timeout.CopyFrom(duration(spec.traits.tcp.idle))
    manager.stream_idle_timeout.CopyFrom(duration(Duration(0)))


def apply_headers(manager: Manager, spec: ManagerSpec) -> None:
    """Headers that the connection manager itself sets (PC-008…017)."""
    headers, topology = spec.traits.settings.headers, spec.traits.settings.topology
    default_server = "" if spec.side == "outbound" or headers.keep_server else SERVER_NAME
    manager.server_name = headers.server or default_server
    if headers.keep_server:
        manager.server_header_transformation = Manager.PASS_THROUGH
    if not headers.request_id:
        manager.generate_request_id.value = False
    manager.append_x_forwarded_port = headers.forwarded_port
    manager.use_remote_address.CopyFrom(wrappers_pb2.BoolValue(value=spec.side == "gateway"))
    if spec.side == "gateway":
        manager.xff_num_trusted_hops = topology.trusted_proxies
        _apply_client_cert(manager, topology.forward_client_cert, _GATEWAY_CERT_PARTS)
    elif spec.side == "inbound":
        _apply_client_cert(manager, headers.forward_client_cert, headers.client_cert_parts, always=True)


def _apply_client_cert(manager: Manager, mode: str, parts: tuple[str, ...], always: bool = False) -> None:
    """`x-forwarded-client-cert` (PC-009, PC-011)."""
    manager.forward_client_cert_details = Manager.ForwardClientCertDetails.Value(mode)
    if not always and mode not in ("APPEND_FORWARD", "SANITIZE_SET"):
        return
    details = manager.set_current_client_cert_details
    details.subject.value = "subject" in parts
    for part in ("cert", "chain", "dns", "uri"):
        setattr(details, part, part in parts)


def _apply_internal_addresses(manager: Manager, networks: MeshNetworks) -> None:
    """The mesh's own ranges: clients from there may set Envoy's internal headers (MESH-046)."""
    ranges = [e.from_cidr for network in networks.networks.values() for e in network.endpoints if e.from_cidr]
    for interface in sorted(map(ip_interface, ranges), key=lambda i: (i.version, int(i.ip), i.network.prefixlen)):
        made = manager.internal_address_config.cidr_ranges.add(address_prefix=str(interface.ip))
        made.prefix_len.value = interface.network.prefixlen


def build_manager(reader: Reader, spec: ManagerSpec) -> Manager:
    """The connection manager."""
    manager = Manager(stat_prefix=spec.stat_prefix, proxy_100_continue=True)
    if isinstance(spec.routes, str):
        manager.rds.config_source.CopyFrom(ads_config_source())
        manager.rds.route_config_name = spec.routes
    else:
        manager.route_config.CopyFrom(spec.routes)
    _apply_normalization(manager, reader.mesh())
    _apply_protocols(manager, spec)
    connection = spec.traits.settings.connection
    apply_connection_settings(manager, at_the_edge(connection) if spec.side == "gateway" else connection)
    apply_headers(manager, spec)
    if manager.use_remote_address.value:
        _apply_internal_addresses(manager, reader.mesh_networks())
    manager.upgrade_configs.add(upgrade_type="websocket")
    manager.request_id_extension.CopyFrom(_request_id())
    manager.access_log.extend(access_logs(reader))
    traced = reader.call(tracing, spec.traits.settings.tracing, spec.traits.identity)
    if traced is not None:
        manager.tracing.CopyFrom(traced)
    manager.http_filters.extend(http_filters(reader, spec))
    return manager


def manager_filter(reader: Reader, spec: ManagerSpec) -> components.Filter:
    """The connection manager as the network filter that ends a chain."""
    return network_filter("envoy.filters.network.http_connection_manager", build_manager(reader, spec))
