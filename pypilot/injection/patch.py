"""The JSON patch (RFC 6902) that makes one document of another. Pure.

Only `add`, `remove` and `replace`; lists are compared item by item. Short enough not to need a library.
"""

from typing import Any

Operation = dict[str, Any]


def json_patch(old: Any, new: Any, path: str = "") -> list[Operation]:
    """Operations in the order in which they are to be applied."""
    if isinstance(old, dict) and isinstance(new, dict):
        return _of_maps(old, new, path)
    if isinstance(old, list) and isinstance(new, list):
        return _of_lists(old, new, path)
    if _equal(old, new):
        return []
    return [{"op": "replace", "path": path, "value": new}]


def _of_maps(old: dict[str, Any], new: dict[str, Any], path: str) -> list[Operation]:
    out: list[Operation] = [{"op": "remove", "path": f"{path}/{_escaped(k)}"} for k in old if k not in new]
    for key, value in new.items():
        at = f"{path}/{_escaped(key)}"
        out += json_patch(old[key], value, at) if key in old else [{"op": "add", "path": at, "value": value}]
    return out


def _of_lists(old: list[Any], new: list[Any], path: str) -> list[Operation]:
    """What comes before is put in front, so that the items behind it need not change."""
    common = next((n for n in range(len(new) - len(old), 0, -1) if _equal(new[n:], old)), 0)
    if common and old:
        return [{"op": "add", "path": f"{path}/{i}", "value": value} for i, value in enumerate(new[:common])]
    out: list[Operation] = []
    for i, (before, after) in enumerate(zip(old, new, strict=False)):
        out += json_patch(before, after, f"{path}/{i}")
    out += [{"op": "remove", "path": f"{path}/{i}"} for i in range(len(old) - 1, len(new) - 1, -1)]
    out += [{"op": "add", "path": f"{path}/-", "value": value} for value in new[len(old) :]]
    return out


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _equal(old: Any, new: Any) -> bool:
    """JSON's equality: true is not 1."""
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(_equal(a, b) for a, b in zip(old, new, strict=True))
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(_equal(old[k], new[k]) for k in old)
    return bool(old == new)
