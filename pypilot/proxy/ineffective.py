"""Fields of ProxyConfig that an agent cannot honour: whoever sets one is told why, with a code. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from pypilot.proxy.values import Fields

UNSUPPORTED: Final = "unsupported-field"
UNKNOWN: Final = "unknown-field"
"""Codes as the control plane has them."""
_PLAIN: Final = frozenset({"", "DISABLE"})
_NO_TRACER: Final = "Envoy has no such tracer any more"

_REASONS: Final[Mapping[str, tuple[Any, str]]] = {
    "configPath": ("./etc/istio/proxy", "the bootstrap lies where PROXY_STATE_DIR says"),
    "statNameLength": (189, "Envoy has no limit on the length of metrics' names any more"),
    "controlPlaneAuthPolicy": ("MUTUAL_TLS", "the control plane is only spoken to over mutual TLS"),
    "discoveryRefreshDelay": (None, "discovery is a stream"),
    "availabilityZone": (None, "the node's locality counts, or the label istio-locality"),
    "meshId": (None, "ISTIO_META_MESH_ID says it"),
    "sds": (None, "certificates come over SDS in any case"),
    "privateKeyProvider": (None, "private keys are used by the processor alone (PC-020)"),
    "tracing.lightstep": (None, _NO_TRACER),
    "tracing.stackdriver": (None, _NO_TRACER),
    "tracing.openCensusAgent": (None, _NO_TRACER),
}
"""Field -> the value that everybody has, and why no other counts."""
_ELSEWHERE: Final = frozenset({"gatewayTopology", "proxyHeaders", "connectionSettings", "tracing"})
"""What the control plane reads from the node's metadata."""
_INJECTION: Final = frozenset({"interceptionMode", "image", "holdApplicationUntilProxyStarts"})


class Ineffective(NamedTuple):
    """A field without effect."""

    field: str
    reason: str
    code: str = UNSUPPORTED


def ineffective(data: Mapping[str, Any], honoured: frozenset[str]) -> Iterator[Ineffective]:
    """What of a ProxyConfig has no effect.

    Args:
        data: The ProxyConfig.
        honoured: The fields that the agent acts on.
    """
    tracing = data.get("tracing")
    deeper = {f"tracing.{k}": v for k, v in tracing.items()} if isinstance(tracing, Mapping) else {}
    for field, value in {**data, **deeper}.items():
        usual, reason = _REASONS.get(field, (None, ""))
        if value is None or ("." in field and not reason):
            continue
        if reason:
            if value != usual:
                yield Ineffective(field, reason)
        elif field not in honoured | _ELSEWHERE | _INJECTION:
            yield Ineffective(field, "ProxyConfig has no such field", UNKNOWN)


def is_plain(said: Fields, path: str, skipped: list[Ineffective]) -> bool:
    """A service that wants TLS is rather left out than spoken to without; then `skipped` says so.

    Raises:
        AgentError: the mode is no text.
    """
    mode = said.below("tlsSettings").text("mode")
    if mode in _PLAIN:
        return True
    skipped.append(Ineffective(f"{path}.tlsSettings", f"TLS mode {mode} is not implemented: {path} is left out"))
    return False


def known_fields() -> frozenset[str]:
    """Fields that have a reason, or another reader."""
    return frozenset(f for f in _REASONS if "." not in f) | _ELSEWHERE | _INJECTION
