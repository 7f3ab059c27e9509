"""A small world on disk: a gateway, a route, two services with endpoints, and the node of the gateway's proxy."""

import json
from pathlib import Path

from tests.sources.texts import gateway, route, service, stream

NODE = {
    "id": "router~10.0.0.5~gate-0.web~web.svc.cluster.local",
    "cluster": "gate.web",
    "metadata": {"NAMESPACE": "web", "LABELS": {"istio": "ingressgateway"}, "ISTIO_VERSION": "1.32.0"},
}

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: gate-0, namespace: web, labels: {istio: ingressgateway}}
status: {podIP: 10.0.0.5, phase: Running}
"""

ENDPOINTS = """\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
endpoints: [{{addresses: [{address}]}}]
ports: [{{name: http, port: 8080}}]
"""


def shop(weight: int = 50) -> str:
    """A route to both services over the gateway."""
    text = route(weight=weight).replace("spec:\n", "spec:\n  gateways: [gate]\n")
    for name in ("first", "second"):
        text = text.replace(f"host: {name}}}", f"host: {name}.default.svc.cluster.local}}")
    return text


def write_world(directory: Path) -> Path:
    """Write it and give the directory back: `config/`, `node.json`."""
    config = directory / "config"
    config.mkdir()
    endpoints = [ENDPOINTS.format(name=n, address=a) for n, a in (("first", "10.1.0.1"), ("second", "10.1.0.2"))]
    (config / "services.yaml").write_text(stream(service("first"), service("second"), *endpoints))
    (config / "gateway.yaml").write_text(stream(gateway(), POD))
    (config / "shop.yaml").write_text(shop())
    (directory / "node.json").write_text(json.dumps(NODE))
    return directory
