"""The mesh: a hub, a control plane, and pods. `apply` says what the configuration is to be."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography import x509

from e2e.mesh.backing import Backing
from e2e.mesh.network import GATE, hub, passage
from e2e.mesh.pod import Pod, started
from e2e.mesh.world import BARE, HTTP, JUDGE, KEYS, PARTNER, RESIDENTS, WEB, Resident, cluster_objects
from e2e.outcomes.caller import SECONDS, Caller
from e2e.outcomes.objects import Json, mesh
from e2e.outcomes.servers import App
from e2e.outcomes.stage import Stage, set_stage
from pypilot.cli.demo.netns import NetworkNamespace
from pypilot.proxy.certificate import Credentials, make_request, read_answer
from pypilot.proxy.certificate_client import CertificateClient
from pypilot.security.x509 import Root

CONTROL_PLANE = "istiod.istio-system.svc"


@dataclass(slots=True)
class Mesh:
    """Everything that tests use."""

    stage: Stage
    hub: NetworkNamespace
    backing: Backing
    port: int
    """Of loopback, outside of the hub: leads to the control plane's TLS port."""
    pods: dict[str, Pod] = field(default_factory=dict)
    apps: dict[str, App] = field(default_factory=dict)
    seconds: float = 0.0
    """How long it took to be up."""

    def __getitem__(self, who: Resident) -> Pod:
        return self.pods[who.name]

    def end(self) -> None:
        """Ask all pods to end at once: each takes its time to drain."""
        for pod in self.pods.values():
            if pod.envoy.child.running:
                os.kill(pod.envoy.child.pid, signal.SIGTERM)

    async def apply(self, *objects: Json, **config: Any) -> None:
        """Let these be the configuration, and wait until all Envoys have it; `config` is of MeshConfig."""
        await self.stage.apply(mesh(**{"enableAutoMtls": True, **config}), *objects)
        await asyncio.gather(*(pod.drained() for pod in self.pods.values()))

    def outside(self, to: tuple[str, int], log_of: Resident) -> Any:
        """A caller outside of the mesh; its requests are looked for in the log of that pod."""
        return Caller.of(self[log_of].envoy.access_log, to, lambda: self.hub.inside(socket.socket))

    async def certificate(self, who: Resident, token: str = "", shows: Credentials | None = None) -> Credentials:
        """What the CA gives to whoever shows a token, or a certificate, and asks for that identity.

        Raises:
            CertificateError: nothing.
        """
        file = self.stage.work.directory("tokens") / "shown"
        file.write_text(token)
        ask = CertificateClient(f"127.0.0.1:{self.port}", CONTROL_PLANE, file, self.backing.roots, lambda: shows)
        key, csr = make_request(who.identity)
        return read_answer(key, await ask(csr, 3600))

    async def plug(self, root: Root) -> None:
        """Let this be the CA: first it signs, then its roots count, then everybody knows them."""
        now = await self.backing.authority()
        await self.backing.plug(replace(root, bundle=now.bundle))
        await self._answers(root, now.bundle)
        await self.backing.plug(root)
        await self._answers(root, root.bundle)
        await self.backing.publish(root.bundle)

    async def _answers(self, root: Root, bundle: bytes) -> None:
        """Wait until certificates are as this CA signs them."""
        issuer = x509.load_pem_x509_certificate(root.certificate)
        async with asyncio.timeout(SECONDS):
            while True:
                got = await self.certificate(WEB, await self.backing.mint(WEB))
                if got.roots == bundle and signed_by(x509.load_pem_x509_certificate(got.chain), issuer):
                    return
                await asyncio.sleep(0.1)


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """By its key, whatever its name."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:
        return False
    return True


@asynccontextmanager
async def meshed(directory: Path, backing: Backing, variables: Mapping[str, Mapping[str, str]]) -> AsyncIterator[Mesh]:
    """A mesh of all residents; `variables` of agents by the name of the pod, beside the usual."""
    begun = time.monotonic()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        bridge = await enter(hub("mesh", (PARTNER, KEYS, JUDGE, BARE)))
        setting = set_stage(
            directory, *cluster_objects(), start=lambda work: backing.start(work, bridge), deliver=backing.deliver
        )
        stage = await enter(setting)
        door = socket.create_server(("127.0.0.1", 0))
        made = Mesh(stage, bridge, backing, door.getsockname()[1])
        await enter(passage(door, lambda: bridge.connect(GATE, 15012)))
        async with asyncio.timeout(SECONDS):
            while not backing.roots.exists():  # noqa: ASYNC110 - nobody says when
                await asyncio.sleep(0.02)
        await asyncio.gather(*(_pod(made, stack, who, variables.get(who.name, {})) for who in RESIDENTS))
        made.seconds = time.monotonic() - begun
        stack.callback(made.end)
        yield made


async def _pod(made: Mesh, stack: AsyncExitStack, who: Resident, variables: Mapping[str, str]) -> None:
    directory = made.stage.work.directory(who.name)
    more = {"XDS_ROOT_CA": str(made.backing.roots), **variables}
    pod = await stack.enter_async_context(started(who, made.hub, directory, await made.backing.mint(who), more))
    made.pods[who.name] = pod
    if who.role == "sidecar":
        made.stage.proxies.append(pod.proxy)
    if version := who.labels.get("version"):
        app = App("app", version, listen=pod.inside.listen, where=("0.0.0.0", HTTP))
        await app.start()
        stack.push_async_callback(app.stop)
        made.apps[who.name] = app
