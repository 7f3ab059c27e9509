"""The gateway's bootstrap of `deploy/kubernetes/ingress`: a real Envoy runs it, and shows a TLS server its token."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from e2e.kube.cluster import free_port
from tests.xds.certificates import Authority, Pair

INGRESS = Path(__file__).parents[1] / "deploy/kubernetes/ingress"
SECONDS = 90.0
POD = {
    "POD_IP": "10.0.0.1",
    "POD_NAME": "istio-ingressgateway-1",
    "POD_NAMESPACE": "istio-system",
    "NODE_NAME": "node",
    "SERVICE_ACCOUNT": "istio-ingressgateway",
}


class Streams(grpc.GenericRpcHandler):
    """Takes every stream, notes whom it came from, and says nothing."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    def service(self, call: Any) -> Any:
        token = dict(call.invocation_metadata).get("authorization", "")

        async def stream(requests: Any, _: Any) -> Any:
            async for request in requests:
                self.seen.put_nowait((token, request))
            yield b""

        return grpc.stream_stream_rpc_method_handler(stream)

    async def token(self) -> str:
        """The token of the next stream."""
        async with asyncio.timeout(SECONDS):
            token, request = await self.seen.get()
        assert b"router~10.0.0.1~istio-ingressgateway-1.istio-system~istio-system.svc.cluster.local" in request
        return token


@asynccontextmanager
async def server(pair: Pair, port: int, streams: Streams) -> AsyncIterator[None]:
    """The control plane."""
    running = grpc.aio.server()
    running.add_generic_rpc_handlers((streams,))
    running.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([(pair.key, pair.certificate)]))
    await running.start()
    try:
        yield
    finally:
        await running.stop(0)


def publish(directory: Path, version: int, name: str, text: bytes) -> None:
    """Write a file as the kubelet does: a new directory, and a symbolic link that is replaced."""
    (directory / f"..{version}").mkdir(parents=True)
    (directory / f"..{version}" / name).write_bytes(text)
    (directory / "..tmp").symlink_to(f"..{version}")
    (directory / "..tmp").rename(directory / "..data")
    if not (directory / name).is_symlink():
        (directory / name).symlink_to(f"..data/{name}")


@asynccontextmanager
async def envoy(binary: Path, directory: Path, xds: int, ports: dict[str, int]) -> AsyncIterator[None]:
    """Envoy with the container's own arguments; only addresses and directories are this machine's."""
    changes = {"istiod.istio-system.svc, port_value: 15012": f"127.0.0.1, port_value: {xds}"}
    changes |= {f"port_value: {theirs}": f"port_value: {ours}" for theirs, ours in ports.items()}
    changes |= {"/etc/envoy": str(directory), "/var/run/secrets": str(directory)}
    for name in ("envoy.yaml", "root.yaml", "token.yaml"):
        text = (INGRESS / name).read_text()
        for old, new in changes.items():
            assert name != "envoy.yaml" or old in text
            text = text.replace(old, new)
        (directory / name).write_text(text)
    workload = yaml.safe_load((INGRESS / "deployment.yaml").read_text())
    arguments = workload["spec"]["template"]["spec"]["containers"][0]["args"]
    for name, value in POD.items():
        arguments = [argument.replace(f"$({name})", value) for argument in arguments]
    arguments = [argument.replace("/etc/envoy", str(directory)) for argument in arguments]
    with (directory / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            binary, *arguments, "--use-dynamic-base-id", stdout=log, stderr=asyncio.subprocess.STDOUT
        )
    try:
        yield
    except BaseException:
        print((directory / "envoy.log").read_text()[-3000:])
        raise
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def status(port: int, path: str) -> int:
    """The status of a page; 0 if nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.mark.envoy
async def test_the_gateway_shows_its_token_and_the_renewed_one(envoy_binary: Path, tmp_path: Path) -> None:
    authority = Authority()
    pair = authority.issue(dns="istiod.istio-system.svc")
    publish(tmp_path / "istio", 1, "root-cert.pem", authority.certificate)
    publish(tmp_path / "tokens", 1, "istio-token", b"first")
    xds, streams = free_port(), Streams()
    ports = {"15000": free_port(), "15021": free_port(), "15090": free_port()}
    async with envoy(envoy_binary, tmp_path, xds, ports):
        async with server(pair, xds, streams):
            assert await streams.token() == "Bearer first"
            # Nothing was configured yet: not ready, and the admin interface is nobody else's.
            assert status(ports["15021"], "/healthz/ready") != 200
            publish(tmp_path / "tokens", 2, "istio-token", b"second")
        token = "Bearer first"
        while token != "Bearer second":  # whoever connects before Envoy has read it again still shows the first
            async with server(pair, xds, streams):
                token = await streams.token()


@pytest.mark.envoy
async def test_the_gateway_trusts_nobody_else(envoy_binary: Path, tmp_path: Path) -> None:
    mine, other = Authority(), Authority("another CA")
    publish(tmp_path / "istio", 1, "root-cert.pem", mine.certificate)
    publish(tmp_path / "tokens", 1, "istio-token", b"first")
    xds, streams = free_port(), Streams()
    ports = {"15000": free_port(), "15021": free_port(), "15090": free_port()}
    failures = "cluster.xds-grpc.ssl"

    async def refused(counter: str) -> None:
        page = f"http://127.0.0.1:{ports['15000']}/stats?filter={failures}"
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    text = await asyncio.to_thread(lambda: urllib.request.urlopen(page, timeout=30).read().decode())
                except OSError:
                    text = ""
                if any(
                    line.startswith(f"{failures}.{counter}: ") and not line.endswith(" 0") for line in text.splitlines()
                ):
                    return
                await asyncio.sleep(0.1)

    async with envoy(envoy_binary, tmp_path, xds, ports):
        async with server(other.issue(dns="istiod.istio-system.svc"), xds, streams):
            await refused("fail_verify_error")
        async with server(mine.issue(dns="somebody.istio-system.svc"), xds, streams):
            await refused("fail_verify_san")
        assert streams.seen.empty()
        async with server(mine.issue(dns="istiod.istio-system.svc"), xds, streams):
            assert await streams.token() == "Bearer first"
        publish(tmp_path / "istio", 2, "root-cert.pem", other.certificate)
        async with server(other.issue(dns="istiod.istio-system.svc"), xds, streams):
            assert await streams.token() == "Bearer first", "a new root is read"
