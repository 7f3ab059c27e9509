"""Small objects for tests, written as users write them."""

from typing import Any

from pypilot.kinds import kind_of
from pypilot.kinds.base import Object
from pypilot.kinds.parse import parse_object

_VERSIONS = {
    "EndpointSlice": "discovery.k8s.io/v1",
    "Gateway": "networking.istio.io/v1",
    "VirtualService": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1",
    "ServiceEntry": "networking.istio.io/v1",
    "Sidecar": "networking.istio.io/v1",
    "EnvoyFilter": "networking.istio.io/v1alpha3",
    "WorkloadEntry": "networking.istio.io/v1",
    "WorkloadGroup": "networking.istio.io/v1",
    "ProxyConfig": "networking.istio.io/v1beta1",
    "Ingress": "networking.k8s.io/v1",
    "IngressClass": "networking.k8s.io/v1",
    "PeerAuthentication": "security.istio.io/v1",
    "RequestAuthentication": "security.istio.io/v1",
    "AuthorizationPolicy": "security.istio.io/v1",
}


def make(kind: str, name: str, namespace: str = "default", /, **body: Any) -> Object:
    """An object of a kind; `labels` and `annotations` go into its metadata. Fails on errors and unknown fields."""
    metadata = {"name": name, "namespace": namespace}
    metadata.update({k: body.pop(k) for k in ("labels", "annotations", "creationTimestamp") if k in body})
    version = _VERSIONS.get(kind, "v1")
    entry = kind_of(version, kind)
    assert entry is not None, kind
    parsed = parse_object(entry, {"apiVersion": version, "kind": kind, "metadata": metadata, **body})
    assert parsed.object is not None, parsed.findings
    assert not [f for f in parsed.findings if f.severity == "error" or f.code == "unknown-field"], parsed.findings
    return parsed.object


def service(name: str, namespace: str = "default", port: int = 80, protocol: str = "http", **body: Any) -> Object:
    """A ClusterIP service that selects `app: NAME`."""
    spec = {
        "clusterIP": f"10.0.0.{sum(map(ord, name + namespace)) % 250 + 1}",
        "selector": {"app": name},
        "ports": [{"name": protocol, "port": port}],
        **body.pop("spec", {}),
    }
    return make("Service", name, namespace, spec=spec, **body)


def pod(name: str, ip: str, namespace: str = "default", app: str = "", **labels: str) -> Object:
    """A ready pod with a sidecar."""
    return make(
        "Pod",
        name,
        namespace,
        labels={"app": app or name, "security.istio.io/tlsMode": "istio", **labels},
        spec={"serviceAccountName": app or name, "nodeName": "node-a"},
        status={"podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]},
    )


def endpoint_slice(service_name: str, pods: dict[str, str], namespace: str = "default", port: str = "http") -> Object:
    """A slice of `pods` (name -> address)."""
    return make(
        "EndpointSlice",
        f"{service_name}-1",
        namespace,
        labels={"kubernetes.io/service-name": service_name},
        addressType="IPv4",
        endpoints=[{"addresses": [ip], "targetRef": {"kind": "Pod", "name": n}} for n, ip in pods.items()],
        ports=[{"name": port, "port": 8080}],
    )
