"""Where Ingresses can be reached: the `status` that each ought to have (KSVC-052). Pure functions of a world."""

from collections.abc import Mapping
from ipaddress import ip_address

from pypilot.kinds.core import Node
from pypilot.kinds.ingress import Ingress
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.kinds.pod import Pod
from pypilot.kinds.service import LoadBalancerIngress, Service
from pypilot.world.converted import surroundings
from pypilot.world.ingress import gateway_selector, is_ours
from pypilot.world.world import World

_DEFAULT_MESH = MeshConfig()
Addresses = tuple[LoadBalancerIngress, ...]


def _of_service(service: Service) -> list[str]:
    if service.spec.type == "ExternalName":
        return [service.spec.external_name]
    balancers = service.status.load_balancer.ingress
    return [*(entry.ip or entry.hostname for entry in balancers), *service.spec.external_ips]


def _of_nodes(world: World, mesh: MeshConfig) -> list[str]:
    """Without a Service: the outside addresses of the node of some gateway pod that runs."""
    wanted = gateway_selector(mesh).items()
    root = world.constants.root_namespace
    nodes = world.objects.get("Node", {})
    for key, pod in sorted(world.objects.get("Pod", {}).items()):
        if not isinstance(pod, Pod) or key[0] != root or pod.status.phase != "Running":
            continue
        node = nodes.get(("", pod.spec.node_name))
        if isinstance(node, Node) and wanted <= pod.metadata.labels.items():
            found = (a.address for a in node.status.addresses if a.type == "ExternalIP" and a.address)
            return list(dict.fromkeys(found))
    return []


def _entry(address: str) -> LoadBalancerIngress:
    try:
        ip_address(address)
    except ValueError:
        return LoadBalancerIngress(hostname=address)
    return LoadBalancerIngress(ip=address)


def gateway_addresses(world: World) -> Addresses:
    """Where the ingress gateway can be reached: addresses, then host names, each sorted."""
    mesh: MeshConfig = world.tables.get("mesh", {}).get("") or _DEFAULT_MESH
    if mesh.ingress_service:
        service = world.objects.get("Service", {}).get((world.constants.root_namespace, mesh.ingress_service))
        found = _of_service(service) if isinstance(service, Service) else []
    else:
        found = _of_nodes(world, mesh)
    return tuple(sorted((_entry(a) for a in found if a), key=lambda e: (e.hostname, e.ip)))


def wrong_statuses(world: World) -> Mapping[tuple[str, str], Addresses]:
    """Namespace and name of our Ingresses whose status says something else -> what it ought to say."""
    ingresses = world.objects.get("Ingress", {})
    if not ingresses:
        return {}
    mesh: MeshConfig = world.tables.get("mesh", {}).get("") or _DEFAULT_MESH
    around = surroundings(
        lambda kind, namespace, name: world.objects.get(kind, {}).get((namespace, name)), mesh, world.constants
    )
    wanted = gateway_addresses(world)
    return {
        key: wanted
        for key, ingress in ingresses.items()
        if isinstance(ingress, Ingress)
        and is_ours(ingress, around)
        and tuple(sorted(ingress.status.load_balancer.ingress, key=lambda e: (e.hostname, e.ip))) != wanted
    }
