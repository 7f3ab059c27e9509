"""Who is an endpoint of whom: the part of `advance` that keeps the endpoints of services, and what leads to them.

Every stored Pod, EndpointSlice or WorkloadEntry touches the services that have it as an endpoint, or could have it now.
"""

from pypilot.kinds.base import Object, Ref
from pypilot.kinds.core import Namespace
from pypilot.kinds.endpoint_slice import EndpointSlice
from pypilot.kinds.mesh_networks import MeshNetworks
from pypilot.kinds.pod import Pod
from pypilot.kinds.service import Service
from pypilot.kinds.service_entry import ServiceEntry
from pypilot.kinds.workload_entry import WorkloadEntry
from pypilot.wire.node import Locality
from pypilot.world.draft import Draft
from pypilot.world.endpoints import Surroundings, slice_endpoints
from pypilot.world.model import Endpoint, MeshService, Resolution, ServiceKey
from pypilot.world.networks import (
    NETWORK_LABEL,
    NetworkGateway,
    NetworkLookup,
    all_gateways,
    node_selector,
    service_gateways,
)
from pypilot.world.services import convert_service_entry, service_hostname
from pypilot.world.touched import Touched
from pypilot.world.workloads import entry_endpoints, one_for_each_port, selected_entries, selects
from pypilot.world.world import Constants

_NOWHERE = Locality()
_NO_NETWORKS = MeshNetworks()


