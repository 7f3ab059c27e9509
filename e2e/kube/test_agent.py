"""`pypilot proxy` with a real Envoy and the API server's own tokens: identity, health, renewal, an orderly end."""

import asyncio
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from e2e.kube.cluster import free_port
from e2e.kube.control_plane import account, namespace, replica, settle, token_of, until
from pypilot.wire.types import CLUSTER, LISTENER

SPACE = "agent-root"
APP = "agent-app"


@pytest.fixture
async def ready(cluster, client):
    await settle(client, SPACE)
    await client.apply_all([namespace(APP), account(APP, "web")])
    async with replica(cluster, client, SPACE) as made:
        for kind in (CLUSTER, LISTENER):
            made.catalog.put(kind, {})
        yield made
    await client.wipe()


class Pod:
    """A running agent, as a container of a pod."""

    def __init__(self, process, ports, log):
        self.process, self.ports, self.log = process, ports, log

    async def get(self, what, path, method="GET"):
        """(status, body) of the agent's port `status` or Envoy's `admin`."""

        def ask():
            request = urllib.request.Request(f"http://127.0.0.1:{self.ports[what]}{path}", method=method)
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()
            except OSError as error:
                return 0, str(error)

        return await asyncio.to_thread(ask)

    def resident(self):
        """Bytes of the agent's memory."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def children(self):
        """The agent's own processes: Envoy."""
        number = self.process.pid
        return [int(child) for child in Path(f"/proc/{number}/task/{number}/children").read_text().split()]

    async def is_ready(self):
        return (await self.get("status", "/healthz/ready"))[0] == 200

    async def serials(self):
        status, body = await self.get("admin", "/certs")
        found = json.loads(body)["certificates"] if status == 200 else []
        return {c["serial_number"] for one in found for c in one.get("cert_chain", ())}


@asynccontextmanager
async def pod(made, client, directory: Path, **variables):
    ports = {"status": free_port(), "admin": free_port()}
    (directory / "root.pem").write_bytes(made.services.identity.tls.read()[2])
    (directory / "token").write_text(await token_of(client, APP, "web", "istio-ca"))
    config = {
        "discoveryAddress": f"localhost:{made.server.secure_port}",
        "proxyAdminPort": ports["admin"],
        "statusPort": ports["status"],
        "terminationDrainDuration": "1s",
        "concurrency": 1,
    }
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "POD_NAME": "web-1",
        "POD_NAMESPACE": APP,
        "INSTANCE_IP": "127.0.0.1",
        "SERVICE_ACCOUNT": "web",
        "PROXY_CONFIG": json.dumps(config),
        "XDS_SERVER_NAME": f"istiod.{SPACE}.svc",
        "JWT_PATH": str(directory / "token"),
        "XDS_ROOT_CA": str(directory / "root.pem"),
        "PROXY_STATE_DIR": str(directory / "s"),
        **variables,
    }
    log = directory / "agent.log"
    with log.open("wb") as file:
        argv = (sys.executable, "-m", "pypilot", "proxy", "sidecar", "--", "--base-id", str(os.getpid()))
        process = await asyncio.create_subprocess_exec(*argv, env=environment, stdout=file, stderr=file)
    try:
        yield Pod(process, ports, log)
    finally:
        if process.returncode is None:
            process.terminate()  # takes its Envoy along, whose ports the next one needs
            await process.wait()


async def test_a_pod_is_ready_with_its_own_certificate_and_ends_in_order(ready, client, tmp_path):
    async with pod(ready, client, tmp_path) as one:
        await until(one.is_ready)
        (connection,) = ready.server.connections()
        assert connection.identity == f"spiffe://cluster.local/ns/{APP}/sa/web"
        assert (await one.get("status", "/stats/prometheus"))[1].count("envoy_server_live")
        assert (await one.get("status", "/quitquitquit"))[0] == 405
        text = one.log.read_text()
        assert "PRIVATE KEY" not in text
        assert (tmp_path / "token").read_text() not in text
        print(f"agent resident: {one.resident() >> 20} MB")
        assert one.resident() <= 60 << 20
        one.process.send_signal(signal.SIGTERM)
        await until(lambda: _is_ending(one))
        assert await asyncio.wait_for(one.process.wait(), 60) == 0


async def _is_ending(one):
    return one.process.returncode is not None or not await one.is_ready()


async def test_certificates_are_renewed_while_the_stream_stays(ready, client, tmp_path):
    async with pod(ready, client, tmp_path, SECRET_TTL="60s") as one:
        await until(one.is_ready)
        (before,) = ready.server.connections()
        serials = await one.serials()

        async def has_another():
            return serials and (await one.serials()).isdisjoint(serials)

        await until(has_another)
        (after,) = ready.server.connections()
        assert after.id == before.id
        assert await one.is_ready()


async def test_an_envoy_that_dies_takes_the_agent_along(ready, client, tmp_path):
    async with pod(ready, client, tmp_path) as one:
        await until(one.is_ready)
        for child in one.children():
            os.kill(child, signal.SIGKILL)
        assert await asyncio.wait_for(one.process.wait(), 60) != 0


async def test_asked_on_loopback_it_ends(ready, client, tmp_path):
    async with pod(ready, client, tmp_path) as one:
        await until(one.is_ready)
        assert (await one.get("status", "/quitquitquit", "POST"))[0] == 200
        assert await asyncio.wait_for(one.process.wait(), 60) == 0
