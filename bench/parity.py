"""Compare what pypilot compiles with what a real istiod served for the same world.

A recording is a directory `NAME/` with `world.yaml` (Kubernetes and Istio objects), `mesh.yaml` (MeshConfig),
`nodes/NODE.json` (Envoy nodes) and `istiod/NODE/TYPE.json` (a list of {"name", "resource"}); `cluster.yaml` beside them
holds what every API server has by itself. Prints a table: F1 over leaves and resources equal in every leaf.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.leaves import Difference, Score, compare
from pypilot.assembly import load
from pypilot.compile.generators import GENERATORS
from pypilot.engine.loop import Engine
from pypilot.settings import Settings
from pypilot.wire.decode import resource_to_dict
from pypilot.wire.node import PROXY_TYPES, Proxy, parse_node
from pypilot.wire.types import BY_SHORT

DEFAULT = Path("../shared/scenarios")
TYPES = ("CDS", "LDS", "EDS", "RDS")


def engine_for(scenario: Path) -> Engine:
    """An engine that holds the recording's world."""
    shared = scenario.parent / "cluster.yaml"
    paths = [p for p in (shared, scenario / "world.yaml") if p.exists()]
    mesh = scenario / "mesh.yaml"
    return load(Settings(config=tuple(paths), mesh_config=mesh if mesh.exists() else None), GENERATORS)[0]


def ours(engine: Engine, proxy: Proxy) -> dict[str, dict[str, Any]]:
    """What one proxy gets: type -> name -> decoded resource."""
    found = engine.compile_for(proxy)
    return {t: {r.name: resource_to_dict(r) for r in found[BY_SHORT[t]]} for t in TYPES}


def recorded(folder: Path) -> dict[str, dict[str, Any]]:
    """What istiod served to one node."""
    out: dict[str, dict[str, Any]] = {}
    for kind in TYPES:
        path = folder / f"{kind}.json"
        items = json.loads(path.read_text()) if path.exists() else []
        out[kind] = {item["name"]: item["resource"] for item in items}
    return out


def nodes(scenario: Path) -> Iterator[tuple[str, Proxy]]:
    """The recording's nodes that are Envoys."""
    for path in sorted((scenario / "nodes").glob("*.json")):
        if not (scenario / "istiod" / path.stem).is_dir():
            continue
        data = json.loads(path.read_text())
        if data["id"].partition("~")[0] in PROXY_TYPES[:2]:
            yield path.stem, parse_node(data)


def _row(table: Table, where: str, node: str, scores: dict[str, Score]) -> Score:
    total = Score()
    for score in scores.values():
        total += score
    cells = [f"{scores[t].f1:.4f} {scores[t].exact}/{scores[t].resources}" for t in TYPES]
    table.add_row(where, node, *cells, f"{total.f1:.4f}", f"{total.exact_share:.1%}")
    return total


def main() -> int:
    """Print the table; with `--show`, the differences too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, default=DEFAULT, metavar="DIR")
    parser.add_argument("--only", default="", help="scenarios whose name starts with this")
    parser.add_argument("--node", default="", help="nodes whose name starts with this")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print up to N differing leaves a node")
    parser.add_argument("--source", choices=("files", "kube"), default="files", help="how the worlds come to pypilot")
    given = parser.parse_args()
    if not given.recordings.is_dir():
        print(f"no recordings at {given.recordings}: nothing to compare")
        return 0
    if given.source == "files":
        return _compare(given, engine_for)
    from bench.parity_kube import cluster_engines  # what it imports belongs to the tests

    with cluster_engines() as engines:
        return _compare(given, engines)


def _compare(given: argparse.Namespace, engines: Callable[[Path], Engine]) -> int:
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table(title="parity with recorded istiod: F1 of leaves, exact resources", box=None)
    for column in ("scenario", "node", *TYPES, "F1", "exact"):
        table.add_column(column)
    total = Score()
    differences: list[tuple[str, Difference]] = []
    for scenario in sorted(p for p in given.recordings.iterdir() if (p / "world.yaml").exists()):
        if not scenario.name.startswith(given.only):
            continue
        engine = engines(scenario)
        for node, proxy in nodes(scenario):
            if not node.startswith(given.node):
                continue
            mine, theirs = ours(engine, proxy), recorded(scenario / "istiod" / node)
            scores = {}
            for kind in TYPES:
                scores[kind], found = compare(theirs[kind], mine[kind])
                differences += [(f"{scenario.name} {node} {kind}", d) for d in found[: given.show]]
            total += _row(table, scenario.name, node, scores)
    table.add_section()
    table.add_row("all", "", *[""] * len(TYPES), f"{total.f1:.4f}", f"{total.exact_share:.1%}")
    console.print(table)
    for where, difference in differences:
        print(f"{where} {difference.resource} {difference.path}: {difference.reference!r} | {difference.candidate!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
