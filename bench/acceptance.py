"""Does a real Envoy take everything? One upstream Envoy on ADS for each node of each recording, NACKs counted.

Everything runs inside a network namespace made for the purpose (root on Linux), so that listeners bind what they want.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.archive import RECORDINGS_HELP, recordings
from bench.recordings import scenarios_in
from bench.storm import serve
from pypilot.cli.demo.bootstrap import NodeIdentity, ads_bootstrap
from pypilot.cli.demo.certificates import Authority
from pypilot.cli.demo.envoy import Envoy, find_envoy

_INSIDE = "PYPILOT_BENCH_INSIDE"
_QUIET_SECONDS = 0.5
_LONGEST_SECONDS = 15.0


async def _settle(envoy: Envoy) -> bool:
    """Wait until clusters and listeners came and no further update does; False if they never came."""
    last: dict[str, int] = {}
    quiet = spent = 0.0
    while spent < _LONGEST_SECONDS:
        await asyncio.sleep(0.1)
        spent += 0.1
        envoy.child.check()
        try:
            now = await envoy.stats("(update_success|update_rejected)$")
        except OSError:
            continue
        came = all(now.get(f"{m}.update_success", 0) + now.get(f"{m}.update_rejected", 0) for m in _MANAGERS)
        quiet = quiet + 0.1 if now == last and came else 0.0
        last = now
        if quiet >= _QUIET_SECONDS:
            return True
    return False


_MANAGERS = ("cluster_manager.cds", "listener_manager.lds")


async def _one(node: Path, xds: tuple[str, int], folder: Path, delta: bool) -> list[str]:
    """What Envoy refused, or why it could not be told; empty if it took everything."""
    bootstrap = ads_bootstrap(
        NodeIdentity("sidecar", "127.0.0.1", "x", "x"), xds, protocol="DELTA_GRPC" if delta else "GRPC"
    )
    data = json.loads(node.read_text())
    bootstrap["node"] = {k: data[k] for k in ("id", "cluster", "metadata", "locality") if k in data}
    async with Envoy.start(bootstrap, folder, binary=find_envoy(os.environ), name=node.stem) as envoy:
        if not await _settle(envoy):
            return [f"no clusters and listeners within {_LONGEST_SECONDS:.0f} s"]
        refused = await envoy.rejected_updates()
        return [f"{name} = {count}" for name, count in refused.items()] + (envoy.complaints() if refused else [])


async def _all(folder: Path, only: str) -> int:
    failures = done = 0
    for scenario in scenarios_in(folder):
        if not scenario.name.startswith(only):
            continue
        config = [str(p) for p in (folder / "cluster.yaml", scenario / "world.yaml") if p.exists()]
        mesh = ["--mesh-config", str(scenario / "mesh.yaml")]
        with serve(config, mesh) as server, tempfile.TemporaryDirectory() as work:
            host, _, port = server.grpc_address.rpartition(":")
            for number, node in enumerate(sorted((scenario / "nodes").glob("*.json"))):
                if json.loads(node.read_text())["id"].partition("~")[0] not in ("sidecar", "router"):
                    continue
                wrong = await _one(node, (host, int(port)), Path(work) / node.stem, delta=number % 2 == 0)
                done += 1
                failures += bool(wrong)
                print(
                    f"{scenario.name:<36} {node.stem:<28} {'; '.join(wrong) if wrong else 'all accepted'}", flush=True
                )
    print(f"{done} nodes, {failures} with something refused")
    return 1 if failures else 0


def _provide_files(folder: Path) -> None:
    """The certificates that the recordings name by path, over a read-only look at /etc that ends with this process."""
    named = set()
    for world in folder.glob("*/world.yaml"):
        named.update(re.findall(r"(?:/etc/[\w./-]+\.(?:pem|crt|key))", world.read_text()))
    if not named:
        return
    upper = Path(tempfile.mkdtemp())
    subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", str(upper)])
    for part in ("upper", "work"):
        (upper / part).mkdir()
    options = f"lowerdir=/etc,upperdir={upper}/upper,workdir={upper}/work"
    subprocess.check_call(["mount", "-t", "overlay", "overlay", "-o", options, "/etc"])
    issued = Authority("bench").issue("bench.example")
    for path in map(Path, sorted(named)):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(issued.key if "key" in path.name else issued.certificate)


def main() -> int:
    """Move into a network namespace, then try every node."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, metavar="DIR", help=RECORDINGS_HELP)
    parser.add_argument("--only", default="", help="scenarios whose name starts with this")
    given = parser.parse_args()
    if _INSIDE not in os.environ:
        command = ["unshare", "--net", "--mount", sys.executable, "-m", "bench.acceptance", *sys.argv[1:]]
        return subprocess.call(command, env={**os.environ, _INSIDE: "1"})
    subprocess.check_call(["ip", "link", "set", "lo", "up"])
    with recordings(given.recordings) as folder:
        _provide_files(folder)
        return asyncio.run(_all(folder, given.only))


if __name__ == "__main__":
    sys.exit(main())
