"""What Istio's webhook refuses in Gateways although it could be served (VAL-005). Pure."""

from collections.abc import Iterator

from pypilot.kinds.base import Finding
from pypilot.kinds.gateway import HTTP_PROTOCOLS, IstioGateway, Server, ServerTLSSettings
from pypilot.kinds.names import is_address, is_label
from pypilot.kinds.refusals import host_defects, refuse

_UNIX = "unix://"
_WITH_CERTIFICATE = ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL")


def _host(path: str, host: str) -> Iterator[Finding]:
    namespace, slash, name = host.partition("/")
    if not slash:
        namespace, name = "*", host
    elif namespace not in ("*", ".") and not is_label(namespace):
        yield refuse(path, f"{namespace!r} is not a namespace")
    if name != "*" and "." not in name and not is_address(name):
        yield refuse(path, f"{name!r} is a short name")
    elif "*" in name and name != "*" and not name.startswith("*."):
        yield refuse(path, f"the wildcard of {name!r} is only a part of a label")
    else:
        yield from host_defects(path, name, with_address=True)


def _bind(path: str, server: Server) -> Iterator[Finding]:
    if server.bind.startswith(_UNIX):
        name = server.bind.removeprefix(_UNIX)
        if not name.startswith("@") and (not name.startswith("/") or name.endswith("/")):
            yield refuse(f"{path}.bind", f"{name!r} is not the path of a socket")
    elif server.bind and not is_address(server.bind):
        yield refuse(f"{path}.bind", f"{server.bind!r} is not an address")


def _tls(path: str, tls: ServerTLSSettings) -> Iterator[Finding]:
    files = bool(tls.server_certificate and tls.private_key)
    sources = (bool(tls.credential_name), bool(tls.credential_names), files, bool(tls.tls_certificates))
    if tls.mode == "ISTIO_MUTUAL":
        for name in ("server_certificate", "private_key", "ca_certificates"):
            if getattr(tls, name):
                at = name.split("_")
                yield refuse(f"{path}.{at[0]}{at[1].title()}", "mode ISTIO_MUTUAL has the mesh's own certificates")
        return
    if sum(sources) > 1:
        yield refuse(path, "only one of credentialName, credentialNames, tlsCertificates and files may be given")
    if tls.ca_crl and tls.credential_name:
        yield refuse(f"{path}.caCrl", "the Secret of credentialName has the list of revoked certificates")
    if tls.ca_crl and tls.mode == "SIMPLE":
        yield refuse(f"{path}.caCrl", "mode SIMPLE verifies no certificates")
    if tls.mode in _WITH_CERTIFICATE and not (tls.credential_name or tls.credential_names):
        if tls.mode != "SIMPLE" and not tls.ca_certificates:
            yield refuse(f"{path}.caCertificates", f"mode {tls.mode} needs a CA to verify clients")
        for i, pair in enumerate(tls.tls_certificates):
            if not pair.server_certificate or not pair.private_key:
                yield refuse(f"{path}.tlsCertificates[{i}]", "both serverCertificate and privateKey are needed")


def _server(path: str, server: Server) -> Iterator[Finding]:
    if not server.port.name:
        yield refuse(f"{path}.port.name", "a port needs a name")
    for i, host in enumerate(server.hosts):
        yield from _host(f"{path}.hosts[{i}]", host)
    yield from _bind(path, server)
    tls, protocol = server.tls, server.port.protocol.upper()
    if tls is None:
        return
    yield from _tls(f"{path}.tls", tls)
    if protocol in HTTP_PROTOCOLS:
        passes = tls.mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH")
        if not passes or tls.ca_certificates or tls.private_key or tls.server_certificate:
            yield refuse(f"{path}.tls", f"a server with protocol {protocol} has no TLS, only httpsRedirect")
    elif protocol not in ("HTTPS", "TLS"):
        yield refuse(f"{path}.tls", f"a server with protocol {protocol} has no TLS")


def refusals(gateway: IstioGateway) -> Iterator[Finding]:
    """All of them."""
    if not is_label(gateway.name):
        yield refuse("metadata.name", f"{gateway.name!r} is not the name of a Gateway")
    if not gateway.spec.servers:
        yield refuse("spec.servers", "at least one server is needed")
    names: set[str] = set()
    for i, server in enumerate(gateway.spec.servers):
        yield from _server(f"spec.servers[{i}]", server)
        if server.port.name in names:
            yield refuse(f"spec.servers[{i}].port.name", f"there is another port of the name {server.port.name!r}")
        names.add(server.port.name)
