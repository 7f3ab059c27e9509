"""Kubernetes Ingress and IngressClass (networking.k8s.io/v1): the fields (KSVC-045…052).

What is wrong with an Ingress is found where its class is known (`world.ingress`): those of other controllers may hold
what Istio could not serve.
"""

from typing import ClassVar

from pypilot.kinds.base import Kind, Object, Spec
from pypilot.kinds.service import LoadBalancerStatus


class ServiceBackendPort(Spec, frozen=True):
    """`backend.service.port`: one of the two."""

    name: str = ""
    number: int = 0


class IngressServiceBackend(Spec, frozen=True):
    """`backend.service`."""

    name: str
    port: ServiceBackendPort = ServiceBackendPort()


class TypedReference(Spec, frozen=True):
    """`backend.resource`."""

    kind: str
    name: str
    api_group: str = ""


class IngressBackend(Spec, frozen=True):
    """`backend`."""

    service: IngressServiceBackend | None = None
    resource: TypedReference | None = None


class HTTPIngressPath(Spec, frozen=True):
    """`http.paths[]`."""

    backend: IngressBackend
    path: str = ""
    path_type: str = ""
    """Exact, Prefix or ImplementationSpecific, which is meant if it is absent."""


class HTTPIngressRules(Spec, frozen=True):
    """`rules[].http`."""

    paths: tuple[HTTPIngressPath, ...] = ()


class IngressRule(Spec, frozen=True):
    """`rules[]`."""

    host: str = ""
    """`*.example.com` matches one label more; empty: any host."""
    http: HTTPIngressRules | None = None


class IngressTLS(Spec, frozen=True):
    """`tls[]`."""

    hosts: tuple[str, ...] = ()
    secret_name: str = ""


class IngressSpec(Spec, frozen=True):
    """`spec`."""

    ingress_class_name: str = ""
    default_backend: IngressBackend | None = None
    tls: tuple[IngressTLS, ...] = ()
    rules: tuple[IngressRule, ...] = ()


class IngressStatus(Spec, frozen=True):
    """`status`: where the Ingress can be reached."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class Ingress(Object, frozen=True, kw_only=True):
    """An Ingress."""

    KIND: ClassVar[str] = "Ingress"

    spec: IngressSpec = IngressSpec()
    status: IngressStatus = IngressStatus()


class IngressClassSpec(Spec, frozen=True):
    """`spec` of an IngressClass; `parameters` mean nothing to Istio's controller."""

    controller: str = ""


class IngressClass(Object, frozen=True, kw_only=True):
    """An IngressClass: which controller serves the Ingresses that name it."""

    KIND: ClassVar[str] = "IngressClass"

    spec: IngressClassSpec = IngressClassSpec()


KIND = Kind(
    Ingress,
    "networking.k8s.io",
    ("v1",),
    "ingresses",
    units=("spec.tls[]", "spec.rules[]", "spec.rules[].http.paths[]"),
    open_fields=("*",),
)
CLASS = Kind(IngressClass, "networking.k8s.io", ("v1",), "ingressclasses", namespaced=False, open_fields=("*",))
