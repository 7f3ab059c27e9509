"""Which services are only for proxies of the cluster in which their endpoints are (MESH-037)."""

from pypilot.world.reader import Reader

_DISCOVERY = "istiod.istio-system.svc"


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
