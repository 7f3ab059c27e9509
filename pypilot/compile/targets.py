"""Which service ports a workload serves, and on which of its own ports (KSVC-036).

A Kubernetes Service is served by the pods and WorkloadEntries that it selects; without a selector, and for
ServiceEntries, by whoever has one of its endpoints' addresses. Must not decide what is made of a target.
"""

import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from pypilot.kinds.pod import Pod
from pypilot.kinds.workload_entry import WorkloadEntry
from pypilot.wire.node import Labels, Proxy
from pypilot.world.model import Endpoint, MeshPort, MeshService, Protocol, Resolution, ServiceKey
from pypilot.world.reader import Reader
from pypilot.world.workloads import entry_port


class ServiceTarget(NamedTuple):
    """One port of a service as a workload serves it."""

    service: ServiceKey
    port: MeshPort
    target: int
    """The port number at the workload."""


class _NamedPort(NamedTuple):
    name: str
    protocol: str
    number: int


def pod_of(reader: Reader, proxy: Proxy) -> Pod | None:
    """The pod that a proxy runs in: by name, else by its first address."""
    name = proxy.id.split("~")[2].partition(".")[0]
    pod = reader.pod(proxy.namespace, name)
    if pod is not None:
        return pod
    pods = reader.pods_by_ip(proxy.ip)
    if len(pods) == 1:
        return pods[0]
    return next((p for p in pods if p.namespace == proxy.namespace), None)


def workload_of(reader: Reader, proxy: Proxy) -> WorkloadEntry | None:
    """The WorkloadEntry of a proxy's first address: of several the one of its name, then one of its namespace."""
    found = reader.workloads_by_address(proxy.ip)
    name = proxy.id.split("~")[2].partition(".")[0]
    own = [entry for entry in found if entry.namespace == proxy.namespace]
    named = [entry for entry in own if entry.name == name]
    return next(iter((*named, *own, *found)), None)


def entry_endpoint(reader: Reader, proxy: Proxy) -> Endpoint | None:
    """The proxy's workload as a ServiceEntry of its namespace has it."""
    addressed = reader.call(_by_address, proxy.namespace)
    for ip in proxy.ips:
        for target in addressed.get(ip, ()):
            service = reader.service(target.service)
            if service is None or service.kubernetes:
                continue
            for endpoint in reader.endpoints(target.service):
                if endpoint.address == ip:
                    return endpoint
    return None


def cluster_of(reader: Reader, proxy: Proxy) -> str:
    """The Kubernetes cluster in which a proxy says it is; ours if it says nothing (NODE-012)."""
    return proxy.cluster_id or reader.constants.cluster_id


def workload_labels(reader: Reader, proxy: Proxy) -> Labels:
    """The labels of the workload: its pod's, else those that a ServiceEntry knows, else the node's word (NODE-009).

    A Service's selector alone does not make pilot look at a WorkloadEntry.
    """
    pod = pod_of(reader, proxy)
    if pod is not None:
        return tuple(sorted(pod.metadata.labels.items()))
    endpoint = entry_endpoint(reader, proxy)
    return endpoint.labels if endpoint is not None else proxy.labels


def _container_ports(pod: Pod) -> tuple[_NamedPort, ...]:
    return tuple(_NamedPort(p.name, p.protocol, p.container_port) for c in pod.spec.containers for p in c.ports)


def _stated_ports(proxy: Proxy) -> tuple[_NamedPort, ...]:
    """Container ports from the node's POD_PORTS (NODE-018); unreadable text counts as none."""
    try:
        entries = json.loads(proxy.pod_ports or "[]")
        return tuple(_NamedPort(e.get("name", ""), e.get("protocol", "TCP"), int(e["containerPort"])) for e in entries)
    except (ValueError, TypeError, KeyError, AttributeError):
        return ()


