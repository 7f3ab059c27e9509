"""`DownstreamTlsContext`: TLS that a proxy terminates, for the servers of gateways and for sidecars inbound.

GW-034…048, MESH-034, MESH-035. What cannot be served is refused with `UnservableTLS`: never plain text instead.
"""

import re
from functools import cache
from typing import NamedTuple, TypeAlias

from envoy.config.core.v3 import base_pb2, config_source_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from envoy.type.matcher.v3 import string_pb2

from pypilot.compile.compliance import comply
from pypilot.compile.credential_names import CA_SUFFIX, EXTERNAL, resource_name
from pypilot.compile.external_credentials import ExternalServer, external_secret
from pypilot.compile.messages import mesh_secret_source, pack, sds_config_source
from pypilot.kinds.gateway import ServerTLSSettings
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.wire.node import CertificateFiles
from pypilot.world.reader import Reader

DownstreamTlsContext: TypeAlias = tls_pb2.DownstreamTlsContext
CommonTlsContext: TypeAlias = tls_pb2.CommonTlsContext
ValidationContext: TypeAlias = common_pb2.CertificateValidationContext
SdsSecretConfig: TypeAlias = secret_pb2.SdsSecretConfig
TransportSocket: TypeAlias = base_pb2.TransportSocket

ALPN_HTTP = ("h2", "http/1.1")
ALPN_TCP = ("istio-peer-exchange", "h2", "http/1.1")
"""With the word by which sidecars agree to exchange metadata on plain TCP."""
MESH_CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
)
CIPHERS = frozenset(
    {
        *MESH_CIPHERS,
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-RSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA",
        "ECDHE-RSA-AES256-SHA",
        "AES128-SHA",
        "AES256-SHA",
        "DES-CBC3-SHA",
    }
)
"""The names that Envoy knows; others would have it refuse the listener (GW-046)."""
CURVES = frozenset({"X25519", "P-256", "P-384", "P-521", "X25519MLKEM768"})

_SPKI = re.compile(r"[A-Za-z0-9+/]{43}=")
_HASH = re.compile(r"[0-9a-fA-F]{64}|[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){31}")
_PROTOCOLS = {
    "TLSV1_0": common_pb2.TlsParameters.TLSv1_0,
    "TLSV1_1": common_pb2.TlsParameters.TLSv1_1,
    "TLSV1_2": common_pb2.TlsParameters.TLSv1_2,
    "TLSV1_3": common_pb2.TlsParameters.TLSv1_3,
}


class UnservableTLS(Exception):  # noqa: N818 - not an error of the program: the server is left out
    """A server asks for TLS that this proxy cannot do."""


def tls_socket(
    reader: Reader, context: DownstreamTlsContext, name: str = "envoy.transport_sockets.tls"
) -> TransportSocket:
    """The context as a chain's transport socket, within what is allowed (DR-079)."""
    allowed = DownstreamTlsContext()
    allowed.CopyFrom(context)
    comply(allowed.common_tls_context, reader.constants.compliance)
    return TransportSocket(name=name, typed_config=pack(allowed))


# -- secrets ----------------------------------------------------------------------------------------------------------


def _agent_secret(name: str) -> SdsSecretConfig:
    """From the agent beside the proxy. Certificates of the mesh are waited for; files may be missing for ever."""
    config = SdsSecretConfig(name=name, sds_config=sds_config_source())
    if name not in ("default", "ROOTCA"):
        config.sds_config.ClearField("initial_fetch_timeout")
    return config


def _mesh_secret(name: str, over_ads: bool) -> SdsSecretConfig:
    """The mesh's own certificate or trust bundle."""
    return SdsSecretConfig(name=name, sds_config=mesh_secret_source(over_ads))


@cache
def _credential_source() -> config_source_pb2.ConfigSource:
    """Over the aggregated stream, with Envoy's own timeout: a missing secret must not hold up the listener (GW-050)."""
    return config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(), resource_api_version=config_source_pb2.ApiVersion.V3
    )


