"""ProxyConfig as JSON, the form in which it travels from MeshConfig by annotations and agents to the Node. Pure.

Must not know what its fields mean.
"""

from collections.abc import Mapping
from typing import Any


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Objects are merged field by field, everything else is replaced (PC-001)."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        out[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return out
