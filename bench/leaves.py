"""Compare two sets of decoded resources leaf by leaf (`path = value`).

Lists whose order means nothing to Envoy (endpoints, virtual hosts, domains, …) are compared by content; the order of
routes, filters and filter chains counts.
"""

import json
from collections.abc import Callable, Iterable, Mapping
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


def leaves(value: Any) -> dict[Path, Any]:
    """Path -> value of everything in a decoded resource; an empty message counts as a leaf, an empty list as none."""
    found: dict[Path, Any] = {}
    _walk(value, (), found)
    return found


def _walk(value: Any, path: Path, found: dict[Path, Any]) -> None:
    if isinstance(value, Mapping):
        if not value:
            found[path] = "{}"
        for key, inner in value.items():
            _walk(inner, (*path, key), found)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            key = _item_key(path[-1] if path else "", item, index)
            at, count = (*path, f"[{key}]"), 1
            while at in found:  # equal scalars; equal messages count once
                count += 1
                at = (*path, f"[{key}#{count}]")
            _walk(item, at, found)
    else:
        found[path] = value


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

    @classmethod
    def sum(cls, scores: Iterable["Score"]) -> "Score":
        """All of them together."""
        total = cls()
        for score in scores:
            total += score
        return total

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


Keep = Callable[[str, Path], bool]
"""Whether the leaf of a resource at a path counts."""


def compare(
    reference: Mapping[str, Any], candidate: Mapping[str, Any], keep: Keep | None = None
) -> tuple[Score, list[Difference]]:
    """Score the candidate's resources (name -> decoded resource) against the reference's.

    A resource without a leaf to count is as if neither side had it.
    """
    score, differences = Score(), list[Difference]()

    def counted(side: Mapping[str, Any], name: str) -> dict[Path, Any]:
        found = leaves(side[name]) if name in side else {}
        return found if keep is None else {path: value for path, value in found.items() if keep(name, path)}

    for name in sorted(reference.keys() | candidate.keys()):
        theirs, ours = counted(reference, name), counted(candidate, name)
        score.reference += len(theirs)
        score.candidate += len(ours)
        score.resources += bool(ours or theirs)
        score.exact += bool(ours) and ours == theirs
        score.same += sum(1 for path, value in theirs.items() if path in ours and ours[path] == value)
        if name not in candidate and theirs:
            differences.append(Difference(name, "", "<present>", "<absent>"))
        elif name not in reference and ours:
            differences.append(Difference(name, "", "<absent>", "<present>"))
        else:
            differences += _differing(name, theirs, ours)
    return score, differences


def _differing(name: str, theirs: Mapping[Path, Any], ours: Mapping[Path, Any]) -> list[Difference]:
    found = []
    for path in sorted(theirs.keys() | ours.keys()):
        left, right = theirs.get(path, "<absent>"), ours.get(path, "<absent>")
        if left != right:
            found.append(Difference(name, ".".join(path), left, right))
    return found