class Membership:
    """Works on one draft, for one step."""

    def __init__(self, draft: Draft, constants: Constants, touched: Touched) -> None:
        self.draft = draft
        self.constants = constants
        self.touched = touched
        self._pods: dict[str, list[Pod]] | None = None

    # -- first pass ---------------------------------------------------------------------------------------------------

    def store_pod(self, key: tuple[str, str], old: Pod | None, new: Object | None) -> None:
        """A Pod came, changed or went."""
        pods: list[Pod] = [p for p in (old, new) if isinstance(p, Pod)]
        for ip in {ip for pod in pods for ip in pod.ips}:
            self.touched.addresses.setdefault(ip, set()).add(key)
        self.touched.endpoints.update(self.draft.get("pod_users", key) or ())
        for ip in {ip for pod in pods for ip in pod.ips}:
            self.touched.endpoints.update(self.draft.get("pod_users", ip) or ())
        self._touch_entries(key[0], [pod.metadata.labels for pod in pods])

    def store_slice(self, ref: Ref, old: EndpointSlice | None, new: Object | None) -> None:
        """An EndpointSlice came, changed or went."""
        for slice_, present in ((old, False), (new, True)):
            if not isinstance(slice_, EndpointSlice) or not slice_.service_name:
                continue
            owner = (ref.namespace, slice_.service_name)
            names = frozenset(self.draft.get("slices", owner) or ())
            self.draft.put("slices", owner, (names | {ref.name} if present else names - {ref.name}) or None)
            key = ServiceKey(service_hostname(owner[1], owner[0], self.constants.domain), owner[0])
            self.touched.endpoints.add(key)
            for user in _pod_keys(slice_):
                users = frozenset(self.draft.get("pod_users", user) or ())
                if present:
                    self.draft.put("pod_users", user, users | {key})
                elif not self._still_uses(owner, user):
                    self.draft.put("pod_users", user, (users - {key}) or None)

    def _still_uses(self, owner: tuple[str, str], user: object) -> bool:
        names = self.draft.get("slices", owner) or ()
        return any(user in _pod_keys(self.draft.object("EndpointSlice", owner[0], n)) for n in names)

    def store_workload(self, key: tuple[str, str], old: WorkloadEntry | None, new: Object | None) -> None:
        """A WorkloadEntry came, changed or went (WE-001)."""
        namespace = key[0]
        entries = [e for e in (old, new) if isinstance(e, WorkloadEntry)]
        for entry in entries:
            address = entry.spec.address
            known = {e.ref for e in self.draft.get("workloads_by_address", address) or ()} - {entry.ref}
            if entry is new and entry.usable and not entry.dns_only and address:
                known.add(entry.ref)
            found = tuple(self.draft.object(*ref) for ref in sorted(known))
            self.draft.put("workloads_by_address", address, found)
        self.touched.workload_namespaces.add(namespace)
        labels = [entry.labels for entry in entries]
        self._touch_entries(namespace, labels)
        for service in self.draft.get("selecting_services", namespace) or ():
            if any(selects(dict(service.selector), carried) for carried in labels):
                self.touched.endpoints.add(service.key)

    def _touch_entries(self, namespace: str, labels: list[dict[str, str]]) -> None:
        """The ServiceEntries of the namespace that select one of the workloads."""
        for ref in self.draft.get("selecting_entries", namespace) or ():
            entry = self.draft.object(*ref)
            if entry is not None and any(selects(entry.wanted or {}, carried) for carried in labels):
                self.touched.endpoints.update(entry_keys(entry))

    def store_default_network(self, namespace: Object | None) -> None:
        """The network of whatever says no other (KSVC-034)."""
        name = namespace.metadata.labels.get(NETWORK_LABEL) if isinstance(namespace, Namespace) else None
        if self.draft.put("default_network", "", name or None):
            self.touched.all_endpoints = True

    # -- second pass --------------------------------------------------------------------------------------------------

    def rebuild_indexes(self) -> None:
        """What leads to endpoints: pods by address, and the workloads and selecting entries of a namespace."""
        for ip, stored in self.touched.addresses.items():
            known = {(p.namespace, p.name) for p in self.draft.get("pods_by_ip", ip) or ()}
            pods = [self.draft.object("Pod", *key) for key in sorted(known | stored)]
            self.draft.put("pods_by_ip", ip, tuple(p for p in pods if p is not None and ip in p.ips))
        for namespace in self.touched.entry_namespaces:
            refs = [e.ref for e in self.draft.objects_of("ServiceEntry") if e.namespace == namespace]
            selecting = [r for r in refs if self.draft.object(*r).spec.workload_selector is not None]
            self.draft.put("selecting_entries", namespace, tuple(sorted(selecting)))
        found: dict[str, list[WorkloadEntry]] = {namespace: [] for namespace in self.touched.workload_namespaces}
        for entry in self.draft.objects_of("WorkloadEntry") if found else ():
            if entry.namespace in found and entry.usable:
                found[entry.namespace].append(entry)
        for namespace, entries in found.items():
            self.draft.put("workloads", namespace, tuple(sorted(entries, key=lambda e: e.name)))

    def rebuild_network_gateways(self) -> None:
        """The ways into networks: after the services, whose addresses and ports they take."""
        keys = self.touched.services
        if self.touched.all_network_gateways:
            keys = keys | set(self.draft.tables.get("services", {}))  # type: ignore[arg-type]
        networks = self.draft.get("mesh_networks", "") or _NO_NETWORKS
        changed = self.touched.all_network_gateways
        for key in keys:
            service: MeshService | None = self.draft.get("services", key)
            source = self.draft.object(*service.source) if service is not None else None
            gateways: tuple[NetworkGateway, ...] = ()
            if service is not None and isinstance(source, Service):
                nodes = self.draft.objects_of("Node")
                gateways = service_gateways(source, service, networks, self.constants.cluster_id, nodes)
            by_node = isinstance(source, Service) and node_selector(source) is not None
            self.draft.put("node_ports", key, True if by_node else None)
            changed |= self.draft.put("service_gateways", key, gateways)
        if changed:
            merged = all_gateways(networks, self.draft.tables.get("service_gateways", {}).values())
            self.draft.put("network_gateways", "", merged if merged else None)

    def rebuild_endpoints(self, trust_domain: str) -> None:
        """The endpoints of all touched services, and their identities."""
        keys = self.touched.endpoints
        if self.touched.all_endpoints:
            keys = keys | {s.key for s in self.draft.tables.get("services", {}).values()}
        default = self.draft.get("default_network", "") or ""
        networks = self.draft.get("mesh_networks", "") or _NO_NETWORKS
        around = Surroundings(
            pod=lambda namespace, name: self.draft.object("Pod", namespace, name),
            pods_by_ip=lambda ip: self.draft.get("pods_by_ip", ip) or (),
            node_locality=lambda node: self.draft.get("localities", node) or _NOWHERE,
            network=NetworkLookup(default, networks, self.constants.cluster_id),
            trust_domain=trust_domain,
            cluster_id=self.constants.cluster_id,
        )
        for key in keys:
            service: MeshService | None = self.draft.get("services", key)
            endpoints = () if service is None else self._endpoints(service, around)
            self.draft.put("endpoints", key, endpoints)
            accounts = {e.service_account for e in endpoints if e.service_account}
            if service is not None:
                accounts.update(service.expected_accounts)
            self.draft.put("service_accounts", key, tuple(sorted(accounts)))

    def _endpoints(self, service: MeshService, around: Surroundings) -> tuple[Endpoint, ...]:
        """Those of all objects of the namespace that define the hostname, the oldest first (SE-022)."""
        made: list[Endpoint] = []
        entries: list[tuple[ServiceEntry, MeshService]] = []
        for ref in self.draft.get("definers", service.key) or ():
            source = self.draft.object(*ref)
            if isinstance(source, Service):
                made.extend(self._service_endpoints(service, source, around))
            elif isinstance(source, ServiceEntry):
                entries.extend((source, s) for s in convert_service_entry(source) if s.hostname == service.hostname)
        for entry, definition in sorted(entries, key=lambda pair: pair[0].age_key):
            pods = self._pods_of(entry.namespace) if entry.wanted is not None else ()
            workloads = self.draft.get("workloads", entry.namespace) or ()
            made.extend(entry_endpoints(definition, entry, pods, workloads, around))
        if service.resolution is Resolution.DNS_ROUND_ROBIN:
            return one_for_each_port(made)
        return tuple(made if service.resolution.is_dns else sorted(made, key=lambda e: e.address))

    def _service_endpoints(self, service: MeshService, source: Service, around: Surroundings) -> tuple[Endpoint, ...]:
        names = self.draft.get("slices", (source.namespace, source.name)) or ()
        slices = [self.draft.object("EndpointSlice", source.namespace, n) for n in sorted(names)]
        made = slice_endpoints(service, [s for s in slices if s is not None], around)
        if service.resolution is not Resolution.CLIENT_SIDE:
            return made
        return (*made, *selected_entries(source, self.draft.get("workloads", source.namespace) or (), around))

    def _pods_of(self, namespace: str) -> list[Pod]:
        """The pods of a namespace by name, grouped once a step."""
        if self._pods is None:
            self._pods = {}
            for pod in self.draft.objects_of("Pod"):
                self._pods.setdefault(pod.namespace, []).append(pod)
            for pods in self._pods.values():
                pods.sort(key=lambda p: p.name)
        return self._pods.get(namespace, [])


def entry_keys(entry: Object | None) -> list[ServiceKey]:
    """The services that a ServiceEntry defines."""
    if not isinstance(entry, ServiceEntry):
        return []
    return [ServiceKey(host, entry.namespace) for host in dict.fromkeys(entry.spec.hosts)]


def _pod_keys(slice_: EndpointSlice | None) -> frozenset[object]:
    """What an endpoint's pod is found by: (namespace, name) of its target, else its address."""
    keys: set[object] = set()
    for endpoint in slice_.endpoints if slice_ is not None else ():
        target = endpoint.target_ref
        if slice_ is not None and target is not None and target.kind == "Pod":
            keys.add((target.namespace or slice_.namespace, target.name))
        else:
            keys.update(endpoint.addresses)
    return frozenset(keys)
