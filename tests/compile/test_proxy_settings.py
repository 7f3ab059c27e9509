"""ProxyConfig: the node's own over the mesh's default, and nothing in it can break a proxy."""

import json
from typing import Any

import pytest

from pypilot.compile.proxy_settings import CustomTag, ProxySettings, proxy_settings
from pypilot.world.reader import Reader
from tests.compile.listeners.decoding import world_of


def settings(own: Any = None, mesh: str = "") -> ProxySettings:
    return proxy_settings(Reader(world_of(mesh=mesh)), json.dumps(own or {}))


def test_defaults() -> None:
    made = settings()
    assert made == ProxySettings()
    assert made.tracing.sampling == 1.0
    assert made.topology.forward_client_cert == "SANITIZE_SET"
    assert made.headers.client_cert_parts == ("subject", "uri", "dns")


def test_the_node_wins_field_by_field() -> None:
    mesh = "defaultConfig: {tracing: {sampling: 5, maxPathTagLength: 64}, gatewayTopology: {numTrustedProxies: 1}}"
    made = settings({"tracing": {"sampling": 50}}, mesh)
    assert made.tracing.sampling == 50.0
    assert made.tracing.max_path_tag_length == 64
    assert made.topology.trusted_proxies == 1


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
