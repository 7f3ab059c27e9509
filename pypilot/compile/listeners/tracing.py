"""`HttpConnectionManager.tracing` where no provider is chosen: sampling and tags for the tracer of the bootstrap.

MESH-021, PC-007, TEL-026, TEL-029…031.
"""

from typing import TypeAlias

from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.type.tracing.v3 import custom_tag_pb2

from pypilot.compile.proxy_settings import CustomTag, TracingSettings
from pypilot.compile.view import TracingIdentity
from pypilot.world.reader import Reader

_UNKNOWN = "unknown"
_RBAC = "envoy.filters.http.rbac"
_DRY_RUN = {
    "allow_policy.name": "istio_dry_run_allow_shadow_effective_policy_id",
    "allow_policy.result": "istio_dry_run_allow_shadow_engine_result",
    "deny_policy.name": "istio_dry_run_deny_shadow_effective_policy_id",
    "deny_policy.result": "istio_dry_run_deny_shadow_engine_result",
}
"""Tag -> what the RBAC filter leaves behind when it only rehearses."""

Tracing: TypeAlias = hcm_pb2.HttpConnectionManager.Tracing


def _literal(tag: str, value: str) -> custom_tag_pb2.CustomTag:
    return custom_tag_pb2.CustomTag(tag=tag, literal=custom_tag_pb2.CustomTag.Literal(value=value))


def _dry_run(tag: str, key: str) -> custom_tag_pb2.CustomTag:
    made = custom_tag_pb2.CustomTag(tag=f"istio.authorization.dry_run.{tag}")
    made.metadata.kind.request.SetInParent()
    made.metadata.metadata_key.key = _RBAC
    made.metadata.metadata_key.path.add(key=key)
    return made


def _istio_tags(identity: TracingIdentity) -> list[custom_tag_pb2.CustomTag]:
    literals = {
        "istio.canonical_revision": identity.canonical_revision or "latest",
        "istio.canonical_service": identity.canonical_service or _UNKNOWN,
        "istio.mesh_id": identity.mesh_id or _UNKNOWN,
        "istio.namespace": identity.namespace or "default",
        "istio.cluster_id": identity.cluster_id or _UNKNOWN,
    }
    tags = [_literal(tag, value) for tag, value in literals.items()]
    return tags + [_dry_run(tag, key) for tag, key in _DRY_RUN.items()]


def _custom(tag: CustomTag) -> custom_tag_pb2.CustomTag:
    if tag.kind == "literal":
        return _literal(tag.tag, tag.value)
    made = custom_tag_pb2.CustomTag(tag=tag.tag)
    source = made.environment if tag.kind == "environment" else made.request_header
    source.name = tag.value
    source.default_value = tag.default
    return made


def tracing(reader: Reader, settings: TracingSettings, identity: TracingIdentity) -> Tracing | None:
    """The tracing settings of all connection managers of a workload; None where tracing is off."""
    if not reader.mesh().enable_tracing:
        return None
    made = Tracing()
    made.client_sampling.value = 100.0
    made.random_sampling.value = settings.sampling
    made.overall_sampling.value = 100.0
    tags = _istio_tags(identity) if settings.istio_tags else []
    tags += [_custom(tag) for tag in settings.custom_tags]
    made.custom_tags.extend(sorted(tags, key=lambda t: t.tag))
    if settings.max_path_tag_length:
        made.max_path_tag_length.value = settings.max_path_tag_length
    return made
