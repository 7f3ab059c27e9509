"""Small YAML documents for the tests of the sources."""

GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: web}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {port}, name: http, protocol: HTTP}}
    hosts: ["*"]
"""

ROUTE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: {name}
  namespace: web
spec:
  hosts: [{name}.example.com]
  http:
  - route:
    - destination: {{host: first}}
      weight: {weight}
    - destination: {{host: second}}
      weight: 50
"""

SERVICE = """\
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: {port}}}]
"""


def gateway(name: str = "gate", port: int = 80) -> str:
    return GATEWAY.format(name=name, port=port)


def route(name: str = "shop", weight: object = 50) -> str:
    return ROUTE.format(name=name, weight=weight)


def service(name: str = "first", port: int = 80) -> str:
    return SERVICE.format(name=name, port=port)


def stream(*documents: str) -> str:
    return "---\n".join(documents)
