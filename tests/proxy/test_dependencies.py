"""The group `agent` of pyproject.toml, of which the image of injected pods is made, names what the agent imports."""

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
AGENT = set(PROJECT["dependency-groups"]["agent"])
MODULES = (
    "pypilot.cli.main",
    "pypilot.cli.proxy",
    "pypilot.cli.iptables",
    "pypilot.cli.wait",
    "pypilot.cli.version",
    "pypilot.proxy.agent",
    "pypilot.proxy.render",
)


def name_of(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def required(names: set[str]) -> set[str]:
    """They and all that they require in turn; envoy-data-plane wants all optional parts of betterproto2."""
    found: set[str] = set()
    left = set(names)
    while left:
        name = left.pop()
        try:
            requires = metadata.requires(name) or ()
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        left |= {name_of(r) for r in requires if "extra ==" not in r or name == "betterproto2"} - found
    return found


def test_it_is_a_part_of_what_is_needed() -> None:
    needed = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["cli"]
    assert {name_of(r) for r in needed} >= AGENT


@pytest.mark.parametrize("module", MODULES)
def test_nothing_else_is_imported(module: str) -> None:
    program = f"import sys, json, {module}; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    owners = metadata.packages_distributions()
    shared = {"google"}  # a namespace of several packages
    distributions = {
        name: {d.lower().replace("_", "-") for d in owners[name]}
        for name in loaded
        if name in owners and name not in {"pypilot", *shared}
    }
    allowed = required(AGENT)
    unwanted = {name for name, packages in distributions.items() if not packages & allowed}
    assert unwanted <= {"_distutils_hack", "grpc_tools"}  # setuptools is everywhere; grpc does without its tools
