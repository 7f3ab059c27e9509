"""Kubernetes ConfigMap (v1): MeshConfig, mesh networks and `configmap://` CA bundles come from these."""

from typing import ClassVar

from pypilot.kinds.base import Kind, Object


class ConfigMap(Object, frozen=True, kw_only=True):
    """A ConfigMap."""

    KIND: ClassVar[str] = "ConfigMap"

    data: dict[str, str] = {}


KIND = Kind(ConfigMap, "", ("v1",), "configmaps", open_fields=("*",))
