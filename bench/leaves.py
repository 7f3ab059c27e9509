"""Compare two sets of decoded resources leaf by leaf (`path = value`).

Lists whose order means nothing to Envoy (endpoints, virtual hosts, domains, …) are compared by content; the order of
routes, filters and filter chains counts.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_UNORDERED = frozenset(
    {
        "lb_endpoints",
        "endpoints",
        "virtual_hosts",
        "domains",
        "prefix_ranges",
        "application_protocols",
        "clusters",
        "match_typed_subject_alt_names",
        "match_subject_alt_names",
        "server_names",
        "ids",
        "principals",
        "permissions",
        "thresholds",
    }
)
Path = tuple[str, ...]


def _item_key(field: str, item: Any, index: int) -> str:
    if isinstance(item, Mapping):
        if field == "lb_endpoints":
            return json.dumps(item.get("endpoint", {}).get("address", {}), sort_keys=True)
        if field == "endpoints" and "locality" in item:
            return json.dumps(item["locality"], sort_keys=True) + str(item.get("priority", 0))
        if field == "virtual_hosts":
            return str(item.get("name", index))
    if field in _UNORDERED:
        return json.dumps(item, sort_keys=True)
    return str(index)


def _walk(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, Mapping):
        if not value:
            yield path, "{}"
        for key, inner in value.items():
            yield from _walk(inner, (*path, key))
    elif isinstance(value, list):
        used: dict[str, int] = {}
        for index, item in enumerate(value):
            key = _item_key(path[-1] if path else "", item, index)
            used[key] = used.get(key, 0) + 1
            yield from _walk(item, (*path, f"[{key}]" if used[key] == 1 else f"[{key}#{used[key]}]"))
    else:
        yield path, value


@dataclass(slots=True)
class Score:
    """Counts that add up over resources, types and nodes."""

    same: int = 0
    reference: int = 0
    candidate: int = 0
    exact: int = 0
    resources: int = 0

    def __iadd__(self, other: "Score") -> "Score":
        self.same += other.same
        self.reference += other.reference
        self.candidate += other.candidate
        self.exact += other.exact
        self.resources += other.resources
        return self

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision; 1 where there is nothing to compare."""
        both = self.reference + self.candidate
        return 2 * self.same / both if both else 1.0

    @property
    def exact_share(self) -> float:
        """Resources that are equal in every leaf, of all that either side has."""
        return self.exact / self.resources if self.resources else 1.0


@dataclass(frozen=True, slots=True)
class Difference:
    """One leaf that is not the same."""

    resource: str
    path: str
    reference: Any
    candidate: Any


def compare(reference: Mapping[str, Any], candidate: Mapping[str, Any]) -> tuple[Score, list[Difference]]:
    """Score the candidate's resources (name -> decoded resource) against the reference's."""
    score, differences = Score(), list[Difference]()
    for name in sorted(reference.keys() | candidate.keys()):
        ours = dict(_walk(candidate[name], ())) if name in candidate else {}
        theirs = dict(_walk(reference[name], ())) if name in reference else {}
        score.reference += len(theirs)
        score.candidate += len(ours)
        score.resources += 1
        score.exact += ours == theirs
        score.same += sum(1 for path, value in theirs.items() if path in ours and ours[path] == value)
        if name not in candidate or name not in reference:
            there = name in reference
            differences.append(
                Difference(name, "", "<present>" if there else "<absent>", "<absent>" if there else "<present>")
            )
            continue
        for path in sorted(theirs.keys() | ours.keys()):
            left, right = theirs.get(path, "<absent>"), ours.get(path, "<absent>")
            if left != right:
                differences.append(Difference(name, ".".join(path), left, right))
    return score, differences
