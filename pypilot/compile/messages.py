"""Small Envoy messages that many resources hold: config sources, Any packing, metadata. Knows no Istio resource."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from envoy.config.core.v3 import (
    address_pb2,
    base_pb2,
    config_source_pb2,
    extension_pb2,
    grpc_service_pb2,
    protocol_pb2,
)
from envoy.extensions.http.header_formatters.preserve_case.v3 import preserve_case_pb2
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from udpa.type.v1 import typed_struct_pb2

from pypilot.kinds.base import Duration
from pypilot.kinds.sidecar import UNIX
from pypilot.wire.types import PREFIX

SDS_CLUSTER = "sds-grpc"
"""Static bootstrap cluster of the agent's SDS socket (LIS-036)."""


def pack(message: Message) -> any_pb2.Any:
    """The message in an Any, serialised deterministically."""
    return any_pb2.Any(
        type_url=PREFIX + message.DESCRIPTOR.full_name, value=message.SerializeToString(deterministic=True)
    )


def pack_struct(type_url: str, value: Mapping[str, Any]) -> any_pb2.Any:
    """An Any of a `TypedStruct`: for messages whose descriptors only the proxy has."""
    struct = typed_struct_pb2.TypedStruct(type_url=type_url)
    struct.value.update(value)
    return pack(struct)


def duration(value: Duration) -> duration_pb2.Duration:
    """Nanoseconds to the protobuf form; both parts carry the sign."""
    seconds, nanos = divmod(abs(value.nanos), 1_000_000_000)
    sign = -1 if value.nanos < 0 else 1
    return duration_pb2.Duration(seconds=sign * seconds, nanos=sign * nanos)


@cache
def ads_config_source() -> config_source_pb2.ConfigSource:
    """Over the aggregated stream, waiting for ever (DR-013). Callers must not change it."""
    return config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(),
        initial_fetch_timeout=duration_pb2.Duration(),
        resource_api_version=config_source_pb2.ApiVersion.V3,
    )


@cache
def sds_config_source() -> config_source_pb2.ConfigSource:
    """The agent's SDS server (SDS-002). Callers must not change it."""
    return config_source_pb2.ConfigSource(
        api_config_source=config_source_pb2.ApiConfigSource(
            api_type=config_source_pb2.ApiConfigSource.GRPC,
            transport_api_version=config_source_pb2.ApiVersion.V3,
            set_node_on_first_message_only=True,
            grpc_services=[
                grpc_service_pb2.GrpcService(
                    envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=SDS_CLUSTER)
                )
            ],
        ),
        initial_fetch_timeout=duration_pb2.Duration(),
        resource_api_version=config_source_pb2.ApiVersion.V3,
    )


def mesh_secret_source(over_ads: bool) -> config_source_pb2.ConfigSource:
    """Where `default` and `ROOTCA` come from: they are worth waiting for without end. Callers must not change it."""
    return ads_config_source() if over_ads else sds_config_source()


@cache
def preserve_case() -> protocol_pb2.Http1ProtocolOptions.HeaderKeyFormat:
    """Header names of HTTP/1 go on as they were written (PC-016). Callers must not change it."""
    formatter = extension_pb2.TypedExtensionConfig(
        name="preserve_case", typed_config=pack(preserve_case_pb2.PreserveCaseFormatterConfig())
    )
    return protocol_pb2.Http1ProtocolOptions.HeaderKeyFormat(stateful_formatter=formatter)


def socket_address(address: str, port: int) -> address_pb2.Address:
    """A TCP address."""
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address=address, port_value=port))


def listening_address(bind: str, port: int) -> address_pb2.Address:
    """A TCP address, or a Unix socket `unix:///path` (SC-008)."""
    if bind.startswith(UNIX):
        return address_pb2.Address(pipe=address_pb2.Pipe(path=bind.removeprefix(UNIX)))
    return socket_address(bind, port)


def istio_metadata(values: Mapping[str, Any]) -> base_pb2.Metadata:
    """`filter_metadata.istio` with these values (DOC-001, DOC-002)."""
    metadata = base_pb2.Metadata()
    metadata.filter_metadata["istio"].update(values)
    return metadata
