"""TLS to the upstream: the mesh's mutual TLS, automatic or demanded, and a rule's own TLS (DR-056…077).

Which of them holds is *resolved* first (`resolve_tls`), then its sockets are built. A proxy that cannot fetch mesh
certificates gets no automatic mutual TLS; where a rule demands it there is no cluster: never plain text instead.
"""

from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from typing import TypeAlias

from envoy.config.core.v3 import base_pb2, config_source_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from msgspec.structs import replace

from pypilot.compile.clusters.dns import allow_insecure
from pypilot.compile.clusters.draft import ClusterDraft
from pypilot.compile.clusters.traits import Traits
from pypilot.compile.clusters.transport import (
    TransportSocket,
    hbone_around,
    hbone_match,
    istio_tls_match,
    plain_match,
    user_match,
)
from pypilot.compile.compliance import comply
from pypilot.compile.credential_names import CA_SUFFIX, CONFIG_MAP, EXTERNAL, resource_name
from pypilot.compile.external_credentials import AT_SOCKET, external_secret
from pypilot.compile.messages import mesh_secret_source, pack, sds_config_source
from pypilot.kinds.destination_rule import ClientTLSSettings
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.wire.node import CertificateFiles

SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt"
"""The usual bundle of public CAs, for proxies that have no agent to answer `file-root:system`."""

CommonTlsContext: TypeAlias = tls_pb2.CommonTlsContext
UpstreamTlsContext: TypeAlias = tls_pb2.UpstreamTlsContext
ValidationContext: TypeAlias = common_pb2.CertificateValidationContext
SdsSecretConfig: TypeAlias = secret_pb2.SdsSecretConfig


class UnservableTLS(Exception):  # noqa: N818 - not an error of the program: the answer is "no cluster"
    """A rule demands TLS that this proxy cannot do."""


@dataclass(frozen=True, slots=True)
class MeshTLS:
    """Mutual TLS with the mesh's own certificates."""

    sni: str
    identities: tuple[str, ...]
    """Expected identities of the server; empty accepts whatever the trust bundle does."""
    insecure_skip_verify: bool = False
    """Counts for dynamic DNS alone, where the request's host would be checked."""
    automatic: bool = False
    """Inferred: endpoints that do not say `tlsMode: istio` get plain text."""


@dataclass(frozen=True, slots=True)
class OwnTLS:
    """A rule's own settings: DISABLE, SIMPLE or MUTUAL."""

    settings: ClientTLSSettings
    service_names: tuple[str, ...] = ()
    """Expected names where the settings list none: those of the ServiceEntry (DR-071)."""
    may_use_secrets: bool = True
    """False on a sidecar whose rule has no workloadSelector: its credentialName is not for it (DR-074)."""
    automatic: bool = False
    """As in `MeshTLS`: inferred, though with files in place of the mesh's certificates (NODE-023)."""


def resolve_tls(
    settings: ClientTLSSettings | None, inferred: bool, sni: str, accounts: tuple[str, ...]
) -> MeshTLS | OwnTLS | None:
    """What holds for a cluster. `inferred`: without a word from a rule, the service is to be reached by mutual TLS.

    `sni` and `accounts` are the mesh's own; what a rule says replaces them (DR-060, DR-063).
    """
    if settings is None:
        return MeshTLS(sni, accounts, automatic=True) if inferred else None
    if settings.mode != "ISTIO_MUTUAL":
        return OwnTLS(settings)
    identities = accounts if settings.subject_alt_names is None else settings.subject_alt_names
    return MeshTLS(settings.sni or sni, identities, bool(settings.insecure_skip_verify))


def with_files(
    resolved: MeshTLS | OwnTLS | None, settings: ClientTLSSettings | None, files: CertificateFiles, external: bool
) -> MeshTLS | OwnTLS | None:
    """The same with files beside the proxy in place of the mesh's certificates, where it names some (NODE-023).

    As in Istio, they win over those of a rule, too, except for what is outside the mesh; and of a rule for the mesh's
    mutual TLS only what it says itself counts then.
    """
    if not files.chain or resolved is None or (settings is not None and external):
        return resolved
    if settings is None:
        assert isinstance(resolved, MeshTLS)
        base = ClientTLSSettings(mode="MUTUAL", sni=resolved.sni, subject_alt_names=resolved.identities)
    elif settings.mode in ("MUTUAL", "ISTIO_MUTUAL"):
        base = ClientTLSSettings(
            mode="MUTUAL",
            sni=settings.sni,
            subject_alt_names=settings.subject_alt_names,
            insecure_skip_verify=settings.insecure_skip_verify,
        )
    else:
        return resolved
    own = replace(base, client_certificate=files.chain, private_key=files.key, ca_certificates=files.root)
    return OwnTLS(own, automatic=settings is None)


# -- secrets and validation -------------------------------------------------------------------------------------------


