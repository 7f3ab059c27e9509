"""From a VirtualService's destination to the name of a cluster (VS-037…039, KSVC-005, KSVC-006).

A destination that nobody defines still names a cluster: Envoy then answers 503 with flag NC. Must not build messages.
"""

from pypilot.compile.naming import outbound_cluster
from pypilot.compile.scope import Scoped
from pypilot.compile.services import service_for
from pypilot.kinds.virtual_service import Destination
from pypilot.world.model import MeshService, Resolution
from pypilot.world.reader import Reader


def cluster_host(service: MeshService | None, host: str) -> str:
    """The host in the cluster's name: an ExternalName Service stands for what it names (KSVC-005)."""
    aliased = service is not None and service.resolution is Resolution.ALIAS
    return service.external_name if aliased and service is not None else host


def default_port(service: MeshService | None, listener_port: int) -> int:
    """The port of a destination that names none: the service's only one, else the listener's (VS-038, SEEN-018)."""
    return service.ports[0].number if service is not None and len(service.ports) == 1 else listener_port


def destination_cluster(reader: Reader, scoped: Scoped, destination: Destination, listener_port: int) -> str:
    """The cluster for a destination as a view sees it (TCP and TLS routes; gateways)."""
    service = service_for(reader, scoped, destination.host)
    port = destination.port.number or default_port(service, listener_port)
    return outbound_cluster(port, destination.subset, cluster_host(service, destination.host))
