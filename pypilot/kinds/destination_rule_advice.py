"""Fields of a DestinationRule without effect together with others.

Judged of the object alone. Errors are the business of `destination_rule_validation`.
"""

from collections.abc import Iterable, Iterator

from pypilot.kinds.base import Finding, no_effect
from pypilot.kinds.destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    DestinationRule,
    LoadBalancerSettings,
    OutlierDetection,
    PortTrafficPolicy,
    TrafficPolicy,
)


def _tls(tls: ClientTLSSettings, path: str) -> Iterator[Finding]:
    files: tuple[tuple[str, object], ...] = (
        ("clientCertificate", tls.client_certificate),
        ("privateKey", tls.private_key),
        ("caCertificates", tls.ca_certificates),
        ("credentialName", tls.credential_name),
        ("caCrl", tls.ca_crl),
        ("insecureSkipVerify", tls.insecure_skip_verify),
    )
    given = files
    if tls.mode == "DISABLE":
        given = (*files, ("sni", tls.sni), ("subjectAltNames", tls.subject_alt_names))
        because = "mode is DISABLE, or absent"
    elif tls.mode == "ISTIO_MUTUAL":
        because = "mode ISTIO_MUTUAL uses the mesh's own certificates"
    elif tls.credential_name:
        given, because = (*files[:3], files[4]), "credentialName is given"
    elif tls.mode == "SIMPLE":
        given, because = files[:2], "mode SIMPLE shows no client certificate"
    else:
        return
    yield from (no_effect(f"{path}.{name}", because) for name, value in given if value)


def _balancer(balancer: LoadBalancerSettings, path: str, has_ejection: bool) -> Iterator[Finding]:
    if balancer.simple not in (None, "UNSPECIFIED") and balancer.consistent_hash is not None:
        yield no_effect(f"{path}.simple", "consistentHash is given")
    hashed = balancer.consistent_hash
    warmups = (("warmup", balancer.warmup), ("warmupDurationSecs", balancer.warmup_duration_secs))
    if hashed is not None or balancer.simple in ("RANDOM", "PASSTHROUGH"):
        because = "consistentHash" if hashed is not None else f"simple {balancer.simple}"
        yield from (no_effect(f"{path}.{name}", f"{because} knows no weights") for name, value in warmups if value)
    elif all(value for _, value in warmups):
        yield no_effect(f"{path}.warmupDurationSecs", "warmup is given")
    if hashed is not None:
        keys = [
            name
            for name, value in (
                ("httpHeaderName", hashed.http_header_name),
                ("httpCookie", hashed.http_cookie),
                ("useSourceIp", hashed.use_source_ip),
                ("httpQueryParameterName", hashed.http_query_parameter_name),
            )
            if value
        ]
        yield from (no_effect(f"{path}.consistentHash.{name}", f"{keys[0]} is given") for name in keys[1:])
        if hashed.minimum_ring_size and (hashed.ring_hash or hashed.maglev):
            yield no_effect(f"{path}.consistentHash.minimumRingSize", "ringHash or maglev is given")
    locality = balancer.locality_lb_setting
    if locality is not None and balancer.zone_aware_lb_setting is not None:
        yield no_effect(f"{path}.localityLbSetting", "zoneAwareLbSetting is given")
    elif locality is not None and locality.enabled is not False:
        for name, value in (("failover", locality.failover), ("failoverPriority", locality.failover_priority)):
            if value and locality.distribute:
                yield no_effect(f"{path}.localityLbSetting.{name}", "distribute is given")
            elif value and not has_ejection:  # DR-054
                because = "without outlierDetection no endpoint counts as failed"
                yield no_effect(f"{path}.localityLbSetting.{name}", because)


def _pool(pool: ConnectionPoolSettings, path: str) -> Iterator[Finding]:
    if pool.http is not None and pool.http.use_client_protocol and pool.http.h2_upgrade_policy == "UPGRADE":
        yield no_effect(f"{path}.http.h2UpgradePolicy", "useClientProtocol is given")


def _outlier(outlier: OutlierDetection, path: str) -> Iterator[Finding]:
    if outlier.consecutive_local_origin_failures and not outlier.split_external_local_origin_errors:
        because = "splitExternalLocalOriginErrors is not true"
        yield no_effect(f"{path}.consecutiveLocalOriginFailures", because)


def _policy(policy: TrafficPolicy | PortTrafficPolicy, path: str, has_ejection: bool) -> Iterator[Finding]:
    has_ejection = has_ejection or policy.outlier_detection is not None
    if policy.tls is not None:
        yield from _tls(policy.tls, f"{path}.tls")
    if policy.load_balancer is not None:
        yield from _balancer(policy.load_balancer, f"{path}.loadBalancer", has_ejection)
    if policy.connection_pool is not None:
        yield from _pool(policy.connection_pool, f"{path}.connectionPool")
    if policy.outlier_detection is not None:
        yield from _outlier(policy.outlier_detection, f"{path}.outlierDetection")
    if isinstance(policy, TrafficPolicy):
        for i, port in enumerate(policy.port_level_settings):
            yield from _policy(port, f"{path}.portLevelSettings[{i}]", has_ejection=False)


def _has_ejection(policy: TrafficPolicy | None) -> bool:
    """Somewhere in it: which of the levels counts depends on port and subset."""
    return policy is not None and (
        policy.outlier_detection is not None or any(p.outlier_detection is not None for p in policy.port_level_settings)
    )


def advise(rule: DestinationRule) -> Iterable[Finding]:
    """The warnings."""
    spec = rule.spec
    ejects = _has_ejection(spec.traffic_policy)
    if spec.traffic_policy is not None:
        anywhere = ejects or any(_has_ejection(subset.traffic_policy) for subset in spec.subsets)
        yield from _policy(spec.traffic_policy, "spec.trafficPolicy", anywhere)
    for i, subset in enumerate(spec.subsets):
        path = f"spec.subsets[{i}]"
        if subset.traffic_policy is not None:
            yield from _policy(subset.traffic_policy, f"{path}.trafficPolicy", ejects)
        elif not subset.labels:
            yield no_effect(path, "without labels and trafficPolicy the subset is just the host")
    if spec.workload_selector is not None and set(spec.export_to) - {"."}:  # DR-008
        yield no_effect("spec.exportTo", "a rule with workloadSelector is seen in its own namespace only")
