"""A control plane as it is served: its own CA, tokens of service accounts, TLS, and a small mesh in files."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from click.testing import CliRunner

from pypilot.app import Application
from pypilot.cli.token import token as token_command
from pypilot.settings import read_settings
from tests.contract.agent import Credentials
from tests.xds.certificates import Authority

Json = Mapping[str, Any]


def _object(kind: str, name: str, version: str = "v1", **content: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "alpha"}, **content}


def workload(name: str, address: str) -> list[dict[str, Any]]:
    """A pod and its service."""
    pod = _object("Pod", name)
    pod["metadata"]["labels"] = {"app": name, "security.istio.io/tlsMode": "istio"}
    pod["spec"] = {"serviceAccountName": name, "nodeName": "node", "containers": [{"name": "app", "image": "app"}]}
    pod["status"] = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
    vip = address.replace("10.1.", "10.96.")
    port = {"name": "http", "port": 8080, "targetPort": 8080}
    service = _object("Service", name, spec={"clusterIP": vip, "selector": {"app": name}, "ports": [port]})
    target = {"kind": "Pod", "name": name, "namespace": "alpha"}
    slice_ = _object("EndpointSlice", f"{name}-1", "discovery.k8s.io/v1", addressType="IPv4")
    slice_["metadata"]["labels"] = {"kubernetes.io/service-name": name}
    slice_["ports"] = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    slice_["endpoints"] = [{"addresses": [address], "conditions": {"ready": True}, "targetRef": target}]
    return [pod, service, slice_]


PAIR = Authority().issue(dns="gate.example")
EXTENSION = {
    "name": "own-lua",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": "function envoy_on_response(handle) end"},
    },
}
WORLD: tuple[dict[str, Any], ...] = (
    *workload("web", "10.1.0.1"),
    *workload("shop", "10.1.0.2"),
    *workload("gate", "10.1.0.3"),
    _object(
        "EnvoyFilter",
        "lua",
        "networking.istio.io/v1alpha3",
        spec={
            "configPatches": [{"applyTo": "EXTENSION_CONFIG", "patch": {"operation": "ADD", "value": EXTENSION}}],
        },
    ),
    _object("Secret", "gate-cert", stringData={"tls.crt": PAIR.certificate.decode(), "tls.key": PAIR.key.decode()}),
    _object(
        "Gateway",
        "gate",
        "networking.istio.io/v1",
        spec={
            "selector": {"app": "gate"},
            "servers": [
                {
                    "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
                    "hosts": ["gate.example"],
                    "tls": {"mode": "SIMPLE", "credentialName": "gate-cert"},
                }
            ],
        },
    ),
)


@dataclass
class Plane:
    """A running control plane."""

    application: Application
    root: Path

    @property
    def port(self) -> int:
        found = self.application.server.secure_port
        assert found is not None
        return found

    @property
    def roots(self) -> bytes:
        return (self.root / "ca" / "root-cert.pem").read_bytes()

    def mint(self, account: str, namespace: str = "alpha", audience: str = "istio-ca", seconds: int = 3600) -> str:
        """A projected token of a pod."""
        now = int(time.time())
        claims = {
            "iss": "https://kubernetes.default.svc.cluster.local",
            "sub": f"system:serviceaccount:{namespace}:{account}",
            "aud": [audience],
            "iat": now - 7200,
            "nbf": now - 7200,
            "exp": now + seconds,
            "kubernetes.io": {"namespace": namespace, "pod": {"name": f"{account}-1", "uid": "1"}},
        }
        return jwt.encode(claims, (self.root / "tokens.pem").read_text(), "ES256")

    def credentials(self, account: str, **claims: Any) -> Credentials:
        return Credentials(self.roots, self.mint(account, **claims))

    def write(self, *objects: Json) -> None:
        """Let these be the whole world."""
        path = self.root / "config" / "world.yaml"
        fresh = path.with_suffix(".new")
        fresh.write_text(yaml.safe_dump_all(objects))
        fresh.rename(path)


@asynccontextmanager
async def serving(root: Path, **more: str) -> AsyncIterator[Plane]:
    """`pypilot serve` within this process, with further settings."""
    (root / "config").mkdir()
    key, keys = root / "tokens.pem", root / "tokens.json"
    done = CliRunner().invoke(token_command, ["keys", "--key", str(key), "--jwks", str(keys)])
    assert done.exit_code == 0, done.output
    (root / "ca").mkdir()
    flags = dict.fromkeys(("grpc_addr", "secure_grpc_addr", "http_addr", "monitoring_addr"), "127.0.0.1:0")
    files = {"config": [str(root / "config")], "ca_dir": str(root / "ca"), "token_keys": str(keys)}
    plane = Plane(Application(read_settings({**flags, **files, "drain": "0", **more}, {})), root)
    plane.write(*WORLD)
    await plane.application.start()
    following = asyncio.create_task(plane.application.follow())
    try:
        yield plane
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await plane.application.stop()


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    """One with the usual settings."""
    async with serving(tmp_path) as made:
        yield made
