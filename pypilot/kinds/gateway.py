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
    protocol: str
    name: str = ""
    target_port: int = 0


class TLSCertificate(Spec, frozen=True):
    """`servers[].tls.tlsCertificates[]`."""

    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""


class ServerTLSSettings(Spec, frozen=True):
    """`servers[].tls`."""

    https_redirect: bool = False
    mode: TLSMode = "PASSTHROUGH"
    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    credential_names: tuple[str, ...] = ()
    ca_cert_credential_name: str = ""
    tls_certificates: tuple[TLSCertificate, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    verify_certificate_spki: tuple[str, ...] = ()
    verify_certificate_hash: tuple[str, ...] = ()
    min_protocol_version: TLSProtocol = "TLS_AUTO"
    max_protocol_version: TLSProtocol = "TLS_AUTO"
    cipher_suites: tuple[str, ...] = ()
    ecdh_curves: tuple[str, ...] = ()


class Server(Spec, frozen=True):
    """`servers[]`."""

    port: GatewayPort
    hosts: tuple[str, ...]
    name: str = ""
    bind: str = ""
    default_endpoint: str = ""
    tls: ServerTLSSettings | None = None


class GatewaySpec(Spec, frozen=True):
    """`spec`."""

    selector: dict[str, str] = {}
    servers: tuple[Server, ...] = ()


class IstioGateway(Object, frozen=True, kw_only=True):
    """An Istio Gateway."""

    KIND: ClassVar[str] = "Gateway"

    spec: GatewaySpec = GatewaySpec()


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
)