class CredentialSources(NamedTuple):
    """Where a gateway's proxy can get certificates."""

    mesh_tls: bool
    """Those of the mesh."""
    external: ExternalServer | None = None
    """Those named `sds://…`."""
    files: CertificateFiles = CertificateFiles()
    """In place of those of the mesh (NODE-023)."""
    over_ads: bool = False
    """Those of the mesh come over its own stream."""


def _credential_secret(credential_name: str, sources: CredentialSources) -> SdsSecretConfig:
    if credential_name.startswith(EXTERNAL) and sources.external is not None:
        if not sources.external.cluster:
            raise UnservableTLS
        return external_secret(credential_name, sources.external)
    name = resource_name(credential_name)
    if name not in ("default", "ROOTCA"):
        return SdsSecretConfig(name=name, sds_config=_credential_source())
    if not sources.mesh_tls:
        raise UnservableTLS
    return _mesh_secret(name, sources.over_ads)


def _exactly(names: tuple[str, ...]) -> list[string_pb2.StringMatcher]:
    return [string_pb2.StringMatcher(exact=name) for name in names if name]


def _file(path: str) -> base_pb2.DataSource:
    return base_pb2.DataSource(filename=path)


# -- the mesh's own mutual TLS ----------------------------------------------------------------------------------------


def _apply_mesh_certificates(common: CommonTlsContext, expected: ValidationContext, over_ads: bool = False) -> None:
    common.tls_certificate_sds_secret_configs.append(_mesh_secret("default", over_ads))
    roots = _mesh_secret("ROOTCA", over_ads)
    common.combined_validation_context.default_validation_context.CopyFrom(expected)
    common.combined_validation_context.validation_context_sds_secret_config.CopyFrom(roots)


def _trusted(mesh: MeshConfig) -> list[str]:
    """How the identities that are accepted begin (MESH-006…008, PA-013)."""
    return [f"spiffe://{domain}/" for domain in mesh.trusted_domains]


def _apply_files(common: CommonTlsContext, files: CertificateFiles) -> None:
    """Files beside the proxy, which its agent serves, in place of what the mesh gives (NODE-023)."""
    if files.chain and files.key:
        del common.tls_certificate_sds_secret_configs[:]
        common.tls_certificate_sds_secret_configs.append(_agent_secret(f"file-cert:{files.chain}~{files.key}"))
    if files.root:
        root = _agent_secret(f"file-root:{files.root}")
        common.combined_validation_context.validation_context_sds_secret_config.CopyFrom(root)


def mesh_tls_socket(reader: Reader, tcp: bool, files: CertificateFiles, over_ads: bool = False) -> TransportSocket:
    """What sidecars terminate: any identity of the mesh's trust domains (MESH-006, MESH-007, MESH-034)."""
    mesh = reader.mesh()
    context = DownstreamTlsContext()
    context.require_client_certificate.value = True
    common = context.common_tls_context
    common.alpn_protocols.extend(ALPN_TCP if tcp else ALPN_HTTP)
    oldest = mesh.mesh_mtls.min_protocol_version
    common.tls_params.tls_minimum_protocol_version = _PROTOCOLS["TLSV1_3" if oldest == "TLSV1_3" else "TLSV1_2"]
    common.tls_params.tls_maximum_protocol_version = common_pb2.TlsParameters.TLSv1_3
    common.tls_params.cipher_suites.extend(_known_ciphers(mesh.mesh_mtls.cipher_suites) or MESH_CIPHERS)
    prefixes = [string_pb2.StringMatcher(prefix=prefix) for prefix in _trusted(mesh)]
    _apply_mesh_certificates(common, ValidationContext(match_subject_alt_names=prefixes), over_ads)
    _apply_files(common, files)
    return tls_socket(reader, context)


