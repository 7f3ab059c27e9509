"""A small mesh, as users write it."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from e2e.kube.pki import Pki

ISTIO = "networking.istio.io/v1"


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def node(name: str, zone: str) -> dict[str, Any]:
    labels = {"topology.kubernetes.io/region": "r1", "topology.kubernetes.io/zone": zone}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def service(place: str, name: str, port: int = 80) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": place, "labels": {"app": name}},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": port, "targetPort": 8080}]},
    }


def pod(place: str, name: str, app: str, ip: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": place, "labels": {"app": app, "version": "v1"}},
        "spec": {
            "nodeName": "node-a",
            "serviceAccountName": app,
            "automountServiceAccountToken": False,
            "containers": [{"name": "app", "image": "x", "ports": [{"containerPort": 8080}]}],
        },
        "status": {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def endpoint_slice(place: str, app: str, pods: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": {"name": f"{app}-1", "namespace": place, "labels": {"kubernetes.io/service-name": app}},
        "endpoints": [
            {
                "addresses": [ip],
                "conditions": {"ready": True},
                "nodeName": "node-a",
                "targetRef": {"kind": "Pod", "name": name, "namespace": place},
            }
            for name, ip in pods.items()
        ],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


def virtual_service(place: str, name: str, weight: int = 80) -> dict[str, Any]:
    host = f"{name}.{place}.svc.cluster.local"
    routes = [
        {"destination": {"host": host, "subset": "v1"}, "weight": weight},
        {"destination": {"host": host, "subset": "v2"}, "weight": 100 - weight},
    ]
    return {
        "apiVersion": ISTIO,
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": place},
        "spec": {"hosts": [host], "gateways": ["mesh", "gw"], "http": [{"timeout": "5s", "route": routes}]},
    }


def destination_rule(place: str, name: str) -> dict[str, Any]:
    subsets = [{"name": v, "labels": {"version": v}} for v in ("v1", "v2")]
    return {
        "apiVersion": ISTIO,
        "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": place},
        "spec": {"host": f"{name}.{place}.svc.cluster.local", "subsets": subsets},
    }


def service_entry(place: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": ISTIO,
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": place},
        "spec": {
            "hosts": [f"{name}.example.com"],
            "location": "MESH_EXTERNAL",
            "resolution": "DNS",
            "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}],
        },
    }


def gateway(place: str, name: str) -> dict[str, Any]:
    servers = [
        {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]},
        {
            "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
            "hosts": ["*"],
            "tls": {"mode": "SIMPLE", "credentialName": f"{name}-certificate"},
        },
    ]
    return {
        "apiVersion": ISTIO,
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": place},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": servers},
    }


def config_map(place: str, name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": place}, "data": data}


def secret(place: str, name: str, kind: str = "Opaque", **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": place},
        "type": kind,
        "stringData": data,
    }


@cache
def _pair() -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as directory:
        certificate, key = Pki(Path(directory)).issue("gateway", hosts=("gateway.example",))
        return certificate.read_text(), key.read_text()


def tls_secret(place: str, name: str) -> dict[str, Any]:
    certificate, key = _pair()
    return secret(place, name, "kubernetes.io/tls", **{"tls.crt": certificate, "tls.key": key})


def service_account(place: str, name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": place}}


def mesh(place: str, apps: int = 3) -> list[dict[str, Any]]:
    """Something of every kind, in one namespace."""
    out = [namespace(place, team="a"), node("node-a", "z1"), gateway(place, "gw"), service_entry(place, "ext")]
    out += [
        secret(place, "plain", key="value"),
        tls_secret(place, "gw-certificate"),
        config_map(place, "ca", **{"ca.crt": "x"}),
    ]
    for i in range(apps):
        name, ip = f"app{i}", f"10.128.{i // 250}.{i % 250 + 1}"
        out += [service(place, name), service_account(place, name), pod(place, f"{name}-0", name, ip)]
        out += [endpoint_slice(place, name, {f"{name}-0": ip}), destination_rule(place, name)]
        out.append(virtual_service(place, name))
    return out