def _mesh_secret(name: str, over_ads: bool) -> SdsSecretConfig:
    """The mesh's own certificate and trust bundle."""
    return SdsSecretConfig(name=name, sds_config=mesh_secret_source(over_ads))


@cache
def _agent_file_source() -> config_source_pb2.ConfigSource:
    """The same server with Envoy's own timeout: a missing file must not hold up the cluster for ever."""
    source = config_source_pb2.ConfigSource()
    source.CopyFrom(sds_config_source())
    source.ClearField("initial_fetch_timeout")
    return source


def _agent_file(name: str) -> SdsSecretConfig:
    return SdsSecretConfig(name=name, sds_config=_agent_file_source())


@cache
def _credential_source() -> config_source_pb2.ConfigSource:
    """Over the aggregated stream, with Envoy's own timeout: a missing secret must not hold up the cluster for ever."""
    return config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(), resource_api_version=config_source_pb2.ApiVersion.V3
    )


def _credential_secret(credential_name: str, traits: Traits) -> SdsSecretConfig:
    if credential_name.startswith(EXTERNAL) and traits.credential_socket:
        return external_secret(credential_name, AT_SOCKET)
    name = resource_name(credential_name)
    if name in ("default", "ROOTCA"):
        return _mesh_secret(name, traits.certificates_over_ads)
    return SdsSecretConfig(name=name, sds_config=_credential_source())


def _file(path: str) -> base_pb2.DataSource:
    return base_pb2.DataSource(filename=path)


def _name_type(name: str) -> int:
    if "://" in name:
        return int(common_pb2.SubjectAltNameMatcher.URI)
    try:
        ip_address(name)
    except ValueError:
        return int(common_pb2.SubjectAltNameMatcher.DNS)
    return int(common_pb2.SubjectAltNameMatcher.IP_ADDRESS)


def _expect(validation: ValidationContext, names: tuple[str, ...], traits: Traits) -> None:
    """One of these names must be in the server's certificate. Upstream Envoy wants to be told of which kind each is."""
    for name in names:
        if traits.istio_build:
            validation.match_subject_alt_names.add(exact=name)
        else:
            validation.match_typed_subject_alt_names.add(san_type=_name_type(name)).matcher.exact = name


@cache
def _base_context() -> UpstreamTlsContext:
    """TLS 1.2 to 1.3. Callers must not change it."""
    params = common_pb2.TlsParameters(
        tls_minimum_protocol_version=common_pb2.TlsParameters.TLSv1_2,
        tls_maximum_protocol_version=common_pb2.TlsParameters.TLSv1_3,
    )
    return UpstreamTlsContext(common_tls_context=CommonTlsContext(tls_params=params))


@cache
def _mesh_context(metadata_exchange: bool, http2: bool, over_ads: bool) -> UpstreamTlsContext:
    """What all mutual TLS contexts share (DR-059, DR-061). Callers must not change it."""
    context = UpstreamTlsContext()
    context.CopyFrom(_base_context())
    common = context.common_tls_context
    common.tls_certificate_sds_secret_configs.append(_mesh_secret("default", over_ads))
    validation = common.combined_validation_context
    validation.default_validation_context.SetInParent()
    validation.validation_context_sds_secret_config.CopyFrom(_mesh_secret("ROOTCA", over_ads))
    common.alpn_protocols.extend(["istio-peer-exchange"] if metadata_exchange else [])
    common.alpn_protocols.extend(["istio", "h2"] if http2 else ["istio"])
    return context


def _mesh_tls_context(tls: MeshTLS, draft: ClusterDraft, traits: Traits) -> UpstreamTlsContext:
    context = UpstreamTlsContext(sni=tls.sni)
    context.MergeFrom(_mesh_context(traits.istio_build, draft.is_http2, traits.certificates_over_ads))
    expected = context.common_tls_context.combined_validation_context.default_validation_context
    _expect(expected, tls.identities, traits)
    return context


def _apply_auto_names(draft: ClusterDraft, settings: ClientTLSSettings) -> None:
    """Without `sni` the request's host is used; without names to expect, it is also what is checked (DR-066…067)."""
    checks = not settings.insecure_skip_verify and (
        draft.dynamic_dns or not (settings.sni or settings.subject_alt_names)
    )
    if not settings.sni:
        draft.http_options().upstream_http_protocol_options.auto_sni = True
    if checks:
        draft.http_options().upstream_http_protocol_options.auto_san_validation = True
    if draft.dynamic_dns and (settings.sni or settings.insecure_skip_verify):
        allow_insecure(draft)


