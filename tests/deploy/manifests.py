"""The project's manifests as data."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
KUSTOMIZE = DEPLOY / "kubernetes"
CHART = DEPLOY / "helm" / "pypilot"
Data = dict[str, Any]


def documents(text: str) -> list[Data]:
    """The objects of a stream."""
    return [data for data in yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if data]


def _run(program: str, variable: str, *arguments: object) -> str:
    found = os.environ.get(variable) or shutil.which(program)
    if not found:
        pytest.skip(f"needs {program}: put it on PATH or name it in {variable}")
    done = subprocess.run([found, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def kustomized(name: str | Path = "") -> list[Data]:
    """What `kubectl apply -k deploy/kubernetes/NAME` would send; or of a directory elsewhere."""
    return documents(_run("kubectl", "KUBECTL", "kustomize", KUSTOMIZE / name))


def templated(*arguments: str, namespace: str = "istio-system") -> list[Data]:
    """What `helm install pypilot` would send."""
    base = ("template", "pypilot", CHART, "--namespace", namespace, "--kube-version", "1.36.0")
    return documents(_run("helm", "HELM", *base, *arguments))


def find(objects: list[Data], kind: str, name: str, namespace: str | None = None) -> Data:
    """The one object of that name."""
    found = [o for o in objects if o["kind"] == kind and re.fullmatch(name, o["metadata"]["name"])]
    if namespace is not None:
        found = [o for o in found if o["metadata"].get("namespace", "") == namespace]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]
