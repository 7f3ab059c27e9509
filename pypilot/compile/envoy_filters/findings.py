"""What a user is told about EnvoyFilters: values that are no messages, and patches that did not do what they should.

The seam for whoever reports: `bad_values` needs only the world; `outcome` is asked for each connected proxy, and
`idle_patches` makes findings of the outcomes. Compiles nothing that a proxy is not sent anyway.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pypilot.compile.envoy_filters.model import PatchKey, Report, all_of
from pypilot.compile.envoy_filters.selection import patches_of
from pypilot.compile.envoy_filters.sets import clusters_of, extensions_of, listeners_of, routes_of
from pypilot.compile.envoy_filters.values import value_findings
from pypilot.kinds.base import Finding, Ref
from pypilot.wire.node import Proxy
from pypilot.world.reader import Reader


class FilterFinding(NamedTuple):
    """A finding and the EnvoyFilter that it is about."""

    ref: Ref
    finding: Finding


class Outcome(NamedTuple):
    """The patches that a proxy is given, and what they did to its resources."""

    given: frozenset[PatchKey] = frozenset()
    report: Report = Report()


def _bad_values(reader: Reader, ref: Ref) -> tuple[FilterFinding, ...]:
    found = reader.envoy_filter(ref)
    return tuple(FilterFinding(ref, f) for f in value_findings(found)) if found is not None else ()


def bad_values(reader: Reader) -> tuple[FilterFinding, ...]:
    """All patches that are left out because of their value (EF-005)."""
    return tuple(f for ref in reader.envoy_filter_refs() for f in reader.call(_bad_values, ref))


def outcome(reader: Reader, proxy: Proxy) -> Outcome:
    """What became of the patches of one proxy."""
    patches = patches_of(reader, proxy)
    if not patches.keys:
        return Outcome()
    made = (
        (patches.listeners, listeners_of),
        (patches.routes, routes_of),
        (patches.clusters, clusters_of),
        (patches.extensions, extensions_of),
    )
    return Outcome(patches.keys, all_of(generate(reader, proxy).report for keys, generate in made if keys))


def _name(reader: Reader, key: PatchKey) -> str:
    """What the patch does: its position counts only the patches that were not rejected."""
    found = reader.envoy_filter(key.filter)
    patches = found.spec.config_patches if found is not None else ()
    if key.position >= len(patches):
        return "the patch"
    return f"{patches[key.position].patch.operation} {patches[key.position].apply_to}"


def idle_patches(reader: Reader, outcomes: Iterable[Outcome]) -> Iterator[FilterFinding]:
    """Patches that some proxies are given and that changed nothing at any of them, with the reasons if there are any.

    A patch that worked somewhere is as it should be: a filter for many proxies need not mean something for each.
    """
    given: dict[PatchKey, int] = {}
    used: set[PatchKey] = set()
    reasons: dict[PatchKey, str] = {}
    for one in outcomes:
        used |= one.report.used
        for key in one.given:
            given[key] = given.get(key, 0) + 1
        for key, text in one.report.notes:
            reasons.setdefault(key, text)
    for key in sorted(given.keys() - used):
        reason, proxies = reasons.get(key), given[key]
        where = "the connected proxy" if proxies == 1 else f"the {proxies} connected proxies"
        what = f"has no effect: {reason}" if reason else f"matches nothing at {where} that it is for"
        field = f"spec.configPatches[{key.position}]"
        code = "patch-failed" if reason else "patch-matches-nothing"
        yield FilterFinding(key.filter, Finding(field, f"{_name(reader, key)} {what}", "warning", code))
