"""`connectionSettings` of a ProxyConfig: limits and timeouts of connection managers (PC-018, PC-019, GW-056).

What Envoy would refuse counts as unset.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from envoy.config.core.v3 import protocol_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2

from pypilot.compile.messages import duration
from pypilot.kinds.base import Duration

_MAX_INT32 = 2**31 - 1
_LEAST_WINDOW = 65535
_LONGEST_NANOS = 9_223_372_035_000_000_000
_UNDERSCORES = {
    "HEADERS_WITH_UNDERSCORES_ALLOW": protocol_pb2.HttpProtocolOptions.ALLOW,
    "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST": protocol_pb2.HttpProtocolOptions.REJECT_REQUEST,
    "HEADERS_WITH_UNDERSCORES_DROP_HEADER": protocol_pb2.HttpProtocolOptions.DROP_HEADER,
}
_SLASHES = frozenset({"KEEP_UNCHANGED", "REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD"})


class ConnectionSettings(NamedTuple):
    """The settings; None or empty where nothing is said."""

    edge: bool = False
    """Gateways fill in what Envoy recommends at the edge of a network."""
    buffer_limit: int | None = None
    idle_timeout: Duration | None = None
    max_connection_duration: Duration | None = None
    max_stream_duration: Duration | None = None
    stream_idle_timeout: Duration | None = None
    request_timeout: Duration | None = None
    request_headers_timeout: Duration | None = None
    drain_timeout: Duration | None = None
    max_streams: int | None = None
    stream_window: int | None = None
    connection_window: int | None = None
    underscores: str = ""
    merge_slashes: bool | None = None
    escaped_slashes: str = ""


_EDGE = ConnectionSettings(
    buffer_limit=32 * 1024,
    idle_timeout=Duration.of(3600),
    stream_idle_timeout=Duration.of(300),
    request_timeout=Duration.of(300),
    request_headers_timeout=Duration.of(60),
    max_streams=100,
    stream_window=64 * 1024,
    connection_window=1024 * 1024,
    underscores="HEADERS_WITH_UNDERSCORES_REJECT_REQUEST",
    merge_slashes=True,
    escaped_slashes="UNESCAPE_AND_REDIRECT",
)


def _number(config: Mapping[str, Any], key: str, least: int = 0) -> int | None:
    value = config.get(key)
    good = isinstance(value, int) and not isinstance(value, bool) and least <= value <= _MAX_INT32
    return value if good else None


def _length(config: Mapping[str, Any], key: str) -> Duration | None:
    value = config.get(key)
    try:
        parsed = Duration.parse(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return parsed if parsed is not None and 0 <= parsed.nanos <= _LONGEST_NANOS else None


def _word(config: Mapping[str, Any], key: str, known: frozenset[str]) -> str:
    value = config.get(key)
    return value if isinstance(value, str) and value in known else ""


def connection_settings(config: Any) -> ConnectionSettings:
    """From the JSON form of `connectionSettings`."""
    if not isinstance(config, Mapping):
        return ConnectionSettings()
    merge = config.get("httpMergeSlashes")
    return ConnectionSettings(
        edge=config.get("profile") == "EDGE",
        buffer_limit=_number(config, "listenerPerConnectionBufferLimitBytes"),
        idle_timeout=_length(config, "httpIdleTimeout"),
        max_connection_duration=_length(config, "httpMaxConnectionDuration"),
        max_stream_duration=_length(config, "httpMaxStreamDuration"),
        stream_idle_timeout=_length(config, "httpStreamIdleTimeout"),
        request_timeout=_length(config, "httpRequestTimeout"),
        request_headers_timeout=_length(config, "httpRequestHeadersTimeout"),
        drain_timeout=_length(config, "httpDrainTimeout"),
        max_streams=_number(config, "httpMaxConcurrentStreams", least=1),
        stream_window=_number(config, "http2InitialStreamWindowSize", least=_LEAST_WINDOW),
        connection_window=_number(config, "http2InitialConnectionWindowSize", least=_LEAST_WINDOW),
        underscores=_word(config, "httpHeadersWithUnderscoresAction", frozenset(_UNDERSCORES)),
        merge_slashes=merge if isinstance(merge, bool) else None,
        escaped_slashes=_word(config, "httpPathWithEscapedSlashesAction", _SLASHES),
    )


def at_the_edge(settings: ConnectionSettings) -> ConnectionSettings:
    """What holds for a gateway: with the profile EDGE its values stand where nothing else is said."""
    if not settings.edge:
        return settings
    own = settings._asdict()
    return ConnectionSettings(**{k: v if v not in (None, "") else getattr(_EDGE, k) for k, v in own.items()})


def apply_connection_settings(manager: hcm_pb2.HttpConnectionManager, settings: ConnectionSettings) -> None:
    """They win over the mesh's path normalization."""
    for field in ("stream_idle_timeout", "request_timeout", "request_headers_timeout", "drain_timeout"):
        if (value := getattr(settings, field)) is not None:
            getattr(manager, field).CopyFrom(duration(value))
    for field in ("idle_timeout", "max_connection_duration", "max_stream_duration"):
        if (value := getattr(settings, field)) is not None:
            getattr(manager.common_http_protocol_options, field).CopyFrom(duration(value))
    http2 = {
        "max_concurrent_streams": settings.max_streams,
        "initial_stream_window_size": settings.stream_window,
        "initial_connection_window_size": settings.connection_window,
    }
    for field, number in http2.items():
        if number is not None:
            getattr(manager.http2_protocol_options, field).value = number
    if settings.underscores:
        action = _UNDERSCORES[settings.underscores]
        manager.common_http_protocol_options.headers_with_underscores_action = action
    if settings.merge_slashes is not None:
        manager.merge_slashes = settings.merge_slashes
    if settings.escaped_slashes:
        manager.path_with_escaped_slashes_action = manager.PathWithEscapedSlashesAction.Value(settings.escaped_slashes)
