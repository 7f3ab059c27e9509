"""kubectl on the cluster under test, and what is asked of it. Knows nothing of pypilot."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

Data: TypeAlias = dict[str, Any]

PATIENCE = 300.0
"""Seconds that a cluster is given for anything, however slow its machine is."""


class KubectlError(Exception):
    """A call failed; with what it printed."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """Calls of kubectl, through the prefix that leads to where the cluster can be reached."""

    prefix: tuple[str, ...]
    kubeconfig: str

    def __call__(self, *arguments: str, text: str | None = None, seconds: float = 2 * PATIENCE) -> str:
        """One call; its standard output.

        Raises:
            KubectlError: it failed.
        """
        command = self.command(*arguments)
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds)
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def command(self, *arguments: str) -> tuple[str, ...]:
        """The call as a command, for programs that talk."""
        return (*self.prefix, "kubectl", "--kubeconfig", self.kubeconfig, *arguments)

    def apply(self, *objects: Data) -> None:
        """Create or replace."""
        self("apply", "-f", "-", text=yaml.safe_dump_all(objects))

    def get(self, kind: str, namespace: str, name: str) -> Data:
        """One object."""
        found: Data = json.loads(self("get", kind, name, "--namespace", namespace, "--output", "json"))
        return found

    def exists(self, kind: str, name: str) -> bool:
        """Whether there is an object without a namespace."""
        return bool(self("get", kind, name, "--ignore-not-found", "--output", "name").strip())

    def items(self, kind: str, namespace: str, selector: str = "") -> list[Data]:
        """All objects of a kind in a namespace."""
        chosen = ("--selector", selector) if selector else ()
        found: list[Data] = json.loads(self("get", kind, "--namespace", namespace, *chosen, "--output", "json"))[
            "items"
        ]
        return found

    def patch(self, kind: str, namespace: str, name: str, change: Data, form: str = "merge") -> None:
        """Change one object."""
        self("patch", kind, name, "--namespace", namespace, "--type", form, "--patch", json.dumps(change))

    def rolled_out(self, namespace: str, *deployments: str) -> None:
        """Wait until all of them run as they should."""
        for name in deployments:
            self("rollout", "status", f"deployment/{name}", "--namespace", namespace, f"--timeout={PATIENCE:.0f}s")


def is_ready(pod: Data) -> bool:
    """Whether a pod is ready and not about to go."""
    conditions = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", ())}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def eventually(what: str, holds: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Ask until something holds; what it was."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.3)
    return found
