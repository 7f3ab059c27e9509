"""advance(World, Delta) -> World: replaces only the buckets that a change touches.

Two passes: store the raw objects and note which derived buckets they can touch; then rebuild each of those once. A
bucket that comes out equal stays the same object (`Draft.put`), so the change ends there.
"""

from collections.abc import Iterable

from pypilot.kinds.base import Finding, Object, Ref
from pypilot.kinds.config_map import ConfigMap
from pypilot.kinds.envoy_filter import EnvoyFilter
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.kinds.mesh_config_parse import parse_mesh_config
from pypilot.kinds.mesh_networks import parse_mesh_networks
from pypilot.kinds.service import Service
from pypilot.kinds.service_entry import ServiceEntry
from pypilot.wire.node import Locality
from pypilot.world.allocation import placed
from pypilot.world.bindings import bound_gateways, rebuild_bindings
from pypilot.world.converted import all_of, may_convert, rebuild_converted
from pypilot.world.delta import Delta, Problem
from pypilot.world.draft import Draft
from pypilot.world.membership import Membership, entry_keys
from pypilot.world.model import MeshService, ServiceKey
from pypilot.world.service_lists import rebuild_lists, standing
from pypilot.world.services import (
    TRAFFIC_DISTRIBUTION,
    convert_service,
    convert_service_entry,
    merge_definitions,
    service_hostname,
)
from pypilot.world.touched import Touched
from pypilot.world.world import Table, World

_DEFAULT_MESH = MeshConfig()
_NOWHERE = Locality()


def advance(world: World, delta: Delta) -> World:
    """The next world. Applying the same delta again changes nothing."""
    draft = Draft(world)
    step = _Step(world, draft)
    for ref in delta.removals:
        step.store(ref, None)
    for obj in delta.upserts:
        step.store(obj.ref, obj)
    for source, keys in delta.key_sets.items():
        draft.put("key_sets", source, keys or None)
    mesh_override = delta.mesh or world.mesh_override
    if step.touched.mesh or delta.mesh is not None or world.generation == 0:
        draft.put("problems", "mesh", step.rebuild_mesh(mesh_override))
    step.rebuild()
    origins = dict(world.origins)
    for ref in delta.removals:
        origins.pop(ref, None)
    origins.update(delta.origins)
    return World(
        constants=world.constants,
        objects=draft.objects,
        tables=draft.tables,
        origins=origins,
        mesh_override=mesh_override,
        problems=tuple(p for _, found in sorted(draft.tables.get("problems", {}).items()) for p in found),
        generation=world.generation + 1,
        changed=frozenset(draft.changed),
    )


