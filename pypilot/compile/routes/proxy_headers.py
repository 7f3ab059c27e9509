"""What a proxy's ProxyConfig says about headers that routes add: `proxyHeaders` (PC-013, PC-017)."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pypilot.wire.node import Proxy


class RouteHeaders(NamedTuple):
    """Headers that routes add by themselves."""

    attempt_count: bool = True
    """Virtual hosts set `include_request_attempt_count`."""
    forwarded_host: bool = False
    """Routes that rewrite the host set `append_x_forwarded_host`."""


def _member(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def route_headers(proxy: Proxy) -> RouteHeaders:
    """From the ProxyConfig in the node's metadata, merged already (PC-001); unreadable parts count as unset."""
    headers = _member(json.loads(proxy.proxy_config), "proxyHeaders")
    return RouteHeaders(
        attempt_count=_member(_member(headers, "attemptCount"), "disabled") is not True,
        forwarded_host=_member(_member(headers, "xForwardedHost"), "enabled") is True,
    )
