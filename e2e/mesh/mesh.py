"""The mesh: a hub, a control plane with files, and pods. `apply` says what the configuration is to be."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from click.testing import CliRunner

from e2e.mesh.network import GATE, hub
from e2e.mesh.pod import Pod, started
from e2e.mesh.world import HTTP, JUDGE, KEYS, PARTNER, RESIDENTS, Resident, cluster_objects
from e2e.outcomes.caller import Caller
from e2e.outcomes.objects import Json, mesh
from e2e.outcomes.servers import App
from e2e.outcomes.stage import Running, Stage, set_stage
from pypilot.cli.demo.control_plane import ControlPlane
from pypilot.cli.demo.netns import NetworkNamespace
from pypilot.cli.demo.workspace import Workspace
from pypilot.cli.token import token as token_command


@dataclass(slots=True)
class Mesh:
    """Everything that tests use."""

    stage: Stage
    hub: NetworkNamespace
    ca: Path
    """Where the control plane keeps its CA."""
    tokens: Path
    """The key of service accounts' tokens."""
    pods: dict[str, Pod] = field(default_factory=dict)
    apps: dict[str, App] = field(default_factory=dict)
    config: Json = field(default_factory=dict)
    seconds: float = 0.0
    """How long it took to be up."""

    def __getitem__(self, who: Resident) -> Pod:
        return self.pods[who.name]

    async def apply(self, *objects: Json, **config: Any) -> None:
        """Let these be the configuration, and wait until all Envoys have it; `config` is of MeshConfig."""
        await self.stage.apply(mesh(enableAutoMtls=True, **config), *objects)
        await asyncio.gather(*(pod.drained() for pod in self.pods.values()))

    def outside(self, to: tuple[str, int], log_of: Resident) -> Any:
        """A caller outside of the mesh; its requests are looked for in the log of that pod."""
        return Caller.of(self[log_of].envoy.access_log, to, lambda: self.hub.inside(socket.socket))

    def mint(self, who: Resident, seconds: int = 3600) -> str:
        """A token of its service account."""
        now = int(time.time())
        claims = {"sub": f"system:serviceaccount:{who.namespace}:{who.service_account}", "aud": ["istio-ca"]}
        return jwt.encode({**claims, "iat": now, "exp": now + seconds}, self.tokens.read_text(), "ES256")


@asynccontextmanager
async def meshed(directory: Path, variables: Mapping[str, Mapping[str, str]]) -> AsyncIterator[Mesh]:
    """A mesh of all residents; `variables` of agents by the name of the pod, beside the usual."""
    begun = time.monotonic()
    async with AsyncExitStack() as stack:
        bridge = await stack.enter_async_context(hub("mesh", (PARTNER, KEYS, JUDGE)))
        stage = await stack.enter_async_context(
            set_stage(directory, *cluster_objects(), start=lambda work: _control_plane(work, bridge))
        )
        root = stage.work.root
        made = Mesh(stage, bridge, root / "ca", root / "tokens.pem")
        await asyncio.gather(*(_pod(made, stack, who, variables.get(who.name, {})) for who in RESIDENTS))
        made.seconds = time.monotonic() - begun
        yield made


def _control_plane(work: Workspace, bridge: NetworkNamespace) -> Running:
    key, keys = work.root / "tokens.pem", work.root / "tokens.json"
    done = CliRunner().invoke(token_command, ["keys", "--key", str(key), "--jwks", str(keys)])
    assert done.exit_code == 0, done.output
    options = ("--ca-dir", str(work.root / "ca"), "--token-keys", str(keys), "--secure-grpc-addr", f"{GATE}:15012")
    directory = work.directory("control-plane")
    inside = {"prefix": bridge.prefix, "new_socket": lambda: bridge.inside(socket.socket)}
    return ControlPlane.start(work.config, directory, options=options, **inside)  # type: ignore[arg-type]


async def _pod(made: Mesh, stack: AsyncExitStack, who: Resident, variables: Mapping[str, str]) -> None:
    directory = made.stage.work.directory(who.name)
    roots = {"XDS_ROOT_CA": str(made.ca / "root-cert.pem")}
    pod = await stack.enter_async_context(started(who, made.hub, directory, made.mint(who), {**roots, **variables}))
    made.pods[who.name] = pod
    if who.role == "sidecar":
        made.stage.proxies.append(pod.proxy)
    if version := who.labels.get("version"):
        app = App("app", version, listen=pod.inside.listen, where=("0.0.0.0", HTTP))
        await app.start()
        stack.push_async_callback(app.stop)
        made.apps[who.name] = app
