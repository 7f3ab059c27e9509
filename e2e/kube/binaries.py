"""The programs of a Kubernetes API server: found where the developer says, else built from their Go modules.

Built once and kept in the user's cache directory. Kubernetes' own go.mod points at directories of its repository
(staging); a small module of ours points those at the published modules instead. Nothing here starts anything.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

KUBERNETES = "1.36.3"
ETCD = "v3.7.3"
_PACKAGES = {
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
}


class UnavailableError(Exception):
    """There is no API server to be had here; says why in one line."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where the programs are."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path | None
    """None in assets made for controller tests, which bring none."""


def find_binaries(environment: Mapping[str, str]) -> Binaries:
    """The programs of `KUBEBUILDER_ASSETS`, else those of the cache, built first if Go is there.

    Raises:
        UnavailableError: there are none.
    """
    assets = environment.get("KUBEBUILDER_ASSETS")
    if assets:
        return _in_directory(Path(assets))
    cache = _cache(environment)
    target = cache / f"kubernetes-{KUBERNETES}-etcd-{ETCD.removeprefix('v')}"
    wanted = ("etcd", *_PACKAGES)
    if not all((target / name).exists() for name in wanted):
        if shutil.which("go", path=environment.get("PATH")) is None:
            raise UnavailableError("needs kube-apiserver and etcd: set KUBEBUILDER_ASSETS, or install Go to build them")
        target.mkdir(parents=True, exist_ok=True)
        with (target / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # parallel test workers: the first builds, the others wait
            _build(target, environment)
    return _in_directory(target)


def _cache(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME", "~")).expanduser() / ".cache")
    return Path(base) / "pypilot" / "kube"


def _in_directory(directory: Path) -> Binaries:
    missing = [name for name in ("etcd", "kube-apiserver") if not (directory / name).exists()]
    if missing:
        raise UnavailableError(f"{directory} has no {' and no '.join(missing)}")
    manager = directory / "kube-controller-manager"
    return Binaries(directory / "etcd", directory / "kube-apiserver", manager if manager.exists() else None)


def _build(target: Path, environment: Mapping[str, str]) -> None:
    work = target / "src"
    go = _Go(environment)
    if not (target / "etcd").exists():
        module = work / "etcd"
        _write_module(module, "go 1.26.0", {"go.etcd.io/etcd/server/v3": ETCD}, {})
        go.build(module, "go.etcd.io/etcd/server/v3", target / "etcd", "-s -w")
    todo = [name for name in _PACKAGES if not (target / name).exists()]
    if todo:
        module = work / "kubernetes"
        info = json.loads(go.run(target, "mod", "download", "-json", f"k8s.io/kubernetes@v{KUBERNETES}"))
        go_mod = Path(info["GoMod"]).read_text()
        staging = re.findall(r"^\s*(?:replace )?(k8s\.io/\S+) => \./staging", go_mod, re.MULTILINE)
        language = re.search(r"^go \S+", go_mod, re.MULTILINE)
        published = f"v0.{KUBERNETES.partition('.')[2]}"
        _write_module(
            module,
            language[0] if language else "go 1.26.0",
            {"k8s.io/kubernetes": f"v{KUBERNETES}"},
            dict.fromkeys(staging, published),
        )
        # Without a version that it can parse, the API server refuses its own feature gates.
        flags = f"-s -w -X k8s.io/component-base/version.gitVersion=v{KUBERNETES}"
        for name in todo:
            go.build(module, _PACKAGES[name], target / name, flags)


def _write_module(directory: Path, language: str, requires: Mapping[str, str], replaces: Mapping[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    lines = ["module example.invalid/pypilot-e2e", language]
    lines += [f"require {module} {version}" for module, version in requires.items()]
    lines += [f"replace {module} => {module} {version}" for module, version in replaces.items()]
    (directory / "go.mod").write_text("\n".join(lines) + "\n")


@dataclass(frozen=True, slots=True)
class _Go:
    environment: Mapping[str, str]

    def run(self, directory: Path, *arguments: str) -> str:
        environment = {**self.environment, "CGO_ENABLED": "0", "GOWORK": "off"}
        done = subprocess.run(
            ["nice", "-n", "10", "go", *arguments], cwd=directory, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise UnavailableError(f"go {' '.join(arguments[:2])} failed: {last}")
        return done.stdout

    def build(self, module: Path, package: str, output: Path, flags: str) -> None:
        partial = output.with_name(f".{output.name}.partial")
        self.run(module, "build", "-mod=mod", "-trimpath", "-ldflags", flags, "-o", str(partial), package)
        partial.rename(output)  # a build that was interrupted leaves nothing under the final name


if __name__ == "__main__":
    print(find_binaries(os.environ))
