"""MeshConfig from its YAML text: user values over Istio's built-in defaults (MESH-001, MESH-002).

A field that the text gives replaces the default whole; fields of `defaultConfig` do so one by one, because the defaults
are those of the structs. What cannot be used is never half used: an error in any field leaves the caller with its last
MeshConfig. Pure.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from pypilot.kinds.base import Finding
from pypilot.kinds.field_findings import field_findings, field_path
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.kinds.parse import convert, locate, without_nulls
from pypilot.kinds.yaml_data import YamlError, line_of, load_document, load_positions, split_documents


def _load(text: str) -> Any:
    chunks = list(split_documents(text))
    documents = [d for d, _ in (load_document("\n" * c.line + c.text) for c in chunks) if d is not None]
    if len(documents) > 1:
        raise YamlError("want one document", chunks[1].line)
    return documents[0] if documents else {}


def _is_authority(pem: str) -> bool:
    # Here, for few meshes have such certificates, and the library is big.
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (ValueError, x509.ExtensionNotFound):
        return False


def _with_usable_certificates(
    mesh: MeshConfig, findings: tuple[Finding, ...]
) -> tuple[MeshConfig, tuple[Finding, ...]]:
    """A root that is none is left out alone; its trust domains count."""
    bad = {i for i, c in enumerate(mesh.ca_certificates) if c.pem and not _is_authority(c.pem)}
    if not bad:
        return mesh, findings
    kept = tuple(replace(c, pem="") if i in bad else c for i, c in enumerate(mesh.ca_certificates))
    message = "not the certificate of an authority in PEM form: it is left out"
    found = (Finding(f"caCertificates[{i}].pem", message) for i in sorted(bad))
    return replace(mesh, ca_certificates=kept), (*findings, *found)


def parse_mesh_config(text: str) -> tuple[MeshConfig | None, tuple[Finding, ...]]:
    """The MeshConfig and what is worth a warning; None and the error if the text cannot be used."""
    try:
        data = _load(text)
    except YamlError as error:
        where = f"line {error.line + 1}" + (f", column {error.column}" if error.column else "")
        return None, (Finding("", f"not valid YAML: {error} ({where})", code="syntax"),)
    if not isinstance(data, Mapping):
        return None, (Finding("", "want a mapping of MeshConfig fields", code="syntax"),)
    data = without_nulls(data)
    warnings = tuple(field_findings(MeshConfig, data))
    try:
        return _with_usable_certificates(convert(data, MeshConfig), warnings)
    except msgspec.ValidationError as error:
        path, message = locate(error, data, MeshConfig)
        return None, (*warnings, Finding(field_path(path), message))


def mesh_line_of(text: str, field: str) -> int:
    """The line (from 0) of a field in the text of a MeshConfig, for the fields that `parse_mesh_config` names."""
    for chunk in split_documents(text):
        root = load_positions("\n" * chunk.line + chunk.text)
        if root is not None:
            return line_of(root, field)
    return 0
