"""One pod: its namespace, its interception, its agent with an Envoy, and its application as a client.

Agent and Envoy are user 1337, the application is another; both are what a cluster would run.
"""

import asyncio
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from e2e.mesh.network import plugged
from e2e.mesh.world import APP_IP, Resident
from e2e.outcomes.caller import SECONDS, Caller
from e2e.outcomes.stage import MARK_ADDRESS, Proxy
from pypilot.cli.demo.envoy import Envoy
from pypilot.cli.demo.netns import NetworkNamespace, run
from pypilot.cli.demo.process import Child
from pypilot.proxy.capture.kernel import Tools, apply
from pypilot.proxy.capture.plan import Capture

UID = 1337
_AS_PROXY = (
    *("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"),
    # In an image Python can be read by everybody; here it may be in somebody's home.
    *("--inh-caps=+dac_override", "--ambient-caps=+dac_override"),
)
_ADMIN, _STATUS = 15000, 15020
_CAPTURE = Capture(uids=(str(UID),), gids=(str(UID),), exclude_inbound_ports=(15090, 15021, _STATUS))
"""As it is injected."""
_DRAINING = "^listener_manager.total_(filter_chains|listeners)_draining$"


class _Admin(AbstractResolver):
    """Every name is the admin interface of this pod's Envoy."""

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        found = {"hostname": host, "host": "127.0.0.1", "port": _ADMIN, "family": family, "proto": 0, "flags": 0}
        return [found]  # type: ignore[list-item]

    async def close(self) -> None:
        pass


@dataclass(slots=True)
class Pod:
    """A running pod."""

    who: Resident
    inside: NetworkNamespace
    proxy: Proxy
    session: aiohttp.ClientSession

    @property
    def envoy(self) -> Envoy:
        return self.proxy.envoy

    @property
    def caller(self) -> Caller:
        """Its application as a client: of the mesh's own service, unless it says otherwise."""
        return self.proxy.caller

    async def status(self, path: str, method: str = "GET") -> tuple[int, str]:
        """What the agent's own port says."""
        async with self.session.request(method, f"http://127.0.0.1:{_STATUS}{path}") as answer:
            return answer.status, await answer.text()

    async def wait_ready(self) -> None:
        """Wait until the kubelet would send it traffic."""
        deadline = time.monotonic() + SECONDS
        while not await self._is_ready():
            self.envoy.child.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.who.name} is not ready; its last lines:\n{self.envoy.child.tail()}")
            await asyncio.sleep(0.05)

    async def _is_ready(self) -> bool:
        try:
            return (await self.status("/healthz/ready"))[0] == 200
        except aiohttp.ClientError:
            return False

    async def drained(self) -> None:
        """Wait until no connection is served by what a listener was before: kept ones are, for a while."""
        async with asyncio.timeout(SECONDS):
            while any((await self.envoy.stats(_DRAINING)).values()):  # noqa: ASYNC110 - nobody says when
                await asyncio.sleep(0.05)

    async def serials(self) -> set[str]:
        """Of the certificates that its Envoy has."""
        certificates = (await self.envoy.admin_json("/certs"))["certificates"]
        return {c["serial_number"] for one in certificates for c in one.get("cert_chain", ())}

    def resident(self) -> int:
        """Bytes of the agent's memory, without its Envoy's."""
        pages = Path(f"/proc/{self.envoy.child.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


def prefix_of(inside: NetworkNamespace, resolv_conf: Path | None = None) -> tuple[str, ...]:
    """Command that runs another one in a pod, perhaps with another resolv.conf; `ip` makes a namespace of mounts."""
    if resolv_conf is None:
        return inside.prefix
    return (*inside.prefix, "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', str(resolv_conf))


def _variables(who: Resident, directory: Path, more: Mapping[str, str]) -> dict[str, str]:
    config = {
        "discoveryAddress": "10.79.0.1:15012",
        "proxyAdminPort": _ADMIN,
        "statusPort": _STATUS,
        "terminationDrainDuration": "1s",
        "drainDuration": "1s",
        "concurrency": 1,
        "fileFlushInterval": "0.02s",
        "proxyStatsMatcher": {"inclusionRegexps": [".*rbac.*"]},
        **who.config,
    }
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", str(Path.cwd())),
        "PYTHONDONTWRITEBYTECODE": "1",
        "POD_NAME": who.name,
        "POD_NAMESPACE": who.namespace,
        "INSTANCE_IP": who.address,
        "SERVICE_ACCOUNT": who.service_account,
        "PROXY_CONFIG": json.dumps(config),
        "XDS_SERVER_NAME": "istiod.istio-system.svc",
        "JWT_PATH": str(directory / "token"),
        "PROXY_STATE_DIR": str(directory / "state"),
        "POD_LABELS_PATH": str(directory / "labels"),
        **more,
    }


@asynccontextmanager
async def started(
    who: Resident,
    hub: NetworkNamespace,
    directory: Path,
    token: str,
    variables: Mapping[str, str],
    resolv_conf: Path | None = None,
) -> AsyncIterator[Pod]:
    """Start a pod; it ends with the block.

    Args:
        who: Who it is.
        hub: What it is plugged into.
        directory: For its files; user 1337 can get there.
        token: Of its service account.
        variables: Of the agent, beside the usual.
        resolv_conf: In place of the machine's; its DNS is then captured.
    """
    (directory / "state").mkdir()
    (directory / "token").write_text(token)
    (directory / "labels").write_text("".join(f"{k}={json.dumps(v)}\n" for k, v in who.all_labels.items()))
    for name in ("state", "token"):
        shutil.chown(directory / name, UID, UID)
    (directory / "token").chmod(0o400)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        inside = await enter(plugged(hub, who.name, who.address))
        prefix = prefix_of(inside, resolv_conf)
        if resolv_conf is not None:
            await run(*prefix, sys.executable, "-m", "pypilot", "iptables", "-u", str(UID), "--redirect-dns")
        elif who.role == "sidecar":
            await asyncio.to_thread(apply, _CAPTURE, False, Tools(inside.prefix))
        argv = [sys.executable, "-m", "pypilot", "proxy", who.role]
        environment = _variables(who, directory, variables)
        running = Child.start(argv, directory, name=who.name, prefix=(*prefix, *_AS_PROXY), environment=environment)
        child = await enter(running)
        timeout = aiohttp.ClientTimeout(total=SECONDS)

        def connector(resolver: AbstractResolver | None = None) -> aiohttp.TCPConnector:
            return aiohttp.TCPConnector(resolver=resolver, socket_factory=lambda _: inside.inside(socket.socket))

        admin = await enter(aiohttp.ClientSession(connector=connector(_Admin()), timeout=timeout))
        session = await enter(aiohttp.ClientSession(connector=connector(), timeout=timeout))
        envoy = Envoy(child, directory, admin)
        caller = await enter(Caller.of(envoy.access_log, (APP_IP, 80), lambda: inside.inside(socket.socket)))
        made = Pod(who, inside, Proxy(envoy, caller, MARK_ADDRESS), session)
        await made.wait_ready()
        yield made
