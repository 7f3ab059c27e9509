"""Istio Gateway (networking.istio.io). `IstioGateway` here; the Gateway API's kind is another one."""

from collections.abc import Iterable
from typing import ClassVar, Literal

from pypilot.kinds.base import Finding, Kind, Object, PortNumber, Spec

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
    target_port: int = 0
    """Port to listen on in place of the Service's."""


class TLSCertificate(Spec, frozen=True):
    """`servers[].tls.tlsCertificates[]`."""

    server_certificate: str = ""
    """File with the certificate chain."""
    private_key: str = ""
    """File with the private key."""
    ca_certificates: str = ""
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
    default_endpoint: str = ""
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


def _validate_tls(server: Server, path: str) -> Iterable[Finding]:
    tls, protocol = server.tls, server.port.protocol.upper()
    if tls is None:
        if protocol in ("HTTPS", "TLS"):
            yield Finding(f"{path}.tls", f"a server with protocol {protocol} needs tls settings (VAL-005)")
        return
    if tls.https_redirect and protocol not in HTTP_PROTOCOLS:
        yield Finding(f"{path}.tls.httpsRedirect", "allowed only on HTTP servers (VAL-005)")
    if protocol in HTTP_PROTOCOLS:
        return
    has_credential = bool(tls.credential_name or tls.credential_names or tls.tls_certificates)
    has_files = bool(tls.server_certificate and tls.private_key)
    if tls.mode in ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL") and not (has_credential or has_files):
        yield Finding(
            f"{path}.tls.credentialName", f"mode {tls.mode} needs credentialName or certificate files (VAL-005)"
        )
    needs_ca = tls.mode in ("MUTUAL", "OPTIONAL_MUTUAL") and not (has_credential or tls.ca_cert_credential_name)
    if needs_ca and not tls.ca_certificates:
        yield Finding(f"{path}.tls.caCertificates", f"mode {tls.mode} needs a CA to verify clients (VAL-005)")
    if tls.mode == "ISTIO_MUTUAL" and (has_credential or has_files):
        yield Finding(f"{path}.tls.mode", "ISTIO_MUTUAL uses the mesh's own certificates: remove the others (VAL-005)")


def validate(gateway: IstioGateway) -> Iterable[Finding]:
    """Server checks of VAL-005."""
    for i, server in enumerate(gateway.spec.servers):
        path = f"spec.servers[{i}]"
        if server.port.protocol.upper() not in PROTOCOLS:
            yield Finding(f"{path}.port.protocol", f"unknown protocol {server.port.protocol!r}")
        if not server.hosts:
            yield Finding(f"{path}.hosts", "at least one host is needed")
        for j, host in enumerate(server.hosts):
            name = host.rpartition("/")[2]
            if not name or "*" in name.removeprefix("*.").removeprefix("*"):
                yield Finding(f"{path}.hosts[{j}]", f"invalid host {host!r}: a wildcard may only be the first label")
        yield from _validate_tls(server, path)


KIND = Kind(
    IstioGateway,
    "networking.istio.io",
    ("v1", "v1beta1", "v1alpha3"),
    "gateways",
    units=("spec.servers[]",),
    validate=validate,
    short_names=("gw",),
)
