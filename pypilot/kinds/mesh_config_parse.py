"""MeshConfig from its YAML text: user values over Istio's built-in defaults (MESH-001, MESH-002).

A field that the text gives replaces the default whole; fields of `defaultConfig` do so one by one, because the defaults
are those of the structs. What cannot be used is never half used: an error in any field leaves the caller with its last
MeshConfig. Pure.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from pypilot.kinds.base import Finding
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.kinds.parse import convert, field_path, locate, unknown_mesh_fields, without_nulls
from pypilot.kinds.yaml_data import YamlError, line_of, load_document, load_positions, split_documents

_ISTIO_FIELDS = frozenset(
    (
        "accessLogEncoding", "accessLogFile", "accessLogFormat", "ca", "caCertificates", "certificates",
        "configSources", "connectTimeout", "defaultConfig", "defaultDestinationRuleExportTo", "defaultHttpRetryPolicy",
        "defaultInboundHttpRetryPolicy", "defaultProviders", "defaultServiceExportTo", "defaultTrafficPolicy",
        "defaultVirtualServiceExportTo", "disableEnvoyListenerLog", "discoverySelectors", "dnsRefreshRate",
        "enableAutoMtls", "enableEnvoyAccessLogService", "enablePrometheusMerge", "enableTracing", "extensionProviders",
        "h2UpgradePolicy", "hboneIdleTimeout", "inboundClusterStatName", "inboundTrafficPolicy", "ingressClass",
        "ingressControllerMode", "ingressSelector", "ingressService", "localityLbSetting", "meshMTLS",
        "outboundClusterStatName", "outboundTrafficPolicy", "pathNormalization", "protocolDetectionTimeout",
        "proxyHttpPort", "proxyInboundListenPort", "proxyListenPort", "rootNamespace", "serviceEntryVisibility",
        "serviceScopeConfigs", "serviceSettings", "tcpKeepalive", "tlsDefaults", "trustDomain", "trustDomainAliases",
        "verifyCertificateAtClient", "zoneAwareLbSetting",
    )
)  # fmt: skip
"""The fields of istio.mesh.v1alpha1.MeshConfig (MESH rows), whether pypilot reads them or not."""


def _load(text: str) -> Any:
    chunks = list(split_documents(text))
    documents = [d for d, _ in (load_document("\n" * c.line + c.text) for c in chunks) if d is not None]
    if len(documents) > 1:
        raise YamlError("want one document", chunks[1].line)
    return documents[0] if documents else {}


def _warnings(data: Mapping[str, Any]) -> Iterator[Finding]:
    for finding in unknown_mesh_fields(data, MeshConfig):
        top = finding.field.partition(".")[0].partition("[")[0]
        if finding.field == top:
            known = top in _ISTIO_FIELDS
            message = "pypilot does not use this field of MeshConfig" if known else "MeshConfig has no such field"
            finding = Finding(finding.field, message, "warning", "unused-field" if known else finding.code)
        yield finding


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
    warnings = tuple(_warnings(data))
    try:
        return convert(data, MeshConfig), warnings
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
