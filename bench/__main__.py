"""Print all figures: `python -m bench [--streams N] [--services N] [--only compile|storm|serve|ca]`."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from bench.ca import ca_rows
from bench.compile_times import compile_rows
from bench.storm import serve_rows, storm_rows


def main() -> None:
    """Run what was asked for, row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=5, help="per service")
    parser.add_argument("--namespaces", type=int, default=10)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--only", choices=("compile", "storm", "serve", "ca"))
    given = parser.parse_args()
    world = (given.services, given.endpoints, given.namespaces)
    parts: dict[str, Iterable[tuple[str, str]]] = {
        "serve": serve_rows(Path("deploy/demo")),
        "compile": compile_rows(*world),
        "ca": ca_rows(),
        "storm": storm_rows(given.streams, *world),
    }
    for name, rows in parts.items():
        if given.only in (None, name):
            for what, value in rows:
                print(f"{what:<62} {value}", flush=True)


if __name__ == "__main__":
    main()
