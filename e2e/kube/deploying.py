"""kubectl and `pypilot serve` as processes, and the service account as which it runs in a cluster."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.kube.client import Client
from e2e.kube.cluster import Cluster, free_port
from e2e.kube.following import SECONDS, wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
ROOT = "istio-system"


def program(name: str) -> str:
    """A program of the developer's: from the variable of its name, else on PATH."""
    found = os.environ.get(name.upper()) or shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: put it on PATH or name it in {name.upper()}")
    return found


class Kubectl:
    """The program, as the administrator or as somebody else."""

    def __init__(self, cluster: Cluster) -> None:
        self._program = program("kubectl")
        self._cluster = cluster

    def run(
        self, *arguments: object, text: str = "", kubeconfig: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """One call, whatever comes of it."""
        chosen = kubeconfig or self._cluster.kubeconfig()
        command = [self._program, "--kubeconfig", str(chosen), *map(str, arguments)]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=600)

    def __call__(self, *arguments: object, text: str = "") -> str:
        """One call that must succeed; what it prints."""
        done = self.run(*arguments, text=text)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def can(self, kubeconfig: Path, verb: str, resource: str, namespace: str = "") -> bool:
        """Whether somebody may do something; in all namespaces if none is given."""
        place = ("--namespace", namespace) if namespace else ("--all-namespaces",)
        done = self.run("auth", "can-i", verb, resource, *place, kubeconfig=kubeconfig)
        assert done.stdout.strip() in ("yes", "no"), done.stderr
        return done.stdout.strip() == "yes"


async def account(cluster: Cluster, client: Client, name: str) -> Path:
    """A kubeconfig with a real token of the service account that the manifests make."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    path = f"/api/v1/namespaces/{ROOT}/serviceaccounts/pypilot/token"
    answer = await client.request("POST", path, request)
    return cluster.kubeconfig(user={"token": answer["status"]["token"]}, name=name)


@asynccontextmanager
async def serving(directory: Path, *arguments: object, until: str = "/ready") -> AsyncIterator["Served"]:
    """`pypilot serve` in a process of its own, once a page of it answers 200."""
    served = Served(directory / "serve.log", free_port())
    command = [sys.executable, "-m", "pypilot", "serve", "--grpc-addr=127.0.0.1:0", "--monitoring-addr="]
    command += [f"--http-addr=127.0.0.1:{served.port}", "--log-format=json", *map(str, arguments)]
    with served.log.open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=subprocess.STDOUT)
    try:
        await wait_until(lambda: served.answers(until, process), until)
        yield served
    finally:
        process.terminate()
        async with asyncio.timeout(SECONDS):
            await process.wait()


class Served:
    """What a running pypilot says."""

    def __init__(self, log: Path, port: int) -> None:
        self.log = log
        self.port = port

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return json.load(answer)

    def answers(self, path: str, process: asyncio.subprocess.Process) -> bool:
        """Whether a page answers 200."""
        assert process.returncode is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def counts(self) -> dict[str, int]:
        """How many objects of each kind are known."""
        return dict(self.get("/debug/kinds")["objects"])

    def services(self) -> dict[str, Any]:
        """How proving itself, leading and writing go."""
        return dict(self.get("/debug/cluster"))

    def refusals(self) -> list[str]:
        """Whatever was refused for want of a right, by what is wrong now and by what was ever logged."""
        pages = [json.dumps(self.get(path), indent=1) for path in ("/debug/problems", "/debug/kinds")]
        lines = "\n".join((*pages, self.log.read_text())).splitlines()
        return [line for line in lines if "forbidden" in line.lower()]
