"""From EndpointSlices and Pods to the endpoints of a Service (KSVC-025…036). Others' are in `workloads`."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from pypilot.kinds.endpoint_slice import EndpointSlice, SliceEndpoint
from pypilot.kinds.pod import Pod
from pypilot.wire.node import Locality
from pypilot.world.model import Endpoint, Health, MeshService
from pypilot.world.services import spiffe_id

TLS_MODE_LABEL = "security.istio.io/tlsMode"
LOCALITY_LABEL = "istio-locality"
_CRON_JOB = re.compile(r"^(.+)-\d{8,10}$")


def parse_locality(text: str) -> Locality:
    """`region/zone/subzone`, any of them absent."""
    region, zone, sub_zone, *_ = (*text.split("/"), "", "", "")
    return Locality(region, zone, sub_zone)


def workload_name(pod: Pod) -> str:
    """The name of what made the pod: Deployment, Job, …; the pod's own name if it was not generated."""
    meta = pod.metadata
    owner = next((o for o in meta.owner_references if o.controller), None)
    if not meta.generate_name or owner is None:
        return meta.name
    template_hash = meta.labels.get("pod-template-hash", "")
    if owner.kind == "ReplicaSet" and template_hash and owner.name.endswith(f"-{template_hash}"):
        return owner.name.removesuffix(f"-{template_hash}")
    if owner.kind == "Job" and (match := _CRON_JOB.match(owner.name)):
        return match[1]
    return owner.name


class Surroundings:
    """The lookups that an endpoint needs: pods, localities of nodes, networks, and mesh-wide constants."""

    def __init__(
        self,
        pod: Callable[[str, str], Pod | None],
        pods_by_ip: Callable[[str], Sequence[Pod]],
        node_locality: Callable[[str], Locality],
        network: Callable[[str, Mapping[str, str]], str],
        trust_domain: str,
        cluster_id: str,
    ) -> None:
        self.pod = pod
        self.pods_by_ip = pods_by_ip
        self.node_locality = node_locality
        self.network = network
        self.trust_domain = trust_domain
        self.cluster_id = cluster_id

    def pod_endpoint(
        self, pod: Pod, address: str, ports: tuple[tuple[str, int], ...], health: Health = "HEALTHY"
    ) -> Endpoint:
        """An endpoint that is a pod (KSVC-031…035)."""
        labels, spec = pod.metadata.labels, pod.spec
        stated = labels.get(LOCALITY_LABEL, "")
        return Endpoint(
            address=address,
            ports=ports,
            labels=tuple(sorted(labels.items())),
            service_account=spiffe_id(self.trust_domain, pod.namespace, spec.service_account_name or "default"),
            tls_mode=labels.get(TLS_MODE_LABEL, ""),
            locality=parse_locality(stated.replace(".", "/")) if stated else self.node_locality(spec.node_name),
            network=self.network(address, labels),
            cluster_id=self.cluster_id,
            health=health,
            namespace=pod.namespace,
            workload_name=workload_name(pod),
            pod_name=pod.name,
            hostname=spec.hostname,
            subdomain=spec.subdomain,
            node_name=spec.node_name,
        )


def _health(endpoint: SliceEndpoint) -> Health:
    conditions = endpoint.conditions
    if conditions.ready is None or conditions.ready:
        return "HEALTHY"
    # Kubernetes states `terminating` with every endpoint; where it is absent istiod takes it as true.
    if conditions.terminating is None or conditions.terminating:
        return "TERMINATING"
    return "UNHEALTHY"


def _target_pod(endpoint: SliceEndpoint, address: str, namespace: str, around: Surroundings) -> tuple[Pod | None, bool]:
    """The pod behind an address, and whether one is expected but not yet known (KSVC-028)."""
    target = endpoint.target_ref
    if target is not None and target.kind == "Pod":
        pod = around.pod(target.namespace or namespace, target.name)
        return pod, pod is None
    return next((p for p in around.pods_by_ip(address) if p.namespace == namespace), None), False


def slice_endpoints(
    service: MeshService, slices: Iterable[EndpointSlice], around: Surroundings
) -> tuple[Endpoint, ...]:
    """The endpoints of a Kubernetes service, united by address (KSVC-025)."""
    ports: dict[str, dict[str, int]] = {}
    made: dict[str, Endpoint] = {}
    for slice_ in slices:
        if slice_.address_type == "FQDN":
            continue
        numbers = {p.name: p.port for p in slice_.ports if p.port}
        for endpoint in slice_.endpoints:
            for address in endpoint.addresses:
                if address in made:
                    ports[address].update(numbers)
                    continue
                pod, pending = _target_pod(endpoint, address, service.namespace, around)
                if pending:
                    continue
                ports[address] = dict(numbers)
                if pod is not None:
                    made[address] = around.pod_endpoint(pod, address, (), _health(endpoint))
                else:
                    made[address] = Endpoint(
                        address=address,
                        ports=(),
                        network=around.network(address, {}),
                        cluster_id=around.cluster_id,
                        health=_health(endpoint),
                        hostname=endpoint.hostname,
                        node_name=endpoint.node_name,
                    )
    return tuple(_with_ports(made[address], tuple(sorted(ports[address].items()))) for address in sorted(made))


def _with_ports(endpoint: Endpoint, ports: tuple[tuple[str, int], ...]) -> Endpoint:
    values = {name: getattr(endpoint, name) for name in Endpoint.__slots__}
    return Endpoint(**{**values, "ports": ports})
