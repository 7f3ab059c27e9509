"""What is wrong with an EnvoyFilter by itself (VAL-010), and the smallest thing that is rejected for it."""

from typing import Any

import pytest

from pypilot.kinds import kind_of
from pypilot.kinds.envoy_filter import EnvoyFilter
from pypilot.kinds.envoy_filter_validation import version_search
from pypilot.kinds.parse import Parsed, parse_object

MANAGER = "envoy.filters.network.http_connection_manager"
GOOD = {"applyTo": "CLUSTER", "patch": {"operation": "ADD", "value": {"name": "good"}}}


def parse(*patches: dict[str, Any], **spec: Any) -> Parsed:
    kind = kind_of("networking.istio.io/v1alpha3", "EnvoyFilter")
    assert kind is not None
    body = {"configPatches": list(patches), **spec}
    return parse_object(kind, {"metadata": {"name": "f", "namespace": "n"}, "spec": body})


def changed(apply_to: str = "HTTP_FILTER", operation: str = "ADD", value: Any = None, **match: Any) -> dict[str, Any]:
    return {"applyTo": apply_to, "match": match, "patch": {"operation": operation, "value": value or {"name": "f"}}}


def named(name: str, **below: Any) -> dict[str, Any]:
    return {"filterChain": {"filter": {"name": name, **below}}}


REJECTED = {
    "no applyTo": ({"patch": {"operation": "REMOVE"}}, "applyTo"),
    "no patch": ({"applyTo": "CLUSTER"}, "patch"),
    "no operation": ({"applyTo": "CLUSTER", "patch": {"value": {}}}, "patch.operation"),
    "unknown kind": ({**GOOD, "applyTo": "INVALID"}, "applyTo"),
    "unknown operation": ({"applyTo": "CLUSTER", "patch": {"operation": "PATCH"}}, "patch.operation"),
    "no value": ({"applyTo": "CLUSTER", "patch": {"operation": "ADD"}}, "patch.value"),
    "value is a list": ({"applyTo": "CLUSTER", "patch": {"operation": "ADD", "value": []}}, "patch.value"),
    "bad expression": (changed(proxy={"proxyVersion": "1.("}), "match.proxy.proxyVersion"),
    "odd expression": (changed(proxy={"proxyVersion": r"\p{Greek}"}), "match.proxy.proxyVersion"),
    "match of another kind": (changed("CLUSTER", listener={"portNumber": 5}), "match.listener"),
    "two matches": (changed(listener={}, cluster={}), "match"),
    "nameless filter": (changed(listener=named("")), "match.listener.filterChain.filter.name"),
    "sub filter elsewhere": (
        changed("NETWORK_FILTER", listener=named(MANAGER, subFilter={"name": "x"})),
        "match.listener.filterChain.filter.subFilter",
    ),
    "sub filter of another": (
        changed(listener=named("tcp", subFilter={"name": "x"})),
        "match.listener.filterChain.filter.subFilter",
    ),
    "nameless sub filter": (
        changed(listener=named(MANAGER, subFilter={})),
        "match.listener.filterChain.filter.subFilter.name",
    ),
    "port too big": (changed(listener={"portNumber": 2**32}), "match.listener.portNumber"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_a_wrong_patch_is_rejected_alone(case: str) -> None:
    patch, field = REJECTED[case]
    parsed = parse(GOOD, patch, GOOD)
    assert [f.field for f in parsed.findings if f.severity == "error"] == [f"spec.configPatches[1].{field}"]
    assert isinstance(parsed.object, EnvoyFilter)
    assert len(parsed.object.spec.config_patches) == 2


WARNED = {
    "old name": (changed(listener=named("envoy.tcp_proxy")), "match.listener.filterChain.filter.name"),
    "filter match of a listener": (changed("LISTENER", listener=named("x")), "match.listener.filterChain.filter"),
    "filter class": (
        {"applyTo": "CLUSTER", "patch": {**GOOD["patch"], "filterClass": "AUTHZ"}},
        "patch.filterClass",
    ),
    "replaced route": (changed("HTTP_ROUTE", "REPLACE"), "patch.operation"),
    "replaced lists of filters": (changed(operation="MERGE_AND_REPLACE_LIST"), "patch.operation"),
    "removed filter without name": (changed(operation="REMOVE"), "match"),
    "bootstrap": (changed("BOOTSTRAP", "MERGE"), "applyTo"),
    "port name": (changed(listener={"portName": "x"}), "match.listener.portName"),
    "transport socket": (
        changed(listener={"filterChain": {"transportSocket": "x"}}),
        "match.listener.filterChain.transportSocket",
    ),
    "endless expression": (changed(proxy={"proxyVersion": "x" * 1025}), "match.proxy.proxyVersion"),
}


@pytest.mark.parametrize("case", WARNED)
def test_what_has_no_effect_is_told(case: str) -> None:
    """EF-014, EF-023: a bootstrap is for the proxy's agent alone."""
    patch, field = WARNED[case]
    parsed = parse(patch)
    assert [(f.field, f.severity) for f in parsed.findings] == [(f"spec.configPatches[0].{field}", "warning")]
    assert isinstance(parsed.object, EnvoyFilter)
    assert len(parsed.object.spec.config_patches) == 1


def test_matches_of_waypoints_are_left_to_them() -> None:
    parsed = parse(changed("HTTP_FILTER", context="WAYPOINT", waypoint={"filter": {"name": "x"}}))
    assert [(f.field, f.code) for f in parsed.findings] == [
        ("spec.configPatches[0].match.waypoint", "unsupported-field")
    ]


@pytest.mark.parametrize("labels", [{"": "x"}, {"app": "web*"}])
def test_a_selector_takes_whole_labels(labels: dict[str, str]) -> None:
    assert parse(GOOD, workloadSelector={"labels": labels}).object is None


def test_a_selector_without_labels_is_told() -> None:
    assert [f.severity for f in parse(GOOD, workloadSelector={}).findings] == ["warning"]


@pytest.mark.parametrize(
    ("pattern", "version", "matches"),
    [
        (r"^1\.30.*", "1.30.1", True),
        (r"^1\.3$", "1.30.1", False),
        ("30", "1.30.1", True),
        (r"^1\.(29|30)(\..*)?$", "1.30.1", True),
        (r"^1\.[3][0-9]\.\d+$", "1.30.1", True),
        (r"(?i)DEV", "1.30-dev", True),
    ],
)
def test_versions_are_searched(pattern: str, version: str, matches: bool) -> None:
    """EF-004."""
    search = version_search(pattern)
    assert search is not None
    assert search.found_in(version) == matches


@pytest.mark.parametrize("pattern", ["x" * 1025, r"\pL", "(?=a)", "("])
def test_some_expressions_match_no_version(pattern: str) -> None:
    assert version_search(pattern) is None
