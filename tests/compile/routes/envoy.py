"""Asks the real Envoy whether it takes RouteConfigurations."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pypilot.cli.demo.envoy import EnvoyNotFoundError, find_envoy

_PREFIX = "type.googleapis.com/envoy.extensions.filters."
_HTTP_FILTERS = [
    ("envoy.filters.http.fault", "http.fault.v3.HTTPFault"),
    ("envoy.filters.http.cors", "http.cors.v3.Cors"),
    ("envoy.filters.http.router", "http.router.v3.Router"),
]


def configuration(name: str, hosts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A small RouteConfiguration in JSON form."""
    return {"name": name, "virtual_hosts": list(hosts), "validate_clusters": False}


def listener(config: Mapping[str, Any], port: int) -> dict[str, Any]:
    """A listener that serves a RouteConfiguration."""
    manager = {
        "@type": _PREFIX + "network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "route_config": config,
        "http_filters": [{"name": n, "typed_config": {"@type": _PREFIX + t}} for n, t in _HTTP_FILTERS],
    }
    return {
        "name": f"listener-{port}",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def accepts(configs: Sequence[Mapping[str, Any]], folder: Path, environment: Mapping[str, str]) -> bool:
    """True if Envoy takes all of them; prints what it says otherwise. Skips where there is no Envoy."""
    try:
        envoy = find_envoy(environment)
    except EnvoyNotFoundError as error:
        pytest.skip(str(error))
    listeners = [listener(config, 20000 + i) for i, config in enumerate(configs)]
    # Istio's own bootstrap raises the limit, too: without it any expression of some length is rejected.
    layer = {"name": "test", "static_layer": {"re2.max_program_size.error_level": 32768}}
    bootstrap = {"layered_runtime": {"layers": [layer]}, "static_resources": {"listeners": listeners}}
    path = folder / "bootstrap.json"
    path.write_text(json.dumps(bootstrap))
    command = [str(envoy), "--mode", "validate", "-c", str(path), "-l", "critical", "--disable-hot-restart"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    print(done.stderr[-800:])
    return done.returncode == 0
