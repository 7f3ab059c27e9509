"""What Istio's webhook refuses in DestinationRules although it could be served (VAL-004). Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pypilot.kinds.base import Finding
from pypilot.kinds.destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    DestinationRule,
    LoadBalancerSettings,
    LocalityFailover,
    LocalityLoadBalancerSetting,
    OutlierDetection,
    PortTrafficPolicy,
    TrafficPolicy,
    TunnelSettings,
)
from pypilot.kinds.names import export_defects, is_address, is_dns_name, is_label, selector_defects
from pypilot.kinds.refusals import host_defects, labels_defects, refuse, refused, time_defects

_TOPOLOGY: Final = frozenset(
    {"topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"}
)


def _tls(path: str, tls: ClientTLSSettings | None) -> Iterator[Finding]:
    if tls is None or tls.mode not in ("SIMPLE", "MUTUAL"):
        return
    files = {
        "clientCertificate": tls.client_certificate,
        "privateKey": tls.private_key,
        "caCertificates": tls.ca_certificates,
        "caCrl": tls.ca_crl,
    }
    if tls.credential_name:
        yield from (refuse(f"{path}.{name}", "credentialName is given") for name, value in files.items() if value)
    if tls.insecure_skip_verify:
        proofs = {"caCertificates": tls.ca_certificates, "subjectAltNames": tls.subject_alt_names is not None}
        if tls.mode == "SIMPLE":
            proofs["credentialName"] = tls.credential_name
        for name, value in proofs.items():
            if value:
                yield refuse(f"{path}.{name}", "insecureSkipVerify is given")


def _outlier(path: str, outlier: OutlierDetection | None) -> Iterator[Finding]:
    if outlier is None:
        return
    yield from time_defects(f"{path}.baseEjectionTime", outlier.base_ejection_time)
    yield from time_defects(f"{path}.interval", outlier.interval)
    if outlier.consecutive_local_origin_failures and not outlier.split_external_local_origin_errors:
        yield refuse(f"{path}.consecutiveLocalOriginFailures", "splitExternalLocalOriginErrors is not given")


def pool_refusals(path: str, pool: ConnectionPoolSettings | None) -> Iterator[Finding]:
    """Those of a connection pool, wherever it is."""
    if pool is None:
        return
    if pool.http is None and pool.tcp is None:
        yield refuse(path, "http or tcp is needed")
    if (http := pool.http) is not None:
        yield from time_defects(f"{path}.http.idleTimeout", http.idle_timeout)
        if http.h2_upgrade_policy == "UPGRADE" and http.use_client_protocol:
            yield refuse(f"{path}.http.useClientProtocol", "h2UpgradePolicy is UPGRADE")
    if (tcp := pool.tcp) is not None:
        yield from time_defects(f"{path}.tcp.connectTimeout", tcp.connect_timeout)
        yield from time_defects(f"{path}.tcp.maxConnectionDuration", tcp.max_connection_duration)
        if tcp.idle_timeout:
            yield from time_defects(f"{path}.tcp.idleTimeout", tcp.idle_timeout)
        if (alive := tcp.tcp_keepalive) is not None:
            yield from time_defects(f"{path}.tcp.tcpKeepalive.time", alive.time)
            yield from time_defects(f"{path}.tcp.tcpKeepalive.interval", alive.interval)


def _balancer(path: str, balancer: LoadBalancerSettings | None) -> Iterator[Finding]:
    if balancer is None:
        return
    hashing = balancer.consistent_hash
    cookie = hashing.http_cookie if hashing is not None else None
    if hashing is not None and hashing.minimum_ring_size and (hashing.ring_hash or hashing.maglev):
        yield refuse(f"{path}.consistentHash.minimumRingSize", "ringHash or maglev is given")
    if hashing is not None and hashing.maglev is not None and hashing.maglev.table_size == 0:
        yield refuse(f"{path}.consistentHash.maglev.tableSize", "a size is needed")
    if cookie is not None:
        at = f"{path}.consistentHash.httpCookie"
        if not cookie.name:
            yield refuse(f"{at}.name", "a cookie needs a name")
        names = [attribute.name for attribute in cookie.attributes]
        for i, name in enumerate(names):
            if not name or name in names[:i]:
                yield refuse(f"{at}.attributes[{i}].name", "each attribute needs a name of its own")
    if balancer.locality_lb_setting is not None and balancer.zone_aware_lb_setting is not None:
        yield refuse(f"{path}.localityLbSetting", "zoneAwareLbSetting is given")
    if (locality := balancer.locality_lb_setting) is not None:
        yield from _locality(f"{path}.localityLbSetting", locality)
    if (zones := balancer.zone_aware_lb_setting) is not None:
        for i, label in enumerate(zones.failover_priority):
            if label in _TOPOLOGY:
                yield refuse(f"{path}.zoneAwareLbSetting.failoverPriority[{i}]", "zones are looked at anyway")
        yield from _failovers(f"{path}.zoneAwareLbSetting.failover", zones.failover)
    if (warmup := balancer.warmup) is not None:
        if warmup.duration is None:
            yield refuse(f"{path}.warmup.duration", "a duration is needed")
        yield from time_defects(f"{path}.warmup.duration", warmup.duration)


def _locality(path: str, setting: LocalityLoadBalancerSetting) -> Iterator[Finding]:
    if setting.distribute and setting.failover:
        yield refuse(f"{path}.failover", "distribute is given")
    if setting.failover and _TOPOLOGY & set(setting.failover_priority):
        yield refuse(f"{path}.failoverPriority", "failover is given: no labels of the topology are allowed")
    for i, part in enumerate(setting.distribute):
        yield from _weights(f"{path}.distribute[{i}].to", part.to)
        yield from _localities(f"{path}.distribute[{i}].to", tuple(part.to))
    yield from _localities(f"{path}.distribute", tuple(part.from_ for part in setting.distribute))
    yield from _failovers(f"{path}.failover", setting.failover)


def _weights(path: str, weights: Mapping[str, int]) -> Iterator[Finding]:
    if any(not 1 <= weight <= 100 for weight in weights.values()) or sum(weights.values()) != 100:
        yield refuse(path, "weights of 1 to 100 are needed, and a sum of 100")


def _localities(path: str, places: Sequence[str]) -> Iterator[Finding]:
    """REGION/ZONE/SUBZONE, of which a `*` may stand for the rest; none within another one."""
    seen: list[list[str]] = []
    for place in places:
        parts = place.split("/", 2)
        if not all(parts) or "*" in place.removesuffix("*"):
            yield refuse(path, f"{place!r} is not REGION/ZONE/SUBZONE")
            continue
        known = parts[: parts.index("*")] if "*" in parts else parts
        if any(known[: len(other)] == other or other[: len(known)] == known for other in seen):
            yield refuse(path, f"{place!r} and an earlier one have places in common")
        seen.append(known)


def _failovers(path: str, failovers: Sequence[LocalityFailover]) -> Iterator[Finding]:
    for i, failover in enumerate(failovers):
        if failover.from_ == failover.to:
            yield refuse(f"{path}[{i}]", "from and to are the same region")
        if any(sign in name for sign in "/*" for name in (failover.from_, failover.to)):
            yield refuse(f"{path}[{i}]", "from and to are regions: no zones, no *")


def _tunnel(path: str, tunnel: TunnelSettings | None) -> Iterator[Finding]:
    if tunnel is None:
        return
    if tunnel.protocol not in ("", "CONNECT", "POST"):
        yield refuse(f"{path}.protocol", f"{tunnel.protocol!r} is neither CONNECT nor POST")
    if not is_dns_name(tunnel.target_host) and not is_address(tunnel.target_host):
        yield refuse(f"{path}.targetHost", f"{tunnel.target_host!r} is neither a DNS name nor an address")
    if not 0 < tunnel.target_port < 65536:
        yield refuse(f"{path}.targetPort", f"{tunnel.target_port} is not a port")


def _settings(path: str, policy: TrafficPolicy | PortTrafficPolicy) -> Iterator[Finding]:
    yield from _tls(f"{path}.tls", policy.tls)
    yield from _outlier(f"{path}.outlierDetection", policy.outlier_detection)
    yield from pool_refusals(f"{path}.connectionPool", policy.connection_pool)
    yield from _balancer(f"{path}.loadBalancer", policy.load_balancer)


def _policy(path: str, policy: TrafficPolicy | None) -> Iterator[Finding]:
    if policy is None:
        return
    if policy == TrafficPolicy():
        yield refuse(path, "it says nothing")
    yield from _settings(path, policy)
    for i, port in enumerate(policy.port_level_settings):
        at = f"{path}.portLevelSettings[{i}]"
        if port == PortTrafficPolicy(port=port.port):
            yield refuse(at, "it says nothing")
        yield from _settings(at, port)
    if policy.tunnel is not None and policy.proxy_protocol is not None:
        yield refuse(f"{path}.proxyProtocol", "tunnel is given")
    yield from _tunnel(f"{path}.tunnel", policy.tunnel)


def refusals(rule: DestinationRule) -> Iterator[Finding]:
    """All of them."""
    spec = rule.spec
    yield from host_defects("spec.host", spec.host)
    yield from _policy("spec.trafficPolicy", spec.traffic_policy)
    for i, subset in enumerate(spec.subsets):
        path = f"spec.subsets[{i}]"
        if subset.name and not is_label(subset.name):
            yield refuse(f"{path}.name", f"{subset.name!r} is not the name of a subset")
        yield from labels_defects(f"{path}.labels", subset.labels)
        yield from _policy(f"{path}.trafficPolicy", subset.traffic_policy)
    yield from refused(export_defects("spec.exportTo", rule.namespace, spec.export_to))
    if spec.workload_selector is not None:
        yield from refused(selector_defects("spec.workloadSelector.matchLabels", spec.workload_selector.match_labels))
        if any(name not in (".", rule.namespace) for name in spec.export_to):
            yield refuse("spec.exportTo", "a rule with workloadSelector is for its own namespace")