def _apply_secrets(
    common: CommonTlsContext, settings: ClientTLSSettings, expected: ValidationContext, traits: Traits
) -> None:
    """Certificates that the control plane serves by `credentialName` (DR-074)."""
    if settings.mode == "MUTUAL":
        common.tls_certificate_sds_secret_configs.append(_credential_secret(settings.credential_name, traits))
    if not settings.insecure_skip_verify:
        combined = common.combined_validation_context
        combined.default_validation_context.CopyFrom(expected)
        combined.validation_context_sds_secret_config.CopyFrom(
            _credential_secret(settings.credential_name + CA_SUFFIX, traits)
        )


def _apply_agent_files(common: CommonTlsContext, settings: ClientTLSSettings, expected: ValidationContext) -> None:
    """Files beside the proxy, served by Istio's agent over SDS so that they can rotate (DR-070)."""
    if settings.mode == "MUTUAL":
        name = f"file-cert:{settings.client_certificate}~{settings.private_key}"
        common.tls_certificate_sds_secret_configs.append(_agent_file(name))
    if settings.insecure_skip_verify:
        common.validation_context.SetInParent()
        return
    combined = common.combined_validation_context
    combined.default_validation_context.CopyFrom(expected)
    combined.validation_context_sds_secret_config.CopyFrom(
        _agent_file(f"file-root:{settings.ca_certificates or 'system'}")
    )


def _apply_local_files(common: CommonTlsContext, settings: ClientTLSSettings, expected: ValidationContext) -> None:
    """Files that the proxy reads itself: it has no agent that answers file names."""
    if settings.mode == "MUTUAL":
        common.tls_certificates.add(
            certificate_chain=_file(settings.client_certificate), private_key=_file(settings.private_key)
        )
    common.validation_context.SetInParent()
    if not settings.insecure_skip_verify:
        common.validation_context.CopyFrom(expected)
        common.validation_context.trusted_ca.CopyFrom(_file(settings.ca_certificates or SYSTEM_ROOTS))


def _own_tls_context(tls: OwnTLS, draft: ClusterDraft, traits: Traits, mesh: MeshConfig) -> UpstreamTlsContext | None:
    settings = tls.settings
    if settings.mode == "DISABLE":
        return None
    secret = bool(settings.credential_name)
    if secret and not tls.may_use_secrets and not settings.credential_name.startswith(CONFIG_MAP):
        return None
    context = UpstreamTlsContext(sni=settings.sni)
    context.MergeFrom(_base_context())
    common = context.common_tls_context
    _apply_auto_names(draft, settings)
    expected = ValidationContext()
    _expect(expected, settings.subject_alt_names or tls.service_names, traits)
    if secret:
        _apply_secrets(common, settings, expected, traits)
    else:
        if settings.ca_crl:
            expected.crl.CopyFrom(_file(settings.ca_crl))
        (_apply_agent_files if traits.istio_build else _apply_local_files)(common, settings, expected)
    common.tls_params.ecdh_curves.extend(mesh.tls_defaults.ecdh_curves)
    common.tls_params.cipher_suites.extend(mesh.tls_defaults.cipher_suites)
    if draft.is_http2:
        common.alpn_protocols.append("h2")
    return context


# -- sockets ----------------------------------------------------------------------------------------------------------


def _socket(context: UpstreamTlsContext) -> TransportSocket:
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context))


def apply_upstream_tls(draft: ClusterDraft, tls: MeshTLS | OwnTLS | None, traits: Traits, mesh: MeshConfig) -> None:
    """Set the socket or the socket matches.

    Raises:
        UnservableTLS: mesh TLS is demanded of a proxy that cannot fetch mesh certificates.
    """
    if isinstance(tls, MeshTLS):
        if not traits.mesh_tls:
            raise UnservableTLS
        if draft.dynamic_dns:
            skips = tls.insecure_skip_verify
            names = ClientTLSSettings(sni=tls.sni, subject_alt_names=tls.identities, insecure_skip_verify=skips)
            _apply_auto_names(draft, names)
        context = _mesh_tls_context(tls, draft, traits)
    else:
        context = _own_tls_context(tls, draft, traits, mesh) if tls is not None else None
    if context is not None:
        comply(context.common_tls_context, traits.compliance)
    socket = _socket(context) if context is not None else None
    cluster = draft.cluster
    if draft.is_original_dst and tls is not None:
        # Each connection's destination is new, so there is no endpoint metadata to match (DR-058).
        if socket is not None:
            cluster.transport_socket.CopyFrom(socket)
        return
    matches = [hbone_match()] if traits.hbone else []
    if socket is None:
        matches += [plain_match()] if traits.hbone else []
    elif isinstance(tls, MeshTLS) or tls is None or tls.automatic:
        if tls is not None and tls.automatic:
            matches += [istio_tls_match(socket), plain_match()]
        elif traits.hbone:
            matches.append(istio_tls_match(socket, everywhere=True))
    elif traits.hbone:
        matches = [hbone_around(socket), user_match(socket)]
    if matches:
        cluster.transport_socket_matches.extend(matches)
    elif socket is not None:
        cluster.transport_socket.CopyFrom(socket)