def _target_number(port: MeshPort, named: Iterable[_NamedPort]) -> int:
    """The workload's port behind a service port; 0 if no container port has the name."""
    if isinstance(port.target_port, int):
        return port.target_port or port.number
    transport = "UDP" if port.protocol is Protocol.UDP else "TCP"
    return next((p.number for p in named if (p.name, p.protocol) == (port.target_port, transport)), 0)


def _selected(services: Iterable[MeshService], labels: Mapping[str, str]) -> list[MeshService]:
    return [s for s in services if s.selector and all(labels.get(k) == v for k, v in s.selector)]


def _ports_served(service: MeshService, named: tuple[_NamedPort, ...]) -> Iterable[ServiceTarget]:
    """Ports in the order of the service; of those with one target and protocol the first."""
    seen: set[tuple[int, Protocol]] = set()
    for port in service.ports:
        number = _target_number(port, named)
        if number and (number, port.protocol) not in seen:
            seen.add((number, port.protocol))
            yield ServiceTarget(service.key, port, number)


def _ports_of_entry(service: MeshService, entry: WorkloadEntry) -> Iterable[ServiceTarget]:
    """What a WorkloadEntry serves of a Service that selects it: all ports, also several with one target (WE-001)."""
    for port in service.ports:
        if port.protocol is Protocol.UDP:
            continue
        number = entry_port(port.name, port.target_port, port.number, entry.spec.ports)
        if number:
            yield ServiceTarget(service.key, port, number)


def _by_address(reader: Reader, namespace: str) -> Mapping[str, tuple[ServiceTarget, ...]]:
    """Targets of services of a namespace that no selector gives: ServiceEntries, and Services with bare slices."""
    found: dict[str, list[ServiceTarget]] = {}
    for key in (*reader.public_services(), *reader.private_services(namespace)):
        service = reader.service(key) if key.namespace == namespace else None
        if service is None or (service.kubernetes and service.selector):
            continue
        for endpoint in reader.endpoints(key):
            targets = found.setdefault(endpoint.address, [])
            for port in service.ports:
                number = endpoint.port(port.name)
                target = ServiceTarget(key, port, number or 0)
                if number and target not in targets:
                    targets.append(target)
    return MappingProxyType({address: tuple(targets) for address, targets in found.items()})


def _service_targets(reader: Reader, proxy: Proxy) -> tuple[ServiceTarget, ...]:
    entry = workload_of(reader, proxy)
    pod = pod_of(reader, proxy) if entry is None else None
    made: list[ServiceTarget] = []
    if entry is not None:
        selecting = _selected(reader.selecting_services(entry.namespace), entry.labels)
        listed = (service for service in selecting if service.resolution is Resolution.CLIENT_SIDE)
        made.extend(target for service in listed for target in _ports_of_entry(service, entry))
    elif pod is not None:
        selecting = _selected(reader.selecting_services(pod.namespace), pod.metadata.labels)
        made.extend(target for service in selecting for target in _ports_served(service, _container_ports(pod)))
    else:
        selecting = _selected(reader.selecting_services(proxy.namespace), dict(workload_labels(reader, proxy)))
        made.extend(target for service in selecting for target in _ports_served(service, _stated_ports(proxy)))
    addressed = reader.call(_by_address, proxy.namespace)
    for ip in proxy.ips:
        for target in addressed.get(ip, ()):
            service = reader.service(target.service)
            bare_slices = service is not None and service.kubernetes
            if not (bare_slices and (selecting or pod is None)):
                made.append(target)
    return tuple(sorted(made, key=lambda t: _age(reader, t.service)))


def _age(reader: Reader, key: ServiceKey) -> tuple[str, str]:
    service = reader.service(key)
    return ((service.created if service is not None else "") or "~", key.hostname)


def service_targets(reader: Reader, proxy: Proxy) -> tuple[ServiceTarget, ...]:
    """What a workload serves, by age of the services: of targets on one port the first decides (DR-082)."""
    return reader.call(_service_targets, proxy)
