"""Kubernetes' strategic merge, for the parts of a Pod. Pure; changes none of its arguments.

Lists of things with a key are merged by it; other lists are replaced; null takes away; `$patch: delete` and
`$patch: replace` are understood. Source: Kubernetes API conventions and the patch keys of `core/v1` Pod.
"""

import copy
from collections.abc import Mapping
from typing import Any, Final

_KEYS: Final = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "ownerReferences": "uid",
}
_EITHER: Final = {"env": ("value", "valueFrom")}
"""Fields of which an item has one: the overlay's takes the other's place."""
_DIRECTIVE: Final = "$patch"


def merge(base: Any, overlay: Any, field: str = "") -> Any:
    """`overlay` over `base`, which are the values of a field of this name."""
    if isinstance(base, Mapping) and isinstance(overlay, Mapping):
        return _merge_maps(base, overlay)
    if isinstance(base, list) and isinstance(overlay, list) and field in _KEYS:
        return _merge_lists(base, overlay, field)
    return _without_directives(overlay)


def _merge_maps(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    if overlay.get(_DIRECTIVE) == "replace":
        return {k: v for k, v in copy.deepcopy(dict(overlay)).items() if k != _DIRECTIVE}
    out = copy.deepcopy(dict(base))
    for key, value in overlay.items():
        if value is None or (isinstance(value, Mapping) and value.get(_DIRECTIVE) == "delete"):
            out.pop(key, None)
        elif key != _DIRECTIVE:
            out[key] = merge(out[key], value, key) if key in out else _without_directives(value)
    return out


def _merge_lists(base: list[Any], overlay: list[Any], field: str) -> list[Any]:
    key, either = _KEYS[field], _EITHER.get(field, ())
    out = copy.deepcopy(base)
    for item in overlay:
        at = next((i for i, old in enumerate(out) if _is_same(old, item, key)), None)
        if isinstance(item, Mapping) and item.get(_DIRECTIVE) == "delete":
            if at is not None:
                del out[at]
        elif at is None:
            out.append(_without_directives(item))
        else:
            kept = {k: v for k, v in out[at].items() if k not in either or not any(e in item for e in either)}
            out[at] = merge(kept, item)
    return out


def _is_same(old: Any, new: Any, key: str) -> bool:
    if not isinstance(old, Mapping) or not isinstance(new, Mapping) or new.get(key) is None:
        return False
    # TCP and UDP may have the same number.
    protocols = (m.get("protocol") or "TCP" for m in (old, new)) if key == "containerPort" else ("", "")
    first, second = protocols
    return bool(old.get(key) == new[key] and first == second)


def _without_directives(value: Any) -> Any:
    """An overlay where there is nothing to merge with: nothing to delete, nothing to replace."""
    if isinstance(value, Mapping):
        return {
            k: _without_directives(v)
            for k, v in value.items()
            if v is not None and k != _DIRECTIVE and not (isinstance(v, Mapping) and v.get(_DIRECTIVE) == "delete")
        }
    if isinstance(value, list):
        kept = (v for v in value if not (isinstance(v, Mapping) and v.get(_DIRECTIVE) == "delete"))
        return [_without_directives(v) for v in kept]
    return copy.deepcopy(value)
