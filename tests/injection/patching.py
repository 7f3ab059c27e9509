"""JSON patches (RFC 6902) applied: `add`, `remove` and `replace`."""

import copy
from typing import Any


def applied(patch: list[dict[str, Any]], document: Any) -> Any:
    out = copy.deepcopy(document)
    for operation in patch:
        if operation["path"] == "":
            assert operation["op"] == "replace"
            out = copy.deepcopy(operation["value"])
            continue
        *above, last = [s.replace("~1", "/").replace("~0", "~") for s in operation["path"].split("/")[1:]]
        place = out
        for step in above:
            place = place[int(step)] if isinstance(place, list) else place[step]
        _apply(operation, place, last)
    return out


def _apply(operation: dict[str, Any], place: Any, last: str) -> None:
    op = operation["op"]
    if isinstance(place, list):
        at = len(place) if last == "-" else int(last)
        assert 0 <= at <= len(place) - (op != "add")
        if op == "add":
            place.insert(at, copy.deepcopy(operation["value"]))
        elif op == "remove":
            del place[at]
        else:
            place[at] = copy.deepcopy(operation["value"])
    elif op == "remove":
        del place[last]
    else:
        assert op == "add" or last in place
        place[last] = copy.deepcopy(operation["value"])
