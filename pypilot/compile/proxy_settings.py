"""A proxy's ProxyConfig, as far as its listeners and routes need it (PC-007…019).

The node's own stands in place of the mesh's default, which its agent has merged into it (PC-001); for
`connectionSettings` the default holds where the node says nothing of them. Parts that cannot be read count as unset: a
proxy must not lose its listeners over them.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from pypilot.compile.connection_settings import ConnectionSettings, connection_settings
from pypilot.world.reader import Reader

DEFAULT_SAMPLING = 1.0
"""Per cent of requests that are traced where nobody says otherwise (PC-007)."""
FORWARD_DETAILS = frozenset({"SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"})


class CustomTag(NamedTuple):
    """`tracing.customTags`: one tag."""

    tag: str
    kind: Literal["literal", "environment", "header"]
    value: str
    """The literal, or the name of the variable or header."""
    default: str = ""


class TracingSettings(NamedTuple):
    """`tracing`."""

    sampling: float = DEFAULT_SAMPLING
    max_path_tag_length: int = 0
    istio_tags: bool = True
    custom_tags: tuple[CustomTag, ...] = ()


class RouteHeaders(NamedTuple):
    """The part of `proxyHeaders` that routes add by themselves (PC-013, PC-017)."""

    attempt_count: bool = True
    """Virtual hosts set `include_request_attempt_count`."""
    forwarded_host: bool = False
    """Routes that rewrite the host set `append_x_forwarded_host`."""


class HeaderSettings(NamedTuple):
    """`proxyHeaders` (PC-011…017)."""

    server: str = ""
    """Value of the `server` header; empty for the default."""
    keep_server: bool = False
    """The upstream's `server` header passes."""
    request_id: bool = True
    debug_headers: bool = True
    """The router adds `x-envoy-*` headers."""
    exchange_in_mesh_only: bool = False
    """`x-envoy-peer-metadata*` is not sent to hosts outside the mesh."""
    forward_client_cert: str = "APPEND_FORWARD"
    client_cert_parts: tuple[str, ...] = ("subject", "uri", "dns")
    preserve_case: bool = False
    forwarded_port: bool = False
    routes: RouteHeaders = RouteHeaders()


class TopologySettings(NamedTuple):
    """`gatewayTopology` (PC-008…010)."""

    trusted_proxies: int = 0
    forward_client_cert: str = "SANITIZE_SET"
    proxy_protocol: bool = False


class ProxySettings(NamedTuple):
    """All of it; hashable."""

    tracing: TracingSettings = TracingSettings()
    headers: HeaderSettings = HeaderSettings()
    topology: TopologySettings = TopologySettings()
    connection: ConnectionSettings = ConnectionSettings()


_Config = Mapping[str, Any]


def _at(config: Any, *path: str) -> Any:
    for key in path:
        config = config.get(key) if isinstance(config, Mapping) else None
    return config


def _text(config: Any, *path: str) -> str:
    value = _at(config, *path)
    return value if isinstance(value, str) else ""


def _number(config: Any, *path: str) -> float:
    value = _at(config, *path)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0.0


def _count(config: Any, *path: str) -> int:
    value = _at(config, *path)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32 else 0


def _custom_tags(config: _Config) -> tuple[CustomTag, ...]:
    tags = _at(config, "tracing", "customTags")
    found = []
    for tag, said in tags.items() if isinstance(tags, Mapping) else ():
        if not tag:
            continue
        if value := _text(said, "literal", "value"):
            found.append(CustomTag(tag, "literal", value))
        elif name := _text(said, "environment", "name"):
            found.append(CustomTag(tag, "environment", name, _text(said, "environment", "defaultValue")))
        elif name := _text(said, "header", "name"):
            found.append(CustomTag(tag, "header", name, _text(said, "header", "defaultValue")))
    return tuple(sorted(found))


def _tracing(config: _Config) -> TracingSettings:
    sampling = _number(config, "tracing", "sampling") or DEFAULT_SAMPLING
    return TracingSettings(
        sampling=sampling if sampling <= 100 else DEFAULT_SAMPLING,
        max_path_tag_length=_count(config, "tracing", "maxPathTagLength"),
        istio_tags=_at(config, "tracing", "enableIstioTags") is not False,
        custom_tags=_custom_tags(config),
    )


def _forward_details(config: _Config, *path: str, default: str) -> str:
    value = _text(config, *path)
    return value if value in FORWARD_DETAILS else default


def _route_headers(config: _Config) -> RouteHeaders:
    headers = _at(config, "proxyHeaders")
    return RouteHeaders(
        attempt_count=_at(headers, "attemptCount", "disabled") is not True,
        forwarded_host=_at(headers, "xForwardedHost", "enabled") is True,
    )


def _headers(config: _Config) -> HeaderSettings:
    headers = _at(config, "proxyHeaders")
    keep_server = _at(headers, "server", "disabled") is True
    wanted = _at(headers, "setCurrentClientCertDetails")
    on_by_default = HeaderSettings().client_cert_parts
    parts = [part for part in on_by_default if _at(wanted, part) is not False]
    parts += [part for part in ("cert", "chain") if _at(wanted, part) is True]
    return HeaderSettings(
        server="" if keep_server else _text(headers, "server", "value"),
        keep_server=keep_server,
        request_id=_at(headers, "requestId", "disabled") is not True,
        debug_headers=_at(headers, "envoyDebugHeaders", "disabled") is not True,
        exchange_in_mesh_only=_at(headers, "metadataExchangeHeaders", "mode") == "IN_MESH",
        forward_client_cert=_forward_details(config, "proxyHeaders", "forwardedClientCert", default="APPEND_FORWARD"),
        client_cert_parts=tuple(parts),
        preserve_case=_at(headers, "preserveHttp1HeaderCase") is True,
        forwarded_port=_at(headers, "xForwardedPort", "enabled") is True,
        routes=_route_headers(config),
    )


def _topology(config: _Config) -> TopologySettings:
    path = ("gatewayTopology", "forwardClientCertDetails")
    return TopologySettings(
        trusted_proxies=_count(config, "gatewayTopology", "numTrustedProxies"),
        forward_client_cert=_forward_details(config, *path, default="SANITIZE_SET"),
        proxy_protocol=_at(config, "gatewayTopology", "proxyProtocol") is not None,
    )


def _default(reader: Reader) -> _Config:
    default: _Config = msgspec.to_builtins(reader.mesh().default_config, enc_hook=str)
    return default


def _config(reader: Reader, proxy_config: str) -> _Config:
    own = json.loads(proxy_config) if proxy_config else None
    return own if isinstance(own, Mapping) else _default(reader)


def proxy_settings(reader: Reader, proxy_config: str) -> ProxySettings:
    """The settings of a proxy whose node carries this ProxyConfig (`Proxy.proxy_config`)."""
    config = _config(reader, proxy_config)
    limits = _at(config, "connectionSettings")
    connection = connection_settings(_at(_default(reader), "connectionSettings") if limits is None else limits)
    return ProxySettings(_tracing(config), _headers(config), _topology(config), connection)


def route_headers(reader: Reader, proxy_config: str) -> RouteHeaders:
    """The headers that the routes of such a proxy add; apart, so that routes depend on nothing else of it."""
    return _route_headers(_config(reader, proxy_config))