def tunnel_tls_socket(reader: Reader, files: CertificateFiles) -> TransportSocket:
    """What ends an HBONE tunnel: TLS 1.3 with any identity of the mesh's trust domains (LIS-030)."""
    mesh = reader.mesh()
    context = DownstreamTlsContext()
    context.require_client_certificate.value = True
    common = context.common_tls_context
    common.alpn_protocols.append("h2")
    common.tls_params.tls_minimum_protocol_version = common_pb2.TlsParameters.TLSv1_3
    common.tls_params.tls_maximum_protocol_version = common_pb2.TlsParameters.TLSv1_3
    expected = ValidationContext()
    for prefix in _trusted(mesh):
        matcher = expected.match_typed_subject_alt_names.add(san_type=common_pb2.SubjectAltNameMatcher.URI)
        matcher.matcher.prefix = prefix
    _apply_mesh_certificates(common, expected)
    _apply_files(common, files)
    return tls_socket(reader, context, "tls")


# -- servers of gateways ----------------------------------------------------------------------------------------------


def _is_cipher(name: str) -> bool:
    """A known name, or a group of equal preference, `[A|B]`."""
    group = name[1:-1].split("|") if name.startswith("[") and name.endswith("]") else [name]
    return all(member in CIPHERS for member in group)


def _known_ciphers(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those that Envoy knows, each once."""
    return tuple(name for name in dict.fromkeys(names) if _is_cipher(name))


def _apply_parameters(common: CommonTlsContext, settings: ServerTLSSettings, mesh: MeshConfig) -> None:
    """The server's own values over the mesh's defaults; what nobody says is Envoy's choice (GW-046)."""
    default = mesh.tls_defaults
    params = common_pb2.TlsParameters(
        cipher_suites=_known_ciphers(settings.cipher_suites) or _known_ciphers(default.cipher_suites),
        ecdh_curves=[c for c in settings.ecdh_curves or default.ecdh_curves if c in CURVES],
    )
    oldest = settings.min_protocol_version
    if oldest == "TLS_AUTO":
        oldest = default.min_protocol_version
    if oldest != "TLS_AUTO":
        params.tls_minimum_protocol_version = _PROTOCOLS[oldest]
    if settings.max_protocol_version != "TLS_AUTO":
        params.tls_maximum_protocol_version = _PROTOCOLS[settings.max_protocol_version]
    if params != common_pb2.TlsParameters():
        common.tls_params.CopyFrom(params)


def _expected(settings: ServerTLSSettings) -> ValidationContext:
    return ValidationContext(match_subject_alt_names=_exactly(settings.subject_alt_names))


def _of_clients(settings: ServerTLSSettings) -> ValidationContext:
    """What is asked of client certificates; `insecureSkipVerify` lets in those that nobody vouches for."""
    expected = _expected(settings)
    if settings.insecure_skip_verify:
        expected.trust_chain_verification = ValidationContext.ACCEPT_UNTRUSTED
    return expected


def _with_revocations(settings: ServerTLSSettings) -> ValidationContext:
    """A list of revoked certificates can only be a file (GW-047)."""
    expected = _of_clients(settings)
    if settings.ca_crl:
        expected.crl.CopyFrom(_file(settings.ca_crl))
    return expected


def _apply_pins(expected: ValidationContext, settings: ServerTLSSettings) -> None:
    """Hashes of keys and certificates (GW-045). A malformed one would have Envoy refuse the whole listener."""
    if not all(_SPKI.fullmatch(pin) for pin in settings.verify_certificate_spki):
        raise UnservableTLS
    if not all(_HASH.fullmatch(pin) for pin in settings.verify_certificate_hash):
        raise UnservableTLS
    expected.verify_certificate_spki.extend(settings.verify_certificate_spki)
    expected.verify_certificate_hash.extend(settings.verify_certificate_hash)


def _apply_credentials(common: CommonTlsContext, settings: ServerTLSSettings, sources: CredentialSources) -> None:
    """Certificates that are served by name, by the control plane or by somebody else (GW-040…043, SDS-011)."""
    names = settings.credential_names or (settings.credential_name,)
    common.tls_certificate_sds_secret_configs.extend(_credential_secret(name, sources) for name in names)
    if settings.mode in ("MUTUAL", "OPTIONAL_MUTUAL"):
        expected = _of_clients(settings)
        _apply_pins(expected, settings)
        authority = settings.ca_cert_credential_name or names[0] + CA_SUFFIX
        combined = common.combined_validation_context
        combined.default_validation_context.CopyFrom(expected)
        combined.validation_context_sds_secret_config.CopyFrom(_credential_secret(authority, sources))
    elif settings.subject_alt_names:
        common.validation_context.CopyFrom(_expected(settings))


def _pairs(settings: ServerTLSSettings) -> list[tuple[str, str]]:
    """Certificate and key files (GW-044)."""
    several = [(c.server_certificate, c.private_key) for c in settings.tls_certificates]
    pairs = several or [(settings.server_certificate, settings.private_key)]
    return [(certificate, key) for certificate, key in pairs if certificate and key]


def _apply_agent_files(common: CommonTlsContext, settings: ServerTLSSettings, validates: bool) -> None:
    """Files beside the proxy, served by Istio's agent over SDS so that they can rotate."""
    names = [f"file-cert:{certificate}~{key}" for certificate, key in _pairs(settings)]
    common.tls_certificate_sds_secret_configs.extend(_agent_secret(name) for name in names or ["default"])
    if validates:
        name = f"file-root:{settings.ca_certificates}" if settings.ca_certificates else "ROOTCA"
        combined = common.combined_validation_context
        combined.default_validation_context.CopyFrom(_with_revocations(settings))
        combined.validation_context_sds_secret_config.CopyFrom(_agent_secret(name))


def _apply_local_files(common: CommonTlsContext, settings: ServerTLSSettings, validates: bool) -> None:
    """Files that the proxy reads itself: it has no agent that answers file names."""
    pairs = _pairs(settings)
    if not pairs or (validates and not settings.ca_certificates):
        raise UnservableTLS
    for certificate, key in pairs:
        common.tls_certificates.add(certificate_chain=_file(certificate), private_key=_file(key))
    if validates:
        common.validation_context.CopyFrom(_with_revocations(settings))
        common.validation_context.trusted_ca.CopyFrom(_file(settings.ca_certificates))


def server_tls_context(
    settings: ServerTLSSettings, mesh: MeshConfig, tcp: bool, istio_build: bool, sources: CredentialSources
) -> DownstreamTlsContext:
    """The context of one server of a Gateway.

    Args:
        tcp: what is inside is not HTTP.
        istio_build: the proxy is Istio's, whose agent serves files by name.
        sources: where the proxy can get certificates.

    Raises:
        UnservableTLS: certificates are wanted that nobody would give to this proxy.
    """
    mutual = settings.mode == "ISTIO_MUTUAL"
    context = DownstreamTlsContext()
    context.require_client_certificate.value = settings.mode in ("MUTUAL", "ISTIO_MUTUAL")
    common = context.common_tls_context
    common.alpn_protocols.extend(ALPN_TCP if mutual and tcp else ALPN_HTTP)
    if mutual:
        if not sources.mesh_tls:
            raise UnservableTLS
        _apply_mesh_certificates(common, _with_revocations(settings), sources.over_ads)
        _apply_files(common, sources.files)
        return context
    validates = settings.mode in ("MUTUAL", "OPTIONAL_MUTUAL")
    if settings.credential_name or settings.credential_names:
        _apply_credentials(common, settings, sources)
    else:
        (_apply_agent_files if istio_build else _apply_local_files)(common, settings, validates)
    _apply_parameters(common, settings, mesh)
    return context
