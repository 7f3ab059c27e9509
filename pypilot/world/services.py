"""From Kubernetes Services and Istio ServiceEntries to the registry model (KSVC and SE rows). One service at a time."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from types import MappingProxyType

from pypilot.kinds.names import is_address
from pypilot.kinds.service import Service
from pypilot.kinds.service_entry import ServiceEntry, ServiceEntryAddress
from pypilot.world.model import MeshPort, MeshService, Resolution
from pypilot.world.protocols import parse_protocol, service_port_protocol

EXPORT_TO = "networking.istio.io/exportTo"
TRAFFIC_DISTRIBUTION = "networking.istio.io/traffic-distribution"
KUBE_ACCOUNTS = "alpha.istio.io/kubernetes-serviceaccounts"
CANONICAL_ACCOUNTS = "alpha.istio.io/canonical-serviceaccounts"
NO_ANNOTATIONS: Mapping[str, str] = MappingProxyType({})
_STATED_DISTRIBUTIONS = frozenset({"PreferClose", "PreferSameZone", "PreferSameNode"})

_ENTRY_RESOLUTION = {
    "NONE": Resolution.PASSTHROUGH,
    "STATIC": Resolution.CLIENT_SIDE,
    "DNS": Resolution.DNS,
    "DNS_ROUND_ROBIN": Resolution.DNS_ROUND_ROBIN,
    "DYNAMIC_DNS": Resolution.DYNAMIC_DNS,
}


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def spiffe_id(trust_domain: str, namespace: str, account: str) -> str:
    """`spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT` (MESH-006)."""
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{account}"


def service_hostname(name: str, namespace: str, domain: str) -> str:
    """KSVC-001."""
    return f"{name}.{namespace}.svc.{domain}"


def _distribution(stated: str, own: Mapping[str, str], inherited: Mapping[str, str]) -> str:
    """KSVC-014: the field, else the annotation, else that of the namespace; an unknown one hides what follows."""
    if stated in _STATED_DISTRIBUTIONS:
        return stated
    return own.get(TRAFFIC_DISTRIBUTION) or inherited.get(TRAFFIC_DISTRIBUTION, "")


def convert_service(
    service: Service, domain: str, trust_domain: str, inherited: Mapping[str, str] = NO_ANNOTATIONS
) -> MeshService:
    """A Kubernetes Service (KSVC-001…018). `inherited`: annotations of its namespace."""
    meta, spec = service.metadata, service.spec
    headless = spec.cluster_ip == "None"
    if spec.type == "ExternalName" and spec.external_name:
        resolution = Resolution.ALIAS
    elif headless:
        resolution = Resolution.PASSTHROUGH
    else:
        resolution = Resolution.CLIENT_SIDE
    addresses = tuple(ip for ip in (spec.cluster_ips or (spec.cluster_ip,)) if ip and ip != "None")
    accounts = [spiffe_id(trust_domain, meta.namespace, a) for a in _words(meta.annotations.get(KUBE_ACCOUNTS, ""))]
    accounts.extend(_words(meta.annotations.get(CANONICAL_ACCOUNTS, "")))
    exported = meta.annotations.get(EXPORT_TO)
    ingress = service.status.load_balancer.ingress
    return MeshService(
        hostname=service_hostname(meta.name, meta.namespace, domain),
        namespace=meta.namespace,
        name=meta.name,
        ports=tuple(
            MeshPort(
                number=p.port,
                name=p.name,
                protocol=service_port_protocol(p.port, p.name, p.protocol, p.app_protocol),
                target_port=p.target_port or p.port,
            )
            for p in spec.ports
        ),
        resolution=resolution,
        source=service.ref,
        created=meta.creation_timestamp,
        addresses=addresses,
        headless=headless,
        export_to=frozenset(_words(exported)) if exported else None,  # KSVC-012: an empty text says nothing
        labels=tuple(sorted(meta.labels.items())),
        selector=tuple(sorted(spec.selector.items())),
        external_name=spec.external_name if resolution is Resolution.ALIAS else "",
        expected_accounts=tuple(sorted(accounts)),
        node_local=spec.internal_traffic_policy == "Local",
        traffic_distribution=_distribution(spec.traffic_distribution, meta.annotations, inherited),
        publish_not_ready=spec.publish_not_ready_addresses,
        external_addresses=(*(i.ip or i.hostname for i in ingress), *spec.external_ips),
    )


def _entry_addresses(entry: ServiceEntry) -> tuple[str, ...]:
    """Addresses as written, but a CIDR of one address is that address (SE-001)."""
    out = []
    for text in entry.spec.addresses:
        network = ip_network(text, strict=False)
        out.append(str(network.network_address) if network.num_addresses == 1 else text)
    return tuple(out)


def _auto_addresses(entry: ServiceEntry, host: str, given: Iterable[ServiceEntryAddress]) -> tuple[str, ...]:
    """Allocated addresses of a host: of each family the last one that is named (SE-016)."""
    if not entry.allocates:
        return ()
    found: dict[int, str] = {}
    for address in given:
        if address.host == host and is_address(address.value):
            found[ip_address(address.value).version] = address.value
    return tuple(found[version] for version in sorted(found))


def convert_service_entry(
    entry: ServiceEntry,
    given: tuple[ServiceEntryAddress, ...] | None = None,
    inherited: Mapping[str, str] = NO_ANNOTATIONS,
) -> tuple[MeshService, ...]:
    """A ServiceEntry: one service per host (SE-001…005). `given`: addresses in place of those of its status."""
    meta, spec = entry.metadata, entry.spec
    addresses = _entry_addresses(entry)
    ports = tuple(MeshPort(p.number, p.name, parse_protocol(p.protocol), p.target_port or 0) for p in spec.ports)
    return tuple(
        MeshService(
            hostname=host,
            namespace=meta.namespace,
            name=host,
            ports=ports,
            resolution=_ENTRY_RESOLUTION[spec.resolution],
            source=entry.ref,
            created=meta.creation_timestamp,
            addresses=addresses,
            auto_addresses=_auto_addresses(entry, host, entry.status.addresses if given is None else given),
            mesh_external=spec.location == "MESH_EXTERNAL",
            kubernetes=False,
            export_to=frozenset(spec.export_to) if spec.export_to else None,
            labels=tuple(sorted(meta.labels.items())),
            selector=tuple(sorted((entry.wanted or {}).items())),
            subject_alt_names=spec.subject_alt_names,
            traffic_distribution=_distribution("", meta.annotations, inherited),
            races_addresses=entry.races_addresses,
        )
        for host in dict.fromkeys(spec.hosts)
    )


def _alike(one: MeshService, other: MeshService) -> bool:
    """SE-022: what must agree for ports to be merged."""
    return (one.kubernetes, one.resolution, one.labels, one.selector, one.export_to) == (
        other.kubernetes,
        other.resolution,
        other.labels,
        other.selector,
        other.export_to,
    )


def merge_definitions(definitions: Iterable[MeshService]) -> MeshService | None:
    """The service of a hostname in one namespace: a Kubernetes Service, else the oldest entry (KSVC-021, SE-021).

    Younger entries that agree with the oldest in all else add their ports and addresses (SE-022).
    """
    first, *others = sorted(definitions, key=lambda s: (not s.kubernetes, s.age_key, s.source)) or (None,)
    if first is None or first.kubernetes:
        return first
    ports = {port.number: port for port in first.ports}
    addresses = dict.fromkeys(first.addresses)
    for other in others:
        if other is not None and _alike(first, other):
            ports = {**{port.number: port for port in other.ports}, **ports}
            addresses.update(dict.fromkeys(other.addresses if addresses else ()))
    added = [port for number, port in ports.items() if first.port(number) is None]
    return replace(first, ports=(*first.ports, *added), addresses=tuple(addresses)) if others else first
