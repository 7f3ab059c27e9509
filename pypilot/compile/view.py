"""ProxyView: what a class of proxies sees. Proxies that resolve alike share every outbound byte.

A view holds only what can change an outbound resource; what is particular to one workload (its addresses, inbound
ports, tracing tags) stays in `wire.node.Proxy`; its place (locality, node) is cut down for each service (`place.py`).
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from pypilot.compile.scope import ALL, Scope, limits_sight, sidecar_of
from pypilot.compile.services import visible_services
from pypilot.compile.targets import cluster_of, workload_labels
from pypilot.kinds.base import Ref
from pypilot.kinds.virtual_service import MESH
from pypilot.wire.node import CertificateFiles, Labels, Proxy, ProxyType
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
    certificates_over_ads: bool = False
    """It fetches them over its own stream."""
    hbone: bool = False
    ipv4: bool = True
    ipv6: bool = False
    client_files: CertificateFiles = CertificateFiles()
    """NODE-023."""
    credential_socket: bool = False
    """A socket beside the proxy serves credentials (NODE-029)."""
    dns_vips: bool = False
    """Auto-allocated addresses are used (SE-017)."""
    labels: Labels = ()
    """Only labels that a workloadSelector or sourceLabels names."""
    sidecar: Ref | None = None
    """The Sidecar that limits what is seen."""
    listener: int = ALL
    """Position of the egress listener through which is looked; from the outside it is all of them."""

    @property
    def scope(self) -> Scope:
        return Scope(self.namespace, self.sidecar, self.listener)

    @property
    def whole(self) -> "ProxyView":
        """The view through all listeners."""
        return self if self.listener == ALL else replace(self, listener=ALL)

    def through(self, listener: int) -> "ProxyView":
        """The view through one egress listener; all listeners of a view without a Sidecar are one."""
        return replace(self, listener=listener) if self.sidecar is not None else self

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


def tracing_identity(reader: Reader, proxy: Proxy) -> TracingIdentity:
    """Canonical name and revision from the labels that the injector sets; those of the pod count (NODE-009)."""
    labels = dict(workload_labels(reader, proxy))
    return TracingIdentity(
        labels.get("service.istio.io/canonical-name", ""),
        labels.get("service.istio.io/canonical-revision", ""),
        cluster_of(reader, proxy),
        proxy.mesh_id,
        proxy.namespace,
    )


def _asked_labels(reader: Reader, scope: Scope) -> frozenset[str]:
    """The labels for which the workloadSelectors and sourceLabels that a scope can see ask."""
    keys: set[str] = set()
    owners = {key.namespace for key in visible_services(reader, scope)}
    for owner in sorted({scope.namespace, reader.mesh().root_namespace, *owners}):
        for rule in reader.destination_rules(owner):
            if rule.spec.workload_selector is not None:
                keys.update(rule.spec.workload_selector.match_labels)
    for bound in reader.virtual_services(MESH):
        spec = bound.spec
        keys.update(*(match.source_labels for http in spec.http for match in http.match))
        keys.update(*(match.source_labels for tls in spec.tls for match in tls.match))
        keys.update(*(match.source_labels for tcp in spec.tcp for match in tcp.match))
    return frozenset(keys)


def view_of(reader: Reader, proxy: Proxy) -> ProxyView:
    """The class to which a proxy belongs in this world."""
    chosen = sidecar_of(reader, proxy)
    sidecar = chosen if limits_sight(reader, chosen) else None
    asked = reader.call(_asked_labels, Scope(proxy.namespace, sidecar))
    return ProxyView(
        type=proxy.type,
        namespace=proxy.namespace,
        dns_domain=proxy.dns_domain,
        cluster_id=cluster_of(reader, proxy),
        network=proxy.network,
        istio_build=proxy.is_istio_build,
        mesh_tls=proxy.has_mesh_certificates,
        certificates_over_ads=proxy.certificates_over_ads,
        hbone=reader.constants.ambient and proxy.is_istio_build and not proxy.disable_hbone_send,
        ipv4=any(":" not in ip for ip in proxy.ips),
        ipv6=any(":" in ip for ip in proxy.ips),
        client_files=proxy.client_files,
        credential_socket=proxy.credential_socket,
        dns_vips=proxy.dns_capture,  # since pilot allocates, DNS_AUTO_ALLOCATE does not count (SE-017)
        labels=tuple((k, v) for k, v in workload_labels(reader, proxy) if k in asked),
        sidecar=sidecar,
    )


def takes_tunnels(reader: Reader, view: ProxyView, proxy: Proxy) -> bool:
    """True for a sidecar that serves HBONE tunnels beside plain connections (NODE-021, LIS-030)."""
    return proxy.enable_hbone and view.is_sidecar and view.istio_build and view.mesh_tls and reader.constants.ambient
