"""TLS that a proxy terminates: what is refused rather than served in another way."""

from typing import Any

import pytest
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

from pypilot.compile.gateways.downstream_tls import (
    CredentialSources,
    UnservableTLS,
    mesh_tls_socket,
    server_tls_context,
)
from pypilot.kinds.gateway import ServerTLSSettings, TLSCertificate
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.wire.node import CertificateFiles
from pypilot.world.reader import Reader
from tests.compile.listeners.decoding import world_of

FILES = {"server_certificate": "/c.pem", "private_key": "/k.pem"}


def context(
    *, istio: bool = True, mesh_tls: bool = True, tcp: bool = False, **settings: Any
) -> tls_pb2.DownstreamTlsContext:
    return server_tls_context(ServerTLSSettings(**settings), MeshConfig(), tcp, istio, CredentialSources(mesh_tls))


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "ISTIO_MUTUAL"},
        {"mode": "SIMPLE", "credential_name": "builtin://"},
        {"mode": "SIMPLE"},
        {"mode": "MUTUAL", **FILES},
        {"mode": "OPTIONAL_MUTUAL", **FILES},
        {"mode": "SIMPLE", "server_certificate": "/c.pem"},
    ],
)
def test_a_proxy_without_certificates_and_agent_cannot(settings: dict[str, Any]) -> None:
    with pytest.raises(UnservableTLS):
        context(istio=False, mesh_tls=False, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "MUTUAL", "credential_name": "c", "verify_certificate_spki": ("short",)},
        {"mode": "MUTUAL", "credential_name": "c", "verify_certificate_hash": ("zz" * 32,)},
    ],
)
def test_malformed_pins_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UnservableTLS):
        context(**settings)


@pytest.mark.parametrize("pin", ["ab" * 32, ":".join(["AB"] * 32)])
def test_both_forms_of_hashes_are_taken(pin: str) -> None:
    made = context(mode="MUTUAL", credential_name="c", verify_certificate_hash=(pin,))
    expected = made.common_tls_context.combined_validation_context.default_validation_context
    assert list(expected.verify_certificate_hash) == [pin]


@pytest.mark.parametrize(
    ("mode", "required", "validates"),
    [("SIMPLE", False, False), ("MUTUAL", True, True), ("OPTIONAL_MUTUAL", False, True), ("ISTIO_MUTUAL", True, True)],
)
def test_who_must_show_a_certificate(mode: str, required: bool, validates: bool) -> None:
    settings = {} if mode == "ISTIO_MUTUAL" else {"credential_name": "c"}
    made = context(mode=mode, **settings)
    assert made.require_client_certificate.value is required
    assert made.common_tls_context.HasField("combined_validation_context") is validates


def test_names_are_checked_without_a_ca_of_ones_own_too() -> None:
    made = context(mode="SIMPLE", credential_name="c", subject_alt_names=("a.example",))
    assert [m.exact for m in made.common_tls_context.validation_context.match_subject_alt_names] == ["a.example"]


@pytest.mark.parametrize(
    ("tcp", "words"), [(True, ["istio-peer-exchange", "h2", "http/1.1"]), (False, ["h2", "http/1.1"])]
)
def test_only_bytes_between_sidecars_exchange_metadata(tcp: bool, words: list[str]) -> None:
    assert list(context(mode="ISTIO_MUTUAL", tcp=tcp).common_tls_context.alpn_protocols) == words
    assert list(context(mode="SIMPLE", credential_name="c", tcp=tcp).common_tls_context.alpn_protocols) == words[-2:]


def test_several_pairs_of_files() -> None:
    pairs = (
        TLSCertificate(server_certificate="/1.pem", private_key="/2.pem"),
        TLSCertificate(server_certificate="/3.pem", private_key="/4.pem"),
    )
    agent = context(mode="SIMPLE", tls_certificates=pairs).common_tls_context
    names = [c.name for c in agent.tls_certificate_sds_secret_configs]
    assert names == ["file-cert:/1.pem~/2.pem", "file-cert:/3.pem~/4.pem"]
    local = context(mode="SIMPLE", tls_certificates=pairs, istio=False, mesh_tls=False).common_tls_context
    assert [c.private_key.filename for c in local.tls_certificates] == ["/2.pem", "/4.pem"]


def test_sidecars_trust_the_meshs_domains() -> None:
    mesh = "trustDomain: mesh.example\ntrustDomainAliases: [old.example, mesh.example]"
    made = tls_pb2.DownstreamTlsContext()
    mesh_tls_socket(Reader(world_of(mesh=mesh)), tcp=True, files=CertificateFiles()).typed_config.Unpack(made)
    expected = made.common_tls_context.combined_validation_context.default_validation_context
    assert [m.prefix for m in expected.match_subject_alt_names] == ["spiffe://mesh.example/", "spiffe://old.example/"]
    assert made.require_client_certificate.value
