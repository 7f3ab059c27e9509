"""Endpoints that ServiceEntries list or select, and WorkloadEntries behind Services (SE-006…014, WE-001…003).

One service and its workloads at a time. Must not know tables or what changed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pypilot.kinds.pod import Pod
from pypilot.kinds.service import Service
from pypilot.kinds.service_entry import ServiceEntry
from pypilot.kinds.workload_entry import WorkloadEntry, WorkloadEntrySpec
from pypilot.world.endpoints import LOCALITY_LABEL, TLS_MODE_LABEL, Surroundings, parse_locality
from pypilot.world.model import Endpoint, MeshService, Resolution
from pypilot.world.networks import NETWORK_LABEL
from pypilot.world.services import spiffe_id

REGISTRATION_GROUP = "istio.io/autoRegistrationGroup"
_WORKLOAD_NAME = "service.istio.io/workload-name"
_OVER = frozenset({"Succeeded", "Failed"})


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """True if the labels hold all that is asked for."""
    return all(labels.get(key) == value for key, value in selector.items())


def is_serving(pod: Pod) -> bool:
    """True for a ready pod that is not leaving: only such a one serves a ServiceEntry (SE-013)."""
    if not pod.ips or pod.metadata.deletion_timestamp or pod.status.phase in _OVER:
        return False
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)


def _workload(
    spec: WorkloadEntrySpec, labels: Mapping[str, str], namespace: str, name: str, around: Surroundings
) -> Endpoint:
    """What is said of a workload, without ports (SE-010, SE-012, WE-002). Nobody reports its health over EDS."""
    account = spec.service_account
    mode = labels.get(TLS_MODE_LABEL) or ("istio" if account else "")
    network = spec.network or around.network(spec.address, labels)
    shown = {NETWORK_LABEL: network, **labels} if network else labels
    return Endpoint(
        address=spec.address,
        ports=(),
        labels=tuple(sorted(shown.items())),
        service_account=spiffe_id(around.trust_domain, namespace, account) if account else "",
        tls_mode=mode if mode != "disabled" else "",
        locality=parse_locality(spec.locality or labels.get(LOCALITY_LABEL, "").replace(".", "/")),
        network=spec.network,
        cluster_id=around.cluster_id,
        weight=spec.weight,
        health="UNKNOWN",
        namespace=namespace,
        workload_name=name,
    )


def workload_endpoint(entry: WorkloadEntry, around: Surroundings) -> Endpoint:
    """A WorkloadEntry without ports. Entries that registered themselves are known by their group's name."""
    labels = entry.labels
    meta = entry.metadata
    name = meta.annotations.get(REGISTRATION_GROUP) or labels.get(_WORKLOAD_NAME) or entry.name
    return _workload(entry.spec, labels, entry.namespace, name, around)


def _entry_ports(service: MeshService, overrides: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """SE-011: the endpoint's own port, else targetPort, else the service port."""
    return tuple(
        (p.name, overrides.get(p.name) or (p.target_port if isinstance(p.target_port, int) else 0) or p.number)
        for p in service.ports
    )


def _listed(service: MeshService, entry: ServiceEntry, around: Surroundings) -> list[Endpoint]:
    """SE-010: istiod names such a workload after the entry and its place in the list."""
    made = []
    for i, spec in enumerate(entry.spec.endpoints):
        endpoint = _workload(spec, spec.labels, entry.namespace, f"{entry.name}-{i}", around)
        made.append(replace(endpoint, ports=_entry_ports(service, spec.ports)))
    return made


def _selected(
    service: MeshService,
    wanted: Mapping[str, str],
    pods: Iterable[Pod],
    entries: Iterable[WorkloadEntry],
    around: Surroundings,
) -> list[Endpoint]:
    """SE-013: pods, then WorkloadEntries, each by name. Names and sockets are only for DNS."""
    is_dns = service.resolution.is_dns
    made = [
        around.pod_endpoint(pod, pod.ips[0], _entry_ports(service, {}))
        for pod in pods
        if is_serving(pod) and selects(wanted, pod.metadata.labels)
    ]
    made.extend(
        replace(workload_endpoint(entry, around), ports=_entry_ports(service, entry.spec.ports))
        for entry in entries
        if selects(wanted, entry.labels) and (is_dns or not entry.dns_only)
    )
    return made


def entry_endpoints(
    service: MeshService,
    entry: ServiceEntry,
    pods: Iterable[Pod],
    entries: Iterable[WorkloadEntry],
    around: Surroundings,
) -> tuple[Endpoint, ...]:
    """The endpoints of one host of a ServiceEntry; `pods` and `entries` are those of its namespace, by name."""
    if service.resolution is Resolution.DYNAMIC_DNS:
        return ()
    wanted = entry.wanted
    if wanted is not None:
        made = _selected(service, wanted, pods, entries, around)
    elif entry.spec.endpoints:
        made = _listed(service, entry, around)
    elif service.resolution.is_dns:
        itself = Endpoint(
            address=service.hostname,
            ports=_entry_ports(service, {}),
            cluster_id=around.cluster_id,
            health="UNKNOWN",
            namespace=service.namespace,
            workload_name=entry.name,
        )
        made = [itself]
    else:
        made = []
    return tuple(made if service.resolution.is_dns else sorted(made, key=lambda e: e.address))


def one_for_each_port(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """DNS_ROUND_ROBIN resolves one name a port: of several endpoints the first has it (SE-014)."""
    taken: set[str] = set()
    made = []
    for endpoint in endpoints:
        free = tuple((name, number) for name, number in endpoint.ports if name not in taken)
        if free:
            made.append(replace(endpoint, ports=free))
            taken.update(name for name, _ in free)
    return tuple(made)


def entry_port(name: str, target: int | str, number: int, ports: Mapping[str, int]) -> int:
    """The port at a WorkloadEntry behind a Service's port; 0 if there is none (WE-001).

    The entry's own port of that name counts before the number that the Service states. A target port that the Service
    names must be among the entry's.
    """
    if isinstance(target, int) or not target:
        return ports.get(name) or int(target or 0) or number
    return ports.get(target, 0)


def _service_ports(service: Service, entry: WorkloadEntry) -> tuple[tuple[str, int], ...]:
    """A Service's ports at a WorkloadEntry, those that it serves."""
    made = []
    for port in service.spec.ports:
        if port.protocol == "UDP":
            continue
        number = entry_port(port.name, port.target_port, port.port, entry.spec.ports)
        if number:
            made.append((port.name, number))
    return tuple(sorted(made))


def selected_entries(service: Service, entries: Iterable[WorkloadEntry], around: Surroundings) -> tuple[Endpoint, ...]:
    """The WorkloadEntries that a Service's selector selects; `entries` are those of its namespace (WE-001)."""
    wanted = service.spec.selector
    if not wanted:
        return ()
    return tuple(
        replace(workload_endpoint(entry, around), ports=ports)
        for entry in entries
        if not entry.dns_only and selects(wanted, entry.labels)
        for ports in (_service_ports(service, entry),)
        if ports
    )
