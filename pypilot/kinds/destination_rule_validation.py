"""What makes a DestinationRule wrong beyond its types (VAL-004), and its registry entry."""

from collections.abc import Iterable

from pypilot.kinds.base import Finding, Kind
from pypilot.kinds.destination_rule import ClientTLSSettings, DestinationRule, OutlierDetection, TrafficPolicy


def _validate_tls(tls: ClientTLSSettings | None, path: str) -> Iterable[Finding]:
    if tls is None or tls.mode != "MUTUAL" or tls.credential_name:
        return
    if not tls.client_certificate:
        yield Finding(f"{path}.clientCertificate", "mode MUTUAL needs a client certificate or credentialName (VAL-004)")
    if not tls.private_key:
        yield Finding(f"{path}.privateKey", "mode MUTUAL needs a private key or credentialName (VAL-004)")


def _validate_outlier(outlier: OutlierDetection | None, path: str) -> Iterable[Finding]:
    if outlier is None:
        return
    for name, value in (
        ("maxEjectionPercent", outlier.max_ejection_percent),
        ("minHealthPercent", outlier.min_health_percent),
    ):
        if not 0 <= value <= 100:
            yield Finding(f"{path}.{name}", f"{value} is not a percentage (0-100)")


def _validate_policy(policy: TrafficPolicy | None, path: str) -> Iterable[Finding]:
    if policy is None:
        return
    yield from _validate_tls(policy.tls, f"{path}.tls")
    yield from _validate_outlier(policy.outlier_detection, f"{path}.outlierDetection")
    for i, port in enumerate(policy.port_level_settings):
        yield from _validate_tls(port.tls, f"{path}.portLevelSettings[{i}].tls")
        yield from _validate_outlier(port.outlier_detection, f"{path}.portLevelSettings[{i}].outlierDetection")


def validate(rule: DestinationRule) -> Iterable[Finding]:
    """Checks of VAL-004."""
    if not rule.spec.host:
        yield Finding("spec.host", "a host is needed (VAL-004)")
    yield from _validate_policy(rule.spec.traffic_policy, "spec.trafficPolicy")
    seen: set[str] = set()
    for i, subset in enumerate(rule.spec.subsets):
        path = f"spec.subsets[{i}]"
        if not subset.name:
            yield Finding(f"{path}.name", "a subset needs a name (VAL-004)")
        elif subset.name in seen:
            yield Finding(f"{path}.name", f"subset {subset.name!r} is listed twice (VAL-004)")
        seen.add(subset.name)
        yield from _validate_policy(subset.traffic_policy, f"{path}.trafficPolicy")


KIND = Kind(
    DestinationRule,
    "networking.istio.io",
    ("v1", "v1beta1", "v1alpha3"),
    "destinationrules",
    units=("spec.subsets[]", "spec.trafficPolicy.portLevelSettings[]"),
    validate=validate,
    short_names=("dr",),
    columns=("spec.host",),
)
