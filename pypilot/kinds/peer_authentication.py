"""Istio PeerAuthentication (security.istio.io): which mutual TLS a workload demands (PA rows)."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final, Literal

from pypilot.kinds.base import FieldPath, Finding, Held, Kind, Object, Spec
from pypilot.kinds.refusals import refuse

MutualTLSMode = Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]


class PodSelector(Spec, frozen=True):
    """`selector` of the security kinds."""

    match_labels: dict[str, str] = {}
    """Labels that must all be there, with these values."""


class MutualTLS(Spec, frozen=True):
    """`mtls`."""

    mode: MutualTLSMode = "UNSET"
    """UNSET takes the mode of the wider policy."""


class PeerAuthenticationSpec(Spec, frozen=True):
    """`spec`."""

    selector: PodSelector | None = None
    """Workloads that are meant; all of the namespace without it."""
    mtls: MutualTLS | None = None
    """Mutual TLS of all ports."""
    port_level_mtls: dict[str, MutualTLS] = {}
    """Mutual TLS by port number of the workload."""

    @property
    def mode(self) -> MutualTLSMode:
        """The mode for all ports."""
        return self.mtls.mode if self.mtls is not None else "UNSET"

    @property
    def selects(self) -> bool:
        """True for a policy of some workloads only."""
        return self.selector is not None and bool(self.selector.match_labels)


class PeerAuthentication(Object, frozen=True, kw_only=True):
    """A PeerAuthentication."""

    KIND: ClassVar[str] = "PeerAuthentication"

    spec: PeerAuthenticationSpec = PeerAuthenticationSpec()
    """Which workloads demand which mutual TLS."""


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < 65536


def validate_selector(selector: PodSelector | None, path: str) -> Iterable[Finding]:
    """Labels must have names, and their values no wildcards."""
    for key, value in (selector.match_labels if selector is not None else {}).items():
        if not key:
            yield Finding(f"{path}.matchLabels", "a label needs a name (VAL-007)")
        if "*" in key or "*" in value:
            yield Finding(f"{path}.matchLabels.{key}", f"{value!r}: wildcards are not allowed in labels (VAL-007)")


def validate(policy: PeerAuthentication) -> Iterable[Finding]:
    """Ports are numbers, and are said for selected workloads only."""
    spec = policy.spec
    yield from validate_selector(spec.selector, "spec.selector")
    for port in spec.port_level_mtls:
        if not _is_port(port):
            yield Finding(f"spec.portLevelMtls.{port}", f"{port!r} is not a port number")
    if spec.port_level_mtls and not spec.selects:
        yield refuse("spec.portLevelMtls", "it has no effect without a selector (PA-004)")


_STRICT: Final = {"mode": "STRICT"}
_MEANWHILE: Final = "until it is corrected it is STRICT"


def _hold(policy: Mapping[str, Any], path: FieldPath) -> Held | None:
    """A mode that cannot be told closes the door: without the policy plain connections would be taken."""
    spec = policy.get("spec")
    if path[:2] == ("spec", "mtls"):
        return _with(policy, {"mtls": _STRICT}, _MEANWHILE)
    if path[:2] != ("spec", "portLevelMtls") or not isinstance(spec, Mapping):
        return None
    ports, port = spec.get("portLevelMtls"), path[2] if len(path) > 2 else ""
    if not isinstance(ports, Mapping) or port not in ports:
        return _with(policy, {"mtls": _STRICT, "portLevelMtls": {}}, _MEANWHILE)
    others = {number: mode for number, mode in ports.items() if number != port}
    if not _is_port(str(port)):
        return _with(policy, {"portLevelMtls": others}, "it is left out")
    return _with(policy, {"portLevelMtls": {**others, port: _STRICT}}, _MEANWHILE)


def _with(policy: Mapping[str, Any], fields: Mapping[str, Any], meaning: str) -> Held:
    return Held({**policy, "spec": {**policy["spec"], **fields}}, meaning)


KIND = Kind(
    PeerAuthentication,
    "security.istio.io",
    ("v1", "v1beta1"),
    "peerauthentications",
    hold=_hold,
    validate=validate,
    short_names=("pa",),
    columns=("spec.mtls.mode",),
)
