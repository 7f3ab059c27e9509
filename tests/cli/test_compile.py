import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from pypilot.cli.main import main
from pypilot.wire import types
from pypilot.wire.node import Proxy
from pypilot.wire.resource import ResourceSet
from pypilot.world.reader import Reader
from tests.cli.demo_world import NODE, write_world


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return write_world(tmp_path)


def run(*args: object, stdin: str = "") -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["compile", *map(str, args)], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def names(entries: list[dict[str, Any]]) -> set[str]:
    return {e["name"] for e in entries}


def test_everything_one_proxy_would_be_sent(world: Path) -> None:
    code, out, err = run(world / "config", "--node", world / "node.json", "-o", "json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert list(found) == sorted(found) == ["CDS", "ECDS", "EDS", "LDS", "RDS", "SDS"]
    assert names(found["CDS"]) >= {"outbound|80||first.default.svc.cluster.local"}
    assert "0.0.0.0_80" in names(found["LDS"])
    assert names(found["RDS"]) == {"http.80"}
    assert names(found["EDS"]) <= names(found["CDS"])
    assert found["ECDS"] == []


def test_the_node_may_come_from_standard_input_and_yaml_is_the_default(world: Path) -> None:
    code, out, _ = run(world / "config", "--node", "-", "--type", "RDS", stdin=json.dumps(NODE))
    assert code == 0
    (entry,) = yaml.safe_load(out)
    assert entry["name"] == "http.80"
    hosts = entry["resource"]["virtual_hosts"]
    assert "shop.example.com" in hosts[0]["domains"]


def test_out_writes_one_canonical_file_a_type(world: Path) -> None:
    out = world / "out" / "deep"
    code, printed, err = run(world / "config", "--node", world / "node.json", "--out", out)
    assert (code, printed) == (0, "")
    assert "1 RDS" in err
    assert sorted(p.name for p in out.iterdir()) == [f"{t}.json" for t in ("CDS", "ECDS", "EDS", "LDS", "RDS", "SDS")]
    for path in out.iterdir():
        entries = json.loads(path.read_text())
        assert path.read_text() == json.dumps(entries, indent=1, sort_keys=True) + "\n"
        assert [e["name"] for e in entries] == sorted(e["name"] for e in entries)
    assert (out / "ECDS.json").read_text() == "[]\n"


def test_errors_in_the_files_are_told_and_the_rest_is_compiled(world: Path) -> None:
    (world / "config" / "bad.yaml").write_text("kind: [\n")
    code, out, err = run(world / "config", "--node", world / "node.json", "--type", "LDS", "-o", "json")
    assert code == 0
    assert "bad.yaml:2: error: not valid YAML" in err
    assert "0.0.0.0_80" in names(json.loads(out))


def test_the_mesh_config_is_taken_from_its_file(world: Path) -> None:
    (world / "mesh.yaml").write_text("connectTimeout: 7s\n")
    args = (world / "config", "--node", world / "node.json", "--type", "CDS", "-o", "json")
    _, out, _ = run(*args, "--mesh-config", world / "mesh.yaml")
    assert {e["resource"].get("connect_timeout") for e in json.loads(out)} >= {"7s"}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"id": "x"}', '{"id": "router~nowhere~a.b~c"}', '{"id": 5}'])
def test_a_bad_node_is_a_clear_error(world: Path, text: str) -> None:
    code, _, err = run(world / "config", "--node", "-", stdin=text)
    assert code == 1
    assert err.startswith("Error: --node: ")


def test_the_same_input_gives_the_same_output_whatever_the_order_and_the_hash_seed(world: Path) -> None:
    config = world / "config"
    other = world / "other"
    other.mkdir()
    texts = [text for path in sorted(config.iterdir()) for text in path.read_text().split("---\n")]
    for i, text in enumerate(reversed(texts)):
        (other / f"{i}.yaml").write_text(text)
    printed = set()
    for seed, directory in (("1", config), ("2", config), ("3", other)):
        command = [sys.executable, "-m", "pypilot", "compile", str(directory), "--node", str(world / "node.json")]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
        printed.add(done.stdout)
    assert len(printed) == 1


def test_a_type_that_cannot_be_compiled_is_told_and_the_others_are_printed(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pypilot.compile import generators

    def broken(reader: Reader, proxy: Proxy) -> ResourceSet:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(generators, "GENERATORS", {**generators.GENERATORS, types.ROUTE: broken})
    code, out, err = run(world / "config", "--node", world / "node.json", "-o", "json")
    assert code == 1
    assert "error: cannot compile RouteConfiguration" in err
    assert "0.0.0.0_80" in names(json.loads(out)["LDS"])
    assert json.loads(out)["RDS"] == []
