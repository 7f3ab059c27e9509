"""Istio Gateway (networking.istio.io). `IstioGateway` here; the Gateway API's kind is another one."""

from typing import Annotated, ClassVar, Literal

from pypilot.kinds.base import Object, PortNumber, Spec, unsupported

TLSMode = Literal["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"]
TLSProtocol = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]
PROTOCOLS = frozenset(
    {"HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY", "HTTPS", "TLS", "TCP", "MONGO", "REDIS", "MYSQL", "HBONE"}
)
HTTP_PROTOCOLS = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY"})


class GatewayPort(Spec, frozen=True):
    """`servers[].port`."""

    number: PortNumber
    """Port to listen on, that of the gateway's Service."""
    protocol: str
    """HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, MONGO, TCP or TLS."""
    name: str = ""
    """Name of the port."""
    target_port: Annotated[int, unsupported("Istio ignores it, too: the gateway's Service says the target port")] = 0
    """Deprecated: port of the endpoint."""


class TLSCertificate(Spec, frozen=True):
    """`servers[].tls.tlsCertificates[]`."""

    server_certificate: str = ""
    """File with the certificate chain."""
    private_key: str = ""
    """File with the private key."""
    ca_certificates: Annotated[str, unsupported("caCertificates of the server's tls holds for all pairs")] = ""
    """File with the CAs of client certificates."""


class ServerTLSSettings(Spec, frozen=True):
    """`servers[].tls`."""

    https_redirect: bool = False
    """Answer plain HTTP with a redirect to HTTPS."""
    mode: TLSMode = "PASSTHROUGH"
    """How TLS is treated: terminated, passed through, with or without client certificates."""
    server_certificate: str = ""
    """File with the certificate chain."""
    private_key: str = ""
    """File with the private key."""
    ca_certificates: str = ""
    """File with the CAs of client certificates."""
    ca_crl: str = ""
    """File with revoked certificates."""
    credential_name: str = ""
    """Secret with certificate and key, in the gateway workload's namespace."""
    credential_names: tuple[str, ...] = ()
    """Several Secrets, as for RSA and ECDSA."""
    ca_cert_credential_name: str = ""
    """Secret or configmap://NAME with the CAs of client certificates."""
    tls_certificates: tuple[TLSCertificate, ...] = ()
    """Several pairs of files."""
    subject_alt_names: tuple[str, ...] = ()
    """Names that a client certificate may carry."""
    verify_certificate_spki: tuple[str, ...] = ()
    """Base64 SHA-256 hashes of the public keys of accepted client certificates."""
    verify_certificate_hash: tuple[str, ...] = ()
    """Hexadecimal SHA-256 hashes of accepted client certificates."""
    min_protocol_version: TLSProtocol = "TLS_AUTO"
    """Lowest TLS version; 1.2 if absent."""
    max_protocol_version: TLSProtocol = "TLS_AUTO"
    """Highest TLS version."""
    cipher_suites: tuple[str, ...] = ()
    """Allowed cipher suites, as Envoy names them."""
    ecdh_curves: tuple[str, ...] = ()
    """Allowed key exchange curves."""
    insecure_skip_verify: bool | None = None
    """Let clients in whose certificate cannot be verified."""


class Server(Spec, frozen=True):
    """`servers[]`."""

    port: GatewayPort
    """Port to listen on."""
    hosts: tuple[str, ...]
    """Hosts that are served, each with an optional NAMESPACE/ of the rules that may bind to it."""
    name: str = ""
    """Name of the server, unique within the Gateway."""
    bind: str = ""
    """Address or Unix socket to listen on."""
    default_endpoint: Annotated[str, unsupported("Istio has never implemented it")] = ""
    """Not implemented."""
    tls: ServerTLSSettings | None = None
    """TLS settings; needed for HTTPS and TLS."""


class GatewaySpec(Spec, frozen=True):
    """`spec`."""

    selector: dict[str, str] = {}
    """Labels of the gateway's pods."""
    servers: tuple[Server, ...] = ()
    """What is listened for."""


class IstioGateway(Object, frozen=True, kw_only=True):
    """An Istio Gateway."""

    KIND: ClassVar[str] = "Gateway"

    spec: GatewaySpec = GatewaySpec()
    """Ports and hosts that a gateway serves."""
