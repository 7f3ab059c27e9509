"""A control plane with an API server: objects, tokens, who may what, the CA and its published root are all there.

The API server listens on this machine's loopback; the hub has a passage to it at the same port of its own.
"""

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from e2e.kube.client import Client
from e2e.kube.cluster import Cluster
from e2e.kube.control_plane import account, config_map, namespace, token_of
from e2e.kube.crds import install
from e2e.mesh.backing import FAST
from e2e.mesh.network import GATE, passage
from e2e.mesh.world import ALPHA, RESIDENTS, Resident
from e2e.outcomes.caller import SECONDS
from e2e.outcomes.objects import NAMESPACE, Json
from pypilot.cli.demo.control_plane import ControlPlane
from pypilot.cli.demo.netns import NetworkNamespace
from pypilot.cli.demo.workspace import Workspace
from pypilot.cli.manifests.access import access
from pypilot.kinds import KINDS
from pypilot.security.root import OWN, PLUGGED
from pypilot.security.x509 import Root, parse_root, secret_data

ROOT = "istio-system"
_POLL_SECONDS = 0.02
Ref = tuple[str, str, str]


@dataclass(slots=True)
class ApiServer:
    """A cluster, and its administrator."""

    cluster: Cluster
    client: Client
    directory: Path
    _running: ControlPlane | None = None
    _delivered: dict[str, dict[Ref, Json]] = field(default_factory=dict)

    @property
    def roots(self) -> Path:
        return self.directory / "published.pem"

    # -- the control plane --------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def start(self, work: Workspace, hub: NetworkNamespace) -> AsyncIterator[ControlPlane]:
        """With the rights that `pypilot rbac` says it needs, and no others."""
        token = await token_of(self.client, ROOT, "pypilot", seconds=7200)
        kubeconfig = self.cluster.kubeconfig(user={"token": token}, name="pypilot")
        there = ("127.0.0.1", self.cluster.port)
        starting = ControlPlane.start(
            work.config,
            work.directory("control-plane"),
            options=("--kubeconfig", str(kubeconfig), "--secure-grpc-addr", f"{GATE}:15012", *FAST),
            prefix=hub.prefix,
            new_socket=lambda: hub.inside(socket.socket),
        )
        async with passage(hub.listen(*there), lambda: socket.create_connection(there)), starting as self._running:
            kubelet = asyncio.create_task(self._project())
            try:
                yield self._running
            finally:
                kubelet.cancel()
                await asyncio.gather(kubelet, return_exceptions=True)

    async def _project(self) -> None:
        """What a kubelet does with the ConfigMap that every pod mounts."""
        while True:
            text = await config_map(self.client, ALPHA)
            if text and (not self.roots.exists() or self.roots.read_text() != text):
                draft = self.roots.with_suffix(".draft")
                draft.write_text(text)
                draft.replace(self.roots)
            await asyncio.sleep(0.1)

    # -- objects ------------------------------------------------------------------------------------------------------

    async def deliver(self, name: str, objects: Sequence[Json]) -> None:
        *first, last = objects
        wanted = {_ref(o): o for o in objects}
        before = self._delivered.get(name, {})
        gone = {ref: o for ref, o in before.items() if ref not in wanted}
        self._delivered[name] = wanted
        await asyncio.gather(*(self.client.delete(o) for o in gone.values()))
        await asyncio.gather(*(self.client.apply(o) for o in first if before.get(_ref(o)) != o))
        await self._read({ref[0] for ref in (*gone, *map(_ref, first))})
        await self.client.apply(last)

    async def _read(self, kinds: set[str]) -> None:
        """Wait until the control plane has read all that there is of these kinds."""
        known = [k for k in KINDS if k.name in kinds and k.name != "ConfigMap"]
        now = {k.name: await self.client.all_of(k) for k in known}
        async with asyncio.timeout(SECONDS):
            while True:
                progress = await self._progress()
                if all(_has_read(progress, name, objects) for name, objects in now.items()):
                    return
                await asyncio.sleep(_POLL_SECONDS)

    async def _progress(self) -> dict[str, Json]:
        assert self._running is not None
        self._running.child.check()
        try:
            kinds = (await self._running.get_json("/debug/kinds"))["cluster"]["kinds"]
        except (aiohttp.ClientError, KeyError):
            return {}
        return {k["kind"]: k for k in kinds}

    # -- identity -----------------------------------------------------------------------------------------------------

    async def mint(self, who: Resident) -> str:
        """Bound to its pod, as a kubelet asks for it."""
        return await token_of(self.client, who.namespace, who.service_account, "istio-ca", pod=who.name)

    async def authority(self) -> Root:
        items = (await self.client.request("GET", f"/api/v1/namespaces/{ROOT}/secrets"))["items"]
        secrets = {i["metadata"]["name"]: i["data"] for i in items}
        chosen = secrets.get(PLUGGED) or secrets[OWN]
        return parse_root({k: base64.b64decode(v) for k, v in chosen.items()}, datetime.now(UTC))

    async def plug(self, root: Root) -> None:
        """As the Secret of an operator's own CA."""
        data = {**secret_data(root), "cert-chain.pem": root.certificate + root.chain}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": PLUGGED, "namespace": ROOT},
            "data": {k: base64.b64encode(v).decode() for k, v in data.items() if v},
        }
        await self.client.apply(secret)

    async def publish(self, bundle: bytes) -> None:
        """The control plane does."""
        async with asyncio.timeout(SECONDS):
            while self.roots.read_bytes() != bundle:  # noqa: ASYNC110 - nobody says when
                await asyncio.sleep(_POLL_SECONDS)


def _ref(data: Json) -> Ref:
    return data["kind"], data["metadata"].get("namespace", ""), data["metadata"]["name"]


def _has_read(progress: dict[str, Json], name: str, objects: list[Json]) -> bool:
    """What was deleted leaves no version, but one object less; what came after it has a later version."""
    found: Any = progress.get(name)
    latest = max((int(o["metadata"]["resourceVersion"]) for o in objects), default=0)
    return bool(found) and found["objects"] == len(objects) and int(found["revision"] or 0) >= latest


@asynccontextmanager
async def api_server(cluster: Cluster, directory: Path) -> AsyncIterator[ApiServer]:
    """A cluster with the definitions, and with the namespaces and accounts of all residents."""
    async with Client(cluster) as client:
        await install(client)
        accounts = {(ROOT, "pypilot"), *((who.namespace, who.service_account) for who in RESIDENTS)}
        spaces = {NAMESPACE, *(space for space, _ in accounts)}
        await client.apply_all([*map(namespace, sorted(spaces)), *(account(*a) for a in sorted(accounts))])
        await client.apply_all(access(KINDS, root_namespace=ROOT))
        yield ApiServer(cluster, client, directory)
