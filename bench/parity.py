"""Compare what pypilot compiles with what a real istiod served for the same world (see `recordings`).

Prints a table: F1 over leaves and resources equal in every leaf, by node and type; the totals of all and of the
scenarios about traffic rules; and what differs on purpose (`differences.yaml`).
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.archive import RECORDINGS_HELP, recordings
from bench.differences import Filter, read_differences
from bench.leaves import Difference, Score, compare
from bench.recordings import TYPES, compiled, engine_for, is_traffic, nodes, recorded, scenarios_in
from pypilot.engine.loop import Engine


@dataclass(frozen=True, slots=True)
class NodeResult:
    """How one node of one scenario compares, by type."""

    scenario: str
    node: str
    scores: dict[str, Score]
    differences: list[tuple[str, Difference]]
    """With their types."""

    @property
    def total(self) -> Score:
        """Over all types."""
        return Score.sum(self.scores.values())


def compare_scenario(scenario: Path, engine: Engine, deliberate: Filter, node_prefix: str = "") -> Iterator[NodeResult]:
    """Compare every node of a recording whose name starts with the prefix."""
    for node, proxy in nodes(scenario):
        if not node.startswith(node_prefix):
            continue
        ours, theirs = compiled(engine, proxy), recorded(scenario / "istiod" / node)
        scores: dict[str, Score] = {}
        differences: list[tuple[str, Difference]] = []
        for kind in TYPES:
            scores[kind], found = compare(theirs[kind], ours[kind], deliberate.keep(scenario.name, kind))
            differences += [(kind, difference) for difference in found]
        yield NodeResult(scenario.name, node, scores, differences)


def _selected(scenario: str, given: argparse.Namespace) -> bool:
    if not scenario.startswith(given.only):
        return False
    if given.scope in ("all", "traffic"):
        return given.scope == "all" or is_traffic(scenario)
    return scenario in given.scope.split(",")


def _cell(score: Score) -> str:
    return f"{score.f1:.4f} {score.exact}/{score.resources}" if score.resources else "-"


def _table(results: list[NodeResult]) -> Table:
    table = Table(title="parity with recorded istiod: F1 of leaves, exact resources", box=None)
    for column in ("scenario", "node", *TYPES, "F1", "exact"):
        table.add_column(column, no_wrap=True)
    for result in results:
        total = result.total
        cells = [_cell(result.scores[kind]) for kind in TYPES]
        table.add_row(result.scenario, result.node, *cells, f"{total.f1:.4f}", f"{total.exact_share:.1%}")
    table.add_section()
    by_type = [_cell(Score.sum(r.scores[kind] for r in results)) for kind in TYPES]
    table.add_row("each type", "", *by_type, "", "")
    parts = {"all": results, "traffic": [r for r in results if is_traffic(r.scenario)]}
    for name, part in parts.items():
        total = Score.sum(r.total for r in part)
        table.add_row(name, "", *[""] * len(TYPES), f"{total.f1:.4f}", f"{total.exact_share:.1%}")
    return table


def _print_deliberate(deliberate: Filter) -> None:
    for entry, count in deliberate.counts.items():
        used = f"{count} leaves" if count else "UNUSED"
        print(f"not compared: {entry.leaves.pattern!r}, {used}: {entry.reason}")


def _required(results: list[NodeResult], require: list[float]) -> list[str]:
    """What falls short of the total F1, the lowest node's F1 and the exact share that are required."""
    total = Score.sum(r.total for r in results)
    lowest = min(results, key=lambda r: r.total.f1)
    figures = (
        ("total F1", total.f1),
        (f"lowest node's F1 ({lowest.scenario} {lowest.node})", lowest.total.f1),
        ("exact share", total.exact_share),
    )
    return [
        f"{what} is {figure:.4f}, required {least}"
        for (what, figure), least in zip(figures, require, strict=True)
        if figure < least
    ]


def main() -> int:
    """Print the table; with `--show`, the differences too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, metavar="DIR", help=RECORDINGS_HELP)
    parser.add_argument("--scope", default="all", help="all, traffic, or names of scenarios with commas between")
    parser.add_argument("--only", default="", help="scenarios whose name starts with this")
    parser.add_argument("--node", default="", help="nodes whose name starts with this")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print up to N differing leaves of a type")
    parser.add_argument("--require", type=float, nargs=3, metavar=("F1", "NODE", "EXACT"), help="fail if less")
    parser.add_argument("--source", choices=("files", "kube"), default="files", help="how the worlds come to pypilot")
    given = parser.parse_args()
    with recordings(given.recordings) as folder:
        if given.source == "files":
            return _compare(folder, given, engine_for)
        from bench.parity_kube import cluster_engines  # what it imports belongs to the tests

        with cluster_engines() as engines:
            return _compare(folder, given, engines)


def _compare(folder: Path, given: argparse.Namespace, engines: Callable[[Path], Engine]) -> int:
    deliberate = Filter(read_differences())
    results: list[NodeResult] = []
    for scenario in scenarios_in(folder):
        if _selected(scenario.name, given):
            results += compare_scenario(scenario, engines(scenario), deliberate, given.node)
    if not results:
        print("no node of that name")
        return 1
    Console(width=None if sys.stdout.isatty() else 200).print(_table(results))
    lowest = min(results, key=lambda r: r.total.f1)
    print(f"lowest node: {lowest.scenario} {lowest.node} {lowest.total.f1:.4f}")
    _print_deliberate(deliberate)
    for result in results:
        for kind in TYPES if given.show else ():
            for at in [at for of, at in result.differences if of == kind][: given.show]:
                where = f"{result.scenario} {result.node} {kind}"
                print(f"{where} {at.resource} {at.path}: {at.reference!r} | {at.candidate!r}")
    failures = _required(results, given.require) if given.require else []
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
