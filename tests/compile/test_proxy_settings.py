"""ProxyConfig: the node's own in place of the mesh's default, and nothing in it can break a proxy."""

import json
from typing import Any

import pytest

from pypilot.compile.proxy_settings import CustomTag, ProxySettings, proxy_settings
from pypilot.world.reader import Reader
from tests.compile.listeners.decoding import world_of


def settings(own: Any = None, mesh: str = "") -> ProxySettings:
    return proxy_settings(Reader(world_of(mesh=mesh)), "" if own is None else json.dumps(own))


def test_defaults() -> None:
    made = settings()
    assert made == ProxySettings()
    assert made.tracing.sampling == 1.0
    assert made.topology.forward_client_cert == "SANITIZE_SET"
    assert made.headers.client_cert_parts == ("subject", "uri", "dns")


_MESH = """
defaultConfig:
  tracing: {sampling: 5, maxPathTagLength: 64}
  gatewayTopology: {numTrustedProxies: 1}
  connectionSettings: {httpMaxConcurrentStreams: 7}
"""


def test_a_node_without_one_has_the_default_of_the_mesh() -> None:
    made = settings(None, _MESH)
    assert (made.tracing.sampling, made.tracing.max_path_tag_length) == (5.0, 64)
    assert made.topology.trusted_proxies == 1
    assert made.connection.max_streams == 7


@pytest.mark.parametrize("own", [{}, {"tracing": {}}])
def test_the_own_one_of_a_node_is_the_whole(own: dict[str, Any]) -> None:
    """PC-001: the agent has merged the mesh's default into it, even if nothing came of it."""
    made = settings(own, _MESH)
    assert made.tracing == ProxySettings().tracing
    assert made.topology == ProxySettings().topology
    assert made.connection.max_streams == 7


def test_connection_settings_of_a_node_are_its_own() -> None:
    made = settings({"connectionSettings": {"httpIdleTimeout": "5s"}}, _MESH)
    assert made.connection.max_streams is None


def test_custom_tags_are_sorted_and_need_a_source() -> None:
    tags = {
        "z": {"literal": {"value": "1"}},
        "a": {"header": {"name": "x-a", "defaultValue": "-"}},
        "m": {"environment": {"name": "ZONE"}},
        "none": {"literal": {"value": ""}},
        "": {"literal": {"value": "1"}},
        "odd": 7,
    }
    assert settings({"tracing": {"customTags": tags}}).tracing.custom_tags == (
        CustomTag("a", "header", "x-a", "-"),
        CustomTag("m", "environment", "ZONE"),
        CustomTag("z", "literal", "1"),
    )


def test_client_certificate_parts() -> None:
    wanted = {"subject": False, "cert": True, "chain": True, "uri": True}
    made = settings({"proxyHeaders": {"setCurrentClientCertDetails": wanted}})
    assert made.headers.client_cert_parts == ("uri", "dns", "cert", "chain")


@pytest.mark.parametrize(
    "own",
    [
        "text",
        ["list"],
        {"tracing": 1, "proxyHeaders": [], "gatewayTopology": "x"},
        {"tracing": {"sampling": "much", "maxPathTagLength": -1, "customTags": ["a"]}},
        {"tracing": {"sampling": -3, "maxPathTagLength": 2**40}},
        {"tracing": {"sampling": True, "customTags": {"a": {"literal": {"value": 3}}}}},
        {"gatewayTopology": {"numTrustedProxies": 1.5, "forwardClientCertDetails": "SOMETIMES"}},
        {"connectionSettings": "none"},
        {
            "connectionSettings": {
                "profile": 1,
                "listenerPerConnectionBufferLimitBytes": -1,
                "httpIdleTimeout": "-5s",
                "httpDrainTimeout": 5,
                "httpRequestTimeout": "99999999h",
                "httpMaxConcurrentStreams": 0,
                "http2InitialStreamWindowSize": 1024,
                "httpHeadersWithUnderscoresAction": ["DROP"],
                "httpMergeSlashes": "yes",
                "httpPathWithEscapedSlashesAction": "ASK",
            }
        },
        {"proxyHeaders": {"server": {"value": 4}, "forwardedClientCert": 1, "requestId": None}},
    ],
)
def test_what_cannot_be_read_counts_as_unset(own: Any) -> None:
    assert settings(own) == ProxySettings()


def test_sampling_is_a_percentage() -> None:
    assert settings({"tracing": {"sampling": 100}}).tracing.sampling == 100.0
    assert settings({"tracing": {"sampling": 101}}).tracing.sampling == 1.0
    assert settings({"tracing": {"sampling": 0}}).tracing.sampling == 1.0
