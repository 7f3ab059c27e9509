"""Fields of a Gateway without effect together with others.

Judged of the object alone. Errors are the business of `gateway_validation`.
"""

from collections.abc import Iterable, Iterator

from pypilot.kinds.base import Finding, no_effect
from pypilot.kinds.gateway import HTTP_PROTOCOLS, IstioGateway, ServerTLSSettings

_UNOPENED = ("PASSTHROUGH", "AUTO_PASSTHROUGH")


def _given(tls: ServerTLSSettings) -> dict[str, bool]:
    """The fields that are about ending TLS, and whether they are set."""
    return {
        "credentialName": bool(tls.credential_name),
        "credentialNames": bool(tls.credential_names),
        "tlsCertificates": bool(tls.tls_certificates),
        "serverCertificate": bool(tls.server_certificate),
        "privateKey": bool(tls.private_key),
        "caCertCredentialName": bool(tls.ca_cert_credential_name),
        "caCertificates": bool(tls.ca_certificates),
        "caCrl": bool(tls.ca_crl),
        "subjectAltNames": bool(tls.subject_alt_names),
        "verifyCertificateSpki": bool(tls.verify_certificate_spki),
        "verifyCertificateHash": bool(tls.verify_certificate_hash),
        "minProtocolVersion": tls.min_protocol_version != "TLS_AUTO",
        "maxProtocolVersion": tls.max_protocol_version != "TLS_AUTO",
        "cipherSuites": bool(tls.cipher_suites),
        "ecdhCurves": bool(tls.ecdh_curves),
    }


def _ignored(tls: ServerTLSSettings, is_http: bool) -> Iterator[tuple[tuple[str, ...], str]]:
    """Groups of fields, and why they do not count."""
    given = tuple(_given(tls))
    if is_http:
        yield given, "the server's protocol has no TLS"
        return
    if tls.mode in _UNOPENED:
        yield given, f"mode {tls.mode}, which is the default, does not open TLS"
        return
    if tls.mode == "ISTIO_MUTUAL":
        yield given[11:], "mode ISTIO_MUTUAL has the mesh's own settings"
    if tls.mode == "SIMPLE":
        names = ("caCertCredentialName", "caCertificates", "caCrl", "verifyCertificateSpki", "verifyCertificateHash")
        yield names, "mode SIMPLE asks for no client certificate"
    if tls.credential_name or tls.credential_names:
        files = ("tlsCertificates", "serverCertificate", "privateKey")
        yield files, "credentialName is given"
        if tls.mode != "SIMPLE":
            yield ("caCertificates", "caCrl"), "with credentialName the Secret has the CA and the revoked ones (GW-047)"
    if tls.credential_names:
        yield ("credentialName",), "credentialNames is given"


def _tls(tls: ServerTLSSettings, is_http: bool, path: str) -> Iterator[Finding]:
    given = _given(tls)
    for names, because in _ignored(tls, is_http):
        yield from (no_effect(f"{path}.{name}", because) for name in names if given[name])


def _repeated(names: Iterable[str], field: str, effect: str) -> Iterator[Finding]:
    """GW-032."""
    known: set[str] = set()
    for i, name in enumerate(names):
        if name and name in known:
            path = f"spec.servers[{i}].{field}"
            yield Finding(path, f"an earlier server has {name!r}, too: {effect}", "warning", "repeated-name")
        known.add(name)


def advise(gateway: IstioGateway) -> Iterable[Finding]:
    """The warnings."""
    servers = gateway.spec.servers
    yield from _repeated((s.port.name for s in servers), "port.name", "of HTTPS servers on a port only one is served")
    yield from _repeated((s.name for s in servers), "name", "they share their statistics")
    for i, server in enumerate(gateway.spec.servers):
        if server.tls is not None:
            is_http = server.port.protocol.upper() in HTTP_PROTOCOLS
            yield from _tls(server.tls, is_http, f"spec.servers[{i}].tls")
