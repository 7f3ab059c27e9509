"""A compliance policy holds for every TLS context that a proxy gets (DR-079)."""

from collections.abc import Iterator
from typing import Any

import pytest

from pypilot.compile.compliance import FIPS_CIPHERS
from pypilot.compile.generators import GENERATORS
from pypilot.settings import CompliancePolicy
from pypilot.wire import types
from pypilot.wire.decode import resource_to_dict
from pypilot.wire.node import Proxy
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.reader import Reader
from pypilot.world.world import Constants, World
from tests.compile.listeners.decoding import mesh_config
from tests.golden import node
from tests.world.objects import make, pod, service

TLS = {"mode": "SIMPLE", "credentialName": "c", "minProtocolVersion": "TLSV1_1", "ecdhCurves": ["X25519"]}
MUTUAL = {"mode": "ISTIO_MUTUAL"}
OWN = {"cipherSuites": ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305"]}
OBJECTS = (
    service("web"),
    service("own"),
    pod("web-1", "10.1.0.1", app="web"),
    make("DestinationRule", "own", spec={"host": "own", "trafficPolicy": {"tls": {"mode": "SIMPLE", "sni": "a"}}}),
    make(
        "Gateway",
        "front",
        spec={
            "selector": {"app": "gw"},
            "servers": [
                {"port": {"number": 443, "name": "a", "protocol": "HTTPS"}, "hosts": ["a"], "tls": TLS | OWN},
                {
                    "port": {"number": 443, "name": "b", "protocol": "HTTPS"},
                    "hosts": ["b"],
                    "tls": {"mode": "ISTIO_MUTUAL"},
                },
            ],
        },
    ),
)
MESH = "tlsDefaults: {ecdhCurves: [P-256], cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384, AES128-SHA]}"
PROXIES = (
    node({"name": "web-1", "ip": "10.1.0.1", "labels": {"app": "web"}, "metadata": {"ENABLE_HBONE": "true"}}),
    node({"type": "router", "name": "gw-1", "ip": "10.1.0.2", "labels": {"app": "gw"}}),
)


def contexts(found: Any) -> Iterator[dict[str, Any]]:
    """The parameters of all TLS contexts in a message."""
    if isinstance(found, dict):
        if "common_tls_context" in found:
            yield found["common_tls_context"].get("tls_params", {})
        for value in found.values():
            yield from contexts(value)
    elif isinstance(found, list):
        for value in found:
            yield from contexts(value)


def parameters(proxy: Proxy, policy: CompliancePolicy) -> list[dict[str, Any]]:
    constants = Constants(compliance=policy)
    world = advance(World(constants=constants), Delta(upserts=OBJECTS, mesh=mesh_config(MESH)))
    made = (r for kind in (types.CLUSTER, types.LISTENER) for r in GENERATORS[kind](Reader(world), proxy))
    return [found for resource in made for found in contexts(resource_to_dict(resource))]


@pytest.mark.parametrize("proxy", PROXIES, ids=["sidecar", "gateway"])
def test_no_context_is_left_out(proxy: Proxy) -> None:
    as_they_are = parameters(proxy, "none")
    assert len(as_they_are) >= (8 if proxy.type == "sidecar" else 6)
    old = parameters(proxy, "fips-140-2")
    assert len(old) == len(as_they_are)
    for found, before in zip(old, as_they_are, strict=True):
        allowed = [c for c in before.get("cipher_suites", ()) if c in FIPS_CIPHERS]
        assert found == {
            "tls_minimum_protocol_version": "TLSv1_2",
            "tls_maximum_protocol_version": "TLSv1_2",
        } | ({"cipher_suites": allowed} if allowed else {})
    present = [{**found, "compliance_policies": ["FIPS_202205"]} for found in as_they_are]
    assert parameters(proxy, "fips-140-3") == present
    for found in parameters(proxy, "pqc"):
        assert found["tls_minimum_protocol_version"] == "TLSv1_3"
        assert found["ecdh_curves"] == ["X25519MLKEM768"]
        assert found["cipher_suites"] == list(FIPS_CIPHERS)


def test_the_settings_of_users_give_way() -> None:
    found = parameters(PROXIES[1], "fips-140-2")
    assert {"ECDHE-RSA-AES128-GCM-SHA256"} in [set(f.get("cipher_suites", ())) for f in found]
    assert not any("ecdh_curves" in f for f in found)
    assert any("ecdh_curves" in f for f in parameters(PROXIES[1], "none"))
