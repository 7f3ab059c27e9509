"""The resource kinds: one file a kind (its messages, its checks), and their registry.

`KINDS` is the registry: file parsing, validation, and later watches and RBAC derive from it. Adding a kind is one file
and one entry. Nothing here does I/O or knows another object.
"""

from types import MappingProxyType

from pypilot.kinds import (
    authorization_policy_validation,
    config_map,
    core,
    destination_rule_validation,
    endpoint_slice,
    envoy_filter_validation,
    gateway_validation,
    ingress,
    peer_authentication,
    pod,
    proxy_config,
    request_authentication,
    secret,
    service,
    service_entry,
    sidecar_validation,
    virtual_service_validation,
    workload_entry,
    workload_group,
)
from pypilot.kinds.base import Kind

KINDS: tuple[Kind, ...] = (
    core.NAMESPACE,
    core.NODE,
    core.SERVICE_ACCOUNT,
    pod.KIND,
    service.KIND,
    endpoint_slice.KIND,
    secret.KIND,
    config_map.KIND,
    ingress.KIND,
    ingress.CLASS,
    gateway_validation.KIND,
    virtual_service_validation.KIND,
    destination_rule_validation.KIND,
    service_entry.KIND,
    sidecar_validation.KIND,
    envoy_filter_validation.KIND,
    workload_entry.KIND,
    workload_group.KIND,
    proxy_config.KIND,
    peer_authentication.KIND,
    request_authentication.KIND,
    authorization_policy_validation.KIND,
)

BY_GROUP_KIND = MappingProxyType({(kind.group, kind.name): kind for kind in KINDS})


def kind_of(api_version: str, kind: str) -> Kind | None:
    """The registry entry for an object's `apiVersion` and `kind`, or None if pypilot does not read it."""
    group = api_version.rpartition("/")[0]
    return BY_GROUP_KIND.get((group, kind))
