"""ProxyView: what a class of proxies sees. Proxies that resolve alike share every outbound byte.

A view holds only what can change an outbound resource; what is particular to one workload (its addresses, inbound
ports, tracing tags) stays in `wire.node.Proxy`. Labels, locality and node are kept only where some configuration asks.
"""

from dataclasses import dataclass
from typing import NamedTuple

from pypilot.compile.services import visible_services
from pypilot.wire.node import Labels, Locality, Proxy, ProxyType
from pypilot.world.reader import Reader


@dataclass(frozen=True, slots=True)
class ProxyView:
    """The part of a proxy that outbound resources may depend on."""

    type: ProxyType
    namespace: str
    dns_domain: str
    cluster_id: str
    network: str = ""
    istio_build: bool = True
    """Istio's own filters may be sent (FILT-011)."""
    mesh_tls: bool = True
    """The proxy can fetch `default` and `ROOTCA`: mutual TLS inside the mesh is possible."""
    hbone: bool = False
    ipv4: bool = True
    ipv6: bool = False
    dns_vips: bool = False
    """Auto-allocated addresses are used (SE-017)."""
    labels: Labels = ()
    """Only labels that a workloadSelector or sourceLabels names."""
    locality: Locality = Locality()
    """Empty unless a visible policy distributes or fails over by locality."""
    node_name: str = ""
    """Empty unless a visible service keeps traffic on its node (KSVC-013)."""

    @property
    def is_sidecar(self) -> bool:
        return self.type == "sidecar"

    @property
    def is_router(self) -> bool:
        return self.type == "router"

    def label(self, key: str) -> str | None:
        """The value of a label that matters, or None."""
        for k, v in self.labels:
            if k == key:
                return v
        return None

    def matches(self, wanted: dict[str, str]) -> bool:
        """True if the proxy carries all these labels."""
        return all(self.label(k) == v for k, v in wanted.items())


class TracingIdentity(NamedTuple):
    """What the tracing tags of every connection manager say about the workload."""

    canonical_service: str
    canonical_revision: str
    cluster_id: str
    mesh_id: str
    namespace: str


def tracing_identity(proxy: Proxy) -> TracingIdentity:
    """Canonical name and revision from the labels that the injector sets."""
    return TracingIdentity(
        proxy.label("service.istio.io/canonical-name") or proxy.workload_name,
        proxy.label("service.istio.io/canonical-revision") or "latest",
        proxy.cluster_id,
        proxy.mesh_id,
        proxy.namespace,
    )


class Asked(NamedTuple):
    """Which optional parts of a proxy the configuration that a namespace sees asks for."""

    label_keys: frozenset[str]
    locality: bool
    node: bool


def asked(reader: Reader, namespace: str) -> Asked:
    """Look through everything a namespace can see for selectors, locality policies and node-local services."""
    root = reader.mesh().root_namespace
    keys: set[str] = set()
    locality = False
    namespaces = {namespace, root}
    node = False
    for service in visible_services(reader, namespace):
        found = reader.service(service)
        if found is not None:
            namespaces.add(found.namespace)
            node = node or found.node_local
            locality = locality or bool(found.traffic_distribution)
    for owner in sorted(namespaces):
        for rule in reader.destination_rules(owner):
            if rule.spec.workload_selector is not None:
                keys.update(rule.spec.workload_selector.match_labels)
            policies = (rule.spec.traffic_policy, *(s.traffic_policy for s in rule.spec.subsets))
            for policy in policies:
                for part in (policy, *(policy.port_level_settings if policy else ())):
                    if part is None:
                        continue
                    balancer = part.load_balancer
                    asks = balancer is not None and (balancer.locality_lb_setting or balancer.zone_aware_lb_setting)
                    locality = locality or bool(asks) or part.outlier_detection is not None
                    if balancer is not None and balancer.locality_lb_setting is not None:
                        for entry in balancer.locality_lb_setting.failover_priority:
                            keys.add(entry.partition("=")[0])
    for service_rule in reader.virtual_services("mesh"):
        spec = service_rule.spec
        for match in (m for r in (*spec.http, *spec.tls, *spec.tcp) for m in r.match):
            keys.update(match.source_labels)
    return Asked(frozenset(keys), locality, node)


def view_of(reader: Reader, proxy: Proxy) -> ProxyView:
    """The class to which a proxy belongs in this world."""
    wants = reader.call(asked, proxy.namespace)
    mesh_tls = proxy.is_istio_build or proxy.workload_sds
    return ProxyView(
        type=proxy.type,
        namespace=proxy.namespace,
        dns_domain=proxy.dns_domain,
        cluster_id=proxy.cluster_id,
        network=proxy.network,
        istio_build=proxy.is_istio_build,
        mesh_tls=mesh_tls,
        hbone=reader.constants.ambient and proxy.is_istio_build and not proxy.disable_hbone_send,
        ipv4=any(":" not in ip for ip in proxy.ips),
        ipv6=any(":" in ip for ip in proxy.ips),
        dns_vips=proxy.dns_capture and proxy.dns_auto_allocate,
        labels=tuple((k, v) for k, v in proxy.labels if k in wants.label_keys),
        locality=proxy.locality if wants.locality else Locality(),
        node_name=proxy.node_name if wants.node else "",
    )
