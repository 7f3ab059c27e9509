"""Credentials named `sds://…` that somebody else serves over SDS (SDS-011, NODE-029).

A socket beside the proxy comes before a service that MeshConfig names; without either the rest of the name is a Secret.
"""

from typing import NamedTuple

from envoy.config.core.v3 import config_source_pb2, grpc_service_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from pypilot.compile.credential_names import EXTERNAL
from pypilot.compile.naming import outbound_cluster
from pypilot.compile.providers import provider_hostname
from pypilot.world.reader import Reader

SOCKET_CLUSTER = "sds-external"
SOCKET = "./var/run/secrets/credential-uds/socket"


class ExternalServer(NamedTuple):
    """Who serves them. Without a cluster nobody can: the service is not known."""

    cluster: str
    authority: str = ""
    whole_names: bool = False
    """It is asked with the prefix."""


AT_SOCKET = ExternalServer(SOCKET_CLUSTER, whole_names=True)


def external_server(reader: Reader, at_socket: bool) -> ExternalServer | None:
    """Who serves names that begin with `sds://`; None: the control plane, from Secrets."""
    if at_socket:
        return AT_SOCKET
    provider = next((p.sds for p in reader.mesh().extension_providers if p.sds is not None), None)
    if provider is None:
        return None
    hostname = provider_hostname(reader, provider.service)
    return ExternalServer(outbound_cluster(provider.port, "", hostname) if hostname else "", hostname)


def external_secret(credential_name: str, server: ExternalServer) -> secret_pb2.SdsSecretConfig:
    """Where the proxy asks for such a credential."""
    name = credential_name if server.whole_names else credential_name.removeprefix(EXTERNAL)
    grpc = grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=server.cluster, authority=server.authority)
    source = config_source_pb2.ApiConfigSource(
        api_type=config_source_pb2.ApiConfigSource.GRPC,
        transport_api_version=config_source_pb2.ApiVersion.V3,
        set_node_on_first_message_only=True,
        grpc_services=[grpc_service_pb2.GrpcService(envoy_grpc=grpc)],
    )
    return secret_pb2.SdsSecretConfig(
        name=name,
        sds_config=config_source_pb2.ConfigSource(
            api_config_source=source, resource_api_version=config_source_pb2.ApiVersion.V3
        ),
    )