class _Step:
    """One call of `advance`."""

    def __init__(self, world: World, draft: Draft) -> None:
        self.constants = world.constants
        self.draft = draft
        self.touched = Touched()
        self.members = Membership(draft, world.constants, self.touched)

    @property
    def mesh(self) -> MeshConfig:
        return self.draft.get("mesh", "") or _DEFAULT_MESH

    # -- first pass: raw objects and what they touch ------------------------------------------------------------------

    def store(self, ref: Ref, obj: Object | None) -> None:
        """Store or remove one object and note what it can touch."""
        key = (ref.namespace, ref.name)
        old = self.draft.object(ref.kind, *key)
        if old is obj or (old is not None and old == obj):
            return
        self.draft.set_object(ref.kind, key, obj)
        self.touched.ingresses |= may_convert(self.draft, ref)
        match ref.kind:
            case "Namespace":
                self.draft.put("namespaces", ref.name, obj)
                if _distribution_of(old) != _distribution_of(obj):
                    known = (k for k in self.draft.tables.get("definers", {}) if isinstance(k, ServiceKey))
                    self.touched.services.update(k for k in known if k.namespace == ref.name)
                if ref.name == self.constants.root_namespace:
                    self.members.store_default_network(obj)
            case "Node":
                self._store_node(ref.name, obj)
            case "Pod":
                self.draft.put("pods", key, obj)
                self.members.store_pod(key, old, obj)
            case "Service":
                service_key = ServiceKey(
                    service_hostname(ref.name, ref.namespace, self.constants.domain), ref.namespace
                )
                self._define(ref, [service_key] if old is not None else [], [service_key] if obj is not None else [])
            case "EndpointSlice":
                self.members.store_slice(ref, old, obj)
            case "ServiceEntry":
                self._define(ref, entry_keys(old), entry_keys(obj))
                self.touched.endpoints.update(entry_keys(old), entry_keys(obj))
                self.touched.entry_namespaces.add(ref.namespace)
            case "WorkloadEntry":
                self.members.store_workload(key, old, obj)
            case "DestinationRule" | "Sidecar":
                self.draft.put("sidecar" if ref.kind == "Sidecar" else "destination_rule", ref, obj)
                self.touched.rules.add((ref.kind, ref.namespace))
            case "VirtualService":
                self.draft.put("virtual_service", ref, obj)
                self.touched.gateway_names.update(bound_gateways(old), bound_gateways(obj))
            case "PeerAuthentication" | "RequestAuthentication" | "AuthorizationPolicy":
                self.draft.put("policy", ref, obj)
                self.touched.policies.add((ref.kind, ref.namespace))
            case "Gateway":
                self.draft.put("gateway", ref, obj)
                self.touched.gateways = True
            case "EnvoyFilter":
                self.draft.put("envoy_filter", ref, obj)
                self.touched.filters.add(ref.namespace)
            case "Secret":
                self.draft.put("secrets", key, obj)
            case "ConfigMap":
                self.draft.put("config_maps", key, obj)
                if ref == self.constants.mesh_config_map:
                    self.touched.mesh = True
            case _:
                pass

    def _store_node(self, name: str, obj: Object | None) -> None:
        labels = obj.metadata.labels if obj is not None else {}
        locality = Locality(
            labels.get("topology.kubernetes.io/region", ""),
            labels.get("topology.kubernetes.io/zone", ""),
            labels.get("topology.istio.io/subzone", ""),
        )
        if self.draft.put("localities", name, locality if locality != _NOWHERE else None):
            self.touched.all_endpoints = True
        if self.draft.tables.get("node_ports"):
            self.touched.all_network_gateways = True

    def _define(self, ref: Ref, old: Iterable[ServiceKey], new: Iterable[ServiceKey]) -> None:
        for key in old:
            self.draft.put("definers", key, tuple(r for r in self.draft.get("definers", key) or () if r != ref))
            self.touched.services.add(key)
        for key in new:
            self.draft.put("definers", key, tuple(sorted({*(self.draft.get("definers", key) or ()), ref})))
            self.touched.services.add(key)

    # -- second pass: derived buckets ---------------------------------------------------------------------------------

    def rebuild_mesh(self, override: MeshConfig | None) -> tuple[Problem, ...]:
        """MeshConfig from the override or the ConfigMap; a text that cannot be read leaves the last one (MESH-002)."""
        config_map = self.draft.object(*self.constants.mesh_config_map)
        data = config_map.data if isinstance(config_map, ConfigMap) else {}
        problems = self._rebuild_networks(data.get("meshNetworks", ""))
        mesh: MeshConfig | None = override
        if mesh is None and "mesh" in data:
            mesh, findings = parse_mesh_config(data["mesh"])
            problems = (*self._text_problems("mesh", findings), *problems)
            if mesh is None:
                return problems
        old = self.mesh
        if self.draft.put("mesh", "", mesh or _DEFAULT_MESH):
            self.touched.ingresses = True
        if old.trust_domain != self.mesh.trust_domain:
            self.touched.all_services = self.touched.all_endpoints = True
        if old.default_service_export_to != self.mesh.default_service_export_to:
            self.touched.all_services = True
        return problems

    def _rebuild_networks(self, text: str) -> tuple[Problem, ...]:
        """Mesh networks (MESH-045); a text that cannot be used leaves the last ones."""
        networks, findings = parse_mesh_networks(text)
        if networks is not None and self.draft.put("mesh_networks", "", networks):
            self.touched.all_endpoints = self.touched.all_network_gateways = True
        return self._text_problems("meshNetworks", findings)

    def _text_problems(self, key: str, findings: Iterable[Finding]) -> tuple[Problem, ...]:
        """What is wrong with the text of one key of the mesh's ConfigMap."""
        ref = self.constants.mesh_config_map
        return tuple(
            Problem(f.message, f.severity, f.code, ref, f"data.{key}: {f.field}" if f.field else f"data.{key}")
            for f in findings
        )

    def rebuild(self) -> None:
        """Rebuild every touched bucket once."""
        self.members.rebuild_indexes()
        self._rebuild_services()
        self.members.rebuild_network_gateways()
        self.members.rebuild_endpoints(self.mesh.trust_domain)
        for kind, namespace in self.touched.rules:
            self._rebuild_rules(kind, namespace)
        for namespace in self.touched.filters:
            self._rebuild_filters(namespace)
        if self.touched.filters:
            known = sorted(f.ref for f in self.draft.objects_of("EnvoyFilter"))
            self.draft.put("envoy_filter_refs", "", tuple(known))
        if self.touched.ingresses:
            for obj in rebuild_converted(self.draft, self.mesh, self.constants):
                self.touched.gateways |= obj.KIND == "Gateway"
                self.touched.gateway_names.update(bound_gateways(obj))
        for kind, namespace in self.touched.policies:
            found = [p for p in self.draft.objects_of(kind) if p.namespace == namespace]
            self.draft.put("policies", (kind, namespace), tuple(sorted(found, key=lambda p: p.age_key)))
        if self.touched.gateways:
            ordered = sorted(all_of(self.draft, "Gateway"), key=lambda g: g.age_key)
            self.draft.put("gateways", "", tuple(ordered))
        rebuild_bindings(self.draft, self.touched.gateway_names)

    def _place_hosts(self) -> None:
        """Addresses for hosts that have none, where nobody writes them into the entries' status (SE-016)."""
        found = placed(self.draft.objects_of("ServiceEntry"))
        known = (ref for ref in self.draft.tables.get("placed", {}) if isinstance(ref, Ref))
        for ref in {*found, *known}:
            if self.draft.put("placed", ref, found.get(ref)):
                self.touched.services.update(entry_keys(self.draft.object(*ref)))

    def _rebuild_services(self) -> None:
        touched = self.touched
        if self.constants.allocates and touched.entry_namespaces:
            self._place_hosts()
        keys = (
            set(self.draft.tables.get("definers", {})) | touched.services if touched.all_services else touched.services
        )
        reorder = touched.all_services
        selecting: set[str] = set()
        for key in keys:
            assert isinstance(key, ServiceKey)
            old: MeshService | None = self.draft.get("services", key)
            new = self._build_service(key)
            if not self.draft.put("services", key, new):
                continue
            touched.endpoints.add(key)
            for service in (old, new):
                if service is not None and service.kubernetes:
                    selecting.add(service.namespace)
            if standing(old) != standing(new):
                reorder = True
                hosts = set(self.draft.get("hosts", key.hostname) or ())
                hosts = hosts | {key} if new is not None else hosts - {key}
                self.draft.put("hosts", key.hostname, tuple(sorted(hosts)))
        for namespace in selecting:
            self._rebuild_selecting(namespace)
        if reorder:
            rebuild_lists(self.draft, self.mesh.default_service_export_to)

    def _build_service(self, key: ServiceKey) -> MeshService | None:
        candidates: list[MeshService] = []
        namespace = self.draft.get("namespaces", key.namespace)
        inherited = namespace.metadata.annotations if namespace is not None else {}
        for ref in self.draft.get("definers", key) or ():
            obj = self.draft.object(*ref)
            if isinstance(obj, Service):
                candidates.append(convert_service(obj, self.constants.domain, self.mesh.trust_domain, inherited))
            elif isinstance(obj, ServiceEntry):
                given = self.draft.get("placed", ref) if self.constants.allocates else None
                candidates.extend(s for s in convert_service_entry(obj, given, inherited) if s.hostname == key.hostname)
        return merge_definitions(candidates)

    def _rebuild_selecting(self, namespace: str) -> None:
        found = [
            service
            for obj in self.draft.objects_of("Service")
            if obj.namespace == namespace and obj.spec.selector
            for service in (self.draft.get("services", _service_key(obj, self.constants.domain)),)
            if service is not None
        ]
        self.draft.put("selecting_services", namespace, tuple(sorted(found, key=lambda s: s.age_key)))

    def _rebuild_rules(self, kind: str, namespace: str) -> None:
        rules = [r for r in self.draft.objects_of(kind) if r.namespace == namespace]
        table: Table = "sidecars" if kind == "Sidecar" else "destination_rules"
        self.draft.put(table, namespace, tuple(sorted(rules, key=lambda r: r.age_key)))

    def _rebuild_filters(self, namespace: str) -> None:
        found: list[EnvoyFilter] = [f for f in self.draft.objects_of("EnvoyFilter") if f.namespace == namespace]
        self.draft.put("envoy_filters", namespace, tuple(sorted(found, key=lambda f: f.order_key)))


def _distribution_of(namespace: Object | None) -> str | None:
    """What services of a namespace inherit (KSVC-014)."""
    return namespace.metadata.annotations.get(TRAFFIC_DISTRIBUTION) if namespace is not None else None


def _service_key(service: Service, domain: str) -> ServiceKey:
    return ServiceKey(service_hostname(service.name, service.namespace, domain), service.namespace)
