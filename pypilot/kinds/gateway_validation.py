"""What makes a Gateway wrong beyond its types (VAL-005), and its registry entry."""

from collections.abc import Iterable

from pypilot.kinds.base import Finding, Kind
from pypilot.kinds.gateway import HTTP_PROTOCOLS, PROTOCOLS, IstioGateway, Server
from pypilot.kinds.gateway_advice import advise
from pypilot.kinds.gateway_refusals import refusals


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
    advise=advise,
    refusals=refusals,
    short_names=("gw",),
)
