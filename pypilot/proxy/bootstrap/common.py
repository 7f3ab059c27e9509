"""Small messages that all parts of a bootstrap are made of."""

from datetime import timedelta
from typing import Any

from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    ApiConfigSource,
    ApiConfigSourceApiType,
    ApiVersion,
    ConfigSource,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    Http2ProtocolOptions,
    KeepaliveSettings,
    SocketAddress,
    TransportSocket,
)
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    CommonTlsContextCombinedCertificateValidationContext,
    SdsSecretConfig,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions as UpstreamHttpOptions
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptionsExplicitHttpConfig
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any as AnyMessage

SDS_CLUSTER = "sds-grpc"
"""The name by which the control plane's resources mean the agent (LIS-036)."""
CERTIFICATE = "default"
ROOTS = "ROOTCA"


def packed(message: Any) -> AnyMessage:
    """The message with its type."""
    return AnyMessage.pack(message)


def address(host: str, port: int) -> Address:
    """An address of TCP."""
    return Address(socket_address=SocketAddress(address=host, port_value=port))


def endpoint(cluster: str, where: Address) -> ClusterLoadAssignment:
    """The one endpoint of a cluster."""
    host = LbEndpoint(endpoint=Endpoint(address=where))
    return ClusterLoadAssignment(cluster_name=cluster, endpoints=[LocalityLbEndpoints(lb_endpoints=[host])])


def http2() -> dict[str, AnyMessage]:
    """That a cluster speaks HTTP/2, and asks whether the other side is there."""
    explicit = HttpProtocolOptionsExplicitHttpConfig(
        http2_protocol_options=Http2ProtocolOptions(
            connection_keepalive=KeepaliveSettings(interval=timedelta(seconds=30), timeout=timedelta(seconds=10))
        )
    )
    options = UpstreamHttpOptions(explicit_http_config=explicit)
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": packed(options)}


def _sds(name: str) -> SdsSecretConfig:
    source = ApiConfigSource(
        api_type=ApiConfigSourceApiType.GRPC,
        transport_api_version=ApiVersion.V3,
        grpc_services=[GrpcService(envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=SDS_CLUSTER))],
        set_node_on_first_message_only=True,
    )
    config = ConfigSource(
        api_config_source=source, resource_api_version=ApiVersion.V3, initial_fetch_timeout=timedelta(0)
    )
    return SdsSecretConfig(name=name, sds_config=config)


def mutual_tls(server_name: str) -> TransportSocket:
    """With our certificate, to one who has that name under the mesh's roots."""
    names = SubjectAltNameMatcher(san_type=SubjectAltNameMatcherSanType.DNS, matcher=StringMatcher(exact=server_name))
    validation = CommonTlsContextCombinedCertificateValidationContext(
        default_validation_context=CertificateValidationContext(match_typed_subject_alt_names=[names]),
        validation_context_sds_secret_config=_sds(ROOTS),
    )
    common = CommonTlsContext(
        alpn_protocols=["h2"],
        tls_certificate_sds_secret_configs=[_sds(CERTIFICATE)],
        combined_validation_context=validation,
    )
    context = UpstreamTlsContext(common_tls_context=common, sni=server_name)
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))
