"""Who lives in the mesh, and what a cluster would say of them. Plain data."""

from dataclasses import dataclass, field
from typing import Any

from e2e.outcomes.objects import Json
from e2e.outcomes.objects import made as _made

ALPHA, BETA = "alpha", "beta"
APP = "app.alpha.svc.cluster.local"
APP_IP, EGRESS_IP, MIXED_IP = "10.96.79.1", "10.96.79.2", "10.96.79.3"
HTTP, TCP, DOOR, EXIT = 8080, 9000, 8080, 8443
"""Ports: of applications, and of the gateways."""
PARTNER, KEYS, JUDGE, BARE = "203.0.113.40", "203.0.113.41", "203.0.113.42", "10.79.0.41"
GATE_KEYS = 18080
"""Of the world: a service outside, a server of keys, an authorizer, a pod without sidecar."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A pod to be."""

    name: str
    address: str
    namespace: str = ALPHA
    account: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    role: str = "sidecar"
    """Without one it is no pod of the mesh."""
    config: Json = field(default_factory=dict)
    """Of its ProxyConfig, beside what all have."""

    @property
    def service_account(self) -> str:
        return self.account or self.name

    @property
    def all_labels(self) -> dict[str, str]:
        """With the one by which an injected pod is known to speak mutual TLS."""
        return {**self.labels, **({"security.istio.io/tlsMode": "istio"} if self.role == "sidecar" else {})}

    @property
    def identity(self) -> str:
        return f"spiffe://cluster.local/ns/{self.namespace}/sa/{self.service_account}"

    @property
    def principal(self) -> str:
        return self.identity.removeprefix("spiffe://")


WEB = Resident("web", "10.79.0.11", labels={"app": "web"})
STRANGER = Resident("stranger", "10.79.0.12", BETA, labels={"app": "stranger"})
V1 = Resident("app-1", "10.79.0.21", account="app", labels={"app": "app", "version": "v1"})
V2 = Resident("app-2", "10.79.0.22", account="app", labels={"app": "app", "version": "v2"})
INGRESS = Resident(
    "ingress",
    "10.79.0.31",
    labels={"istio": "ingress", "gateway.networking.k8s.io/gateway-name": "door"},
    role="router",
    config={"gatewayTopology": {"numTrustedProxies": 1}},
)
EGRESS = Resident("egress", "10.79.0.32", labels={"istio": "egress"}, role="router")
PLAIN = Resident("plain", BARE, account="app", labels={"app": "mixed"}, role="")
RESIDENTS = (WEB, STRANGER, V1, V2, INGRESS, EGRESS)


def pod_object(one: Resident) -> Json:
    """A running pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": one.name, "namespace": one.namespace, "labels": one.all_labels},
        "spec": {
            "serviceAccountName": one.service_account,
            "nodeName": "node",
            "containers": [{"name": "app", "image": "app"}],
        },
        "status": {"phase": "Running", "podIP": one.address, "podIPs": [{"ip": one.address}]},
    }


def service_objects(name: str, address: str, ports: dict[str, tuple[int, int]], *pods: Resident) -> list[Json]:
    """A Service and its endpoints; ports by name: its own and the pods'."""
    meta = {"namespace": ALPHA}
    endpoints = [
        {
            "addresses": [p.address],
            "conditions": {"ready": True},
            "targetRef": {"kind": "Pod", "name": p.name, "namespace": ALPHA},
        }
        for p in pods
    ]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {**meta, "name": name},
            "spec": {
                "clusterIP": address,
                "selector": {k: v for k, v in pods[0].labels.items() if k != "version"},
                "ports": [{"name": n, "port": p, "targetPort": t} for n, (p, t) in ports.items()],
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**meta, "name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": n, "port": t} for n, (_, t) in ports.items()],
            "endpoints": endpoints,
        },
    ]


def cluster_objects() -> list[Json]:
    """All that is there before a test says anything."""
    return [
        *(pod_object(one) for one in (*RESIDENTS, PLAIN)),
        *service_objects("app", APP_IP, {"http": (80, HTTP), "tcp-echo": (TCP, TCP)}, V1, V2),
        *service_objects("mixed", MIXED_IP, {"http": (80, HTTP)}, PLAIN, V1),
        *service_objects("egress", EGRESS_IP, {"https": (443, EXIT)}, EGRESS),
    ]


def made(kind: str, name: str, spec: Json, group: str = "networking", namespace: str = ALPHA) -> Json:
    """An object of Istio's API."""
    return {**_made(kind, name, spec, group), "metadata": {"name": name, "namespace": namespace}}


def gateway(name: str, port: int, protocol: str, tls: Json | None = None, host: str = "*") -> Json:
    """A Gateway of one server, which the pod of that name plays."""
    server: Json = {"port": {"number": port, "name": "door", "protocol": protocol}, "hosts": [host]}
    server |= {"tls": tls} if tls else {}
    return made("Gateway", name, {"selector": {"istio": name}, "servers": [server]})


def mutual(mode: str, **more: Any) -> Json:
    """PeerAuthentication of the application."""
    return made("PeerAuthentication", "app", {**_selected(), "mtls": {"mode": mode}, **more}, "security")


def policy(action: str, *rules: Json, name: str = "", annotations: Json | None = None, **more: Any) -> Json:
    """AuthorizationPolicy of the application."""
    spec = {**_selected(), "action": action, "rules": list(rules), **more}
    found = made("AuthorizationPolicy", name or action.lower(), spec, "security")
    if annotations:
        found["metadata"]["annotations"] = annotations
    return found


def source(**said: Any) -> Json:
    """A rule of AuthorizationPolicy about who calls."""
    return {"from": [{"source": said}]}


def operation(**said: Any) -> Json:
    """One about what is called."""
    return {"to": [{"operation": said}]}


def _selected() -> Json:
    return {"selector": {"matchLabels": {"app": "app"}}}
