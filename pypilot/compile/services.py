"""Which services a namespace sees, and which definition of a hostname it uses (KSVC-021, SE-021)."""

from collections.abc import Mapping
from types import MappingProxyType

from pypilot.world.model import MeshService, ServiceKey
from pypilot.world.reader import Reader

_DISCOVERY = "istiod.istio-system.svc"


def _rank(service: MeshService, namespace: str) -> tuple[bool, bool, tuple[str, str, str]]:
    """Smaller wins: own namespace, then Kubernetes services, then age."""
    return (service.namespace != namespace, not service.kubernetes, service.age_key)


def _choose(reader: Reader, namespace: str) -> tuple[ServiceKey, ...]:
    chosen: dict[str, MeshService] = {}
    for key in (*reader.public_services(), *reader.private_services(namespace)):
        service = reader.service(key)
        if service is None:
            continue
        rival = chosen.get(service.hostname)
        if rival is None or _rank(service, namespace) < _rank(rival, namespace):
            chosen[service.hostname] = service
    return tuple(s.key for s in sorted(chosen.values(), key=lambda s: s.age_key))


def visible_services(reader: Reader, namespace: str) -> tuple[ServiceKey, ...]:
    """The services that proxies of a namespace see, one per hostname, oldest first. ALIAS services are among them."""
    return reader.call(_choose, namespace)


def _local_hosts(reader: Reader) -> tuple[tuple[str, bool], ...]:
    """Hosts and whether they are local to a cluster, the most specific first; wildcards after whole names."""
    domain = reader.constants.domain
    stated = {h: entry.settings.cluster_local for entry in reader.mesh().service_settings for h in entry.hosts}
    opened = [host for host, local in stated.items() if not local]
    known = {}
    for host in (f"*.kube-system.svc.{domain}", f"kubernetes.default.svc.{domain}", f"{_DISCOVERY}.{domain}"):
        if not any(h == host or (host[0] == "*" and h.endswith(host[1:])) for h in opened):
            known[host] = True
    known.update(stated)
    return tuple(sorted(known.items(), key=lambda entry: (entry[0][:1] == "*", -len(entry[0]))))


def is_cluster_local(reader: Reader, hostname: str) -> bool:
    """True if a service is only for proxies of the cluster in which its endpoints are (MESH-037)."""
    for host, local in reader.call(_local_hosts):
        if host == hostname or (host[:1] == "*" and hostname.endswith(host[1:])):
            return local
    return False


def _by_hostname(reader: Reader, namespace: str) -> Mapping[str, ServiceKey]:
    return MappingProxyType({key.hostname: key for key in visible_services(reader, namespace)})


def service_for(reader: Reader, namespace: str, hostname: str) -> MeshService | None:
    """The service that a hostname means to proxies of a namespace, or None."""
    key = reader.call(_by_hostname, namespace).get(hostname)
    return reader.service(key) if key is not None else None
