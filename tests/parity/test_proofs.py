"""What the recordings prove about single rows of the checklist (`proofs.yaml`)."""

import json
import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from bench.archive import extract
from bench.leaves import leaves
from bench.recordings import ByName, compiled, engine_for, nodes, recorded

PROOFS = yaml.safe_load(Path(__file__).with_name("proofs.yaml").read_text())


@cache
def both(scenario: str) -> dict[str, tuple[dict[str, ByName], dict[str, ByName]]]:
    """Node -> what istiod served and what we do, by type."""
    with TemporaryDirectory() as folder:
        path = extract(scenario, Path(folder))
        engine = engine_for(path)
        return {node: (recorded(path / "istiod" / node), compiled(engine, proxy)) for node, proxy in nodes(path)}


def lines(resources: ByName) -> set[str]:
    return {
        f"{name} {'.'.join(path)} = {json.dumps(value)}"
        for name, resource in resources.items()
        for path, value in leaves(resource).items()
    }


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: f"{proof['row']} {proof['of']}")
def test_the_recording_proves_the_row(proof: dict[str, Any]) -> None:
    assert proof.keys() <= {"row", "of", "leaves", "never"}
    scenario, node, kind = proof["of"].split()
    theirs, ours = (lines(side[kind]) for side in both(scenario)[node])
    for pattern in proof["leaves"]:
        found = {line for line in theirs if re.search(pattern, line)}
        assert found, f"the recording has no leaf {pattern}"
        assert found <= ours, sorted(found - ours)[:5]
    for pattern in proof.get("never", ()):
        assert not [line for line in theirs | ours if re.search(pattern, line)]
