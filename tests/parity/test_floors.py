"""No scenario about traffic rules falls behind what it has reached: `floors.json` (`pytest --update-floors`)."""

import fcntl
import json
from pathlib import Path

import pytest

from bench.archive import archived, extract
from bench.differences import Filter, read_differences
from bench.leaves import Score
from bench.parity import compare_scenario
from bench.recordings import engine_for, is_traffic

FLOORS = Path(__file__).with_name("floors.json")
SCENARIOS = [name for name in archived() if is_traffic(name)]


def raise_floor(name: str, reached: dict[str, float]) -> None:
    with FLOORS.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # tests run in parallel
        floors = json.load(file)
        old = floors.get(name, {})
        floors[name] = {figure: max(value, old.get(figure, 0.0)) for figure, value in reached.items()}
        file.seek(0)
        file.truncate()
        lines = [f"{json.dumps(key)}: {json.dumps(floors[key])}" for key in sorted(floors)]
        file.write("{\n " + ",\n ".join(lines) + "\n}\n")


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_scenario_falls_behind(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    scenario = extract(name, tmp_path)
    results = list(compare_scenario(scenario, engine_for(scenario), Filter(read_differences())))
    assert results
    total = Score.sum(result.total for result in results)
    reached = {"F1": int(total.f1 * 10**4) / 10**4, "exact": int(total.exact_share * 10**4) / 10**4}
    if request.config.getoption("--update-floors"):
        raise_floor(name, reached)
        return
    differing = [f"{r.node} {kind} {d.resource} {d.path}" for r in results for kind, d in r.differences]
    for figure, floor in json.loads(FLOORS.read_text())[name].items():
        assert reached[figure] >= floor, f"{figure} fell; what differs: {differing[:20]}"


def test_every_floor_belongs_to_a_scenario() -> None:
    assert sorted(json.loads(FLOORS.read_text())) == SCENARIOS
