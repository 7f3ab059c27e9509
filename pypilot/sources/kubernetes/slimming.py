"""What is cut off an object that was just decoded, because pypilot never reads it, and what objects share. Pure.

A cluster has thousands of pods that differ in name and address only: equal texts and equal parts of them become one
Python object. Works on objects that nobody else has seen yet.
"""

from sys import intern
from typing import Any, Final

import msgspec

from pypilot.kinds.base import Object
from pypilot.kinds.config_map import ConfigMap
from pypilot.kinds.pod import Pod

CONFIG_MAP_KEYS: Final = frozenset({"mesh", "meshNetworks", "cacert", "ca.crt", "crl", "ca.crl", "injection"})
"""What is read of ConfigMaps: MeshConfig, mesh networks, CA bundles (MESH-001, GW-047) and how pods are injected."""
_UNREAD = frozenset({"kubectl.kubernetes.io/last-applied-configuration", "sidecar.istio.io/status"})
_ISTIO = "istio.io"
_READ_CONDITION = "Ready"
_SHARED_AT_MOST = 10_000

_set = msgspec.structs.force_setattr


class Slimmer:
    """Slims the objects of one kind."""

    def __init__(self) -> None:
        self._shared: dict[Any, Any] = {}
        self._texts: dict[int, dict[str, str]] = {}

    def slim(self, obj: Object) -> bool:
        """Cut and share in place; False if nothing of use is left."""
        meta = obj.metadata
        _set(meta, "namespace", intern(meta.namespace))
        _set(meta, "creation_timestamp", intern(meta.creation_timestamp))
        for key in _UNREAD.intersection(meta.annotations):
            del meta.annotations[key]
        if meta.owner_references:
            _set(meta, "owner_references", self._share(meta.owner_references))
        if isinstance(obj, Pod):
            self._slim_pod(obj)
        elif isinstance(obj, ConfigMap):
            for key in obj.data.keys() - CONFIG_MAP_KEYS:
                del obj.data[key]
        _set(meta, "labels", self._share_texts(meta.labels))
        _set(meta, "annotations", self._share_texts(meta.annotations))
        return not isinstance(obj, ConfigMap) or bool(obj.data)

    def _slim_pod(self, pod: Pod) -> None:
        annotations = pod.metadata.annotations
        for key in [k for k in annotations if not k.partition("/")[0].endswith(_ISTIO)]:
            del annotations[key]
        spec, status = pod.spec, pod.status
        _set(spec, "containers", self._share(spec.containers))
        _set(spec, "node_name", intern(spec.node_name))
        _set(spec, "service_account_name", intern(spec.service_account_name))
        _set(status, "phase", intern(status.phase))
        _set(status, "host_ip", intern(status.host_ip))
        for ip in status.pod_ips:
            if ip.ip == status.pod_ip:
                _set(ip, "ip", status.pod_ip)
        conditions = tuple(c for c in status.conditions if c.type == _READ_CONDITION)
        _set(status, "conditions", self._share(conditions))

    def _share_texts(self, texts: dict[str, str]) -> dict[str, str]:
        """Pods of one template have equal labels. Nobody changes what was decoded, so they can have the same ones."""
        key = hash(tuple(texts.items()))  # the items themselves would weigh more than what is saved
        found = self._texts.get(key)
        if found == texts:
            return found
        if len(self._texts) >= _SHARED_AT_MOST:
            self._texts.clear()
        made = self._texts[key] = {intern(key): intern(value) for key, value in texts.items()}
        return made

    def _share(self, part: Any) -> Any:
        if len(self._shared) >= _SHARED_AT_MOST:
            self._shared.clear()
        return self._shared.setdefault(part, part)
