"""Kubernetes Service (v1): the fields that shape clusters, listeners and routes (KSVC rows)."""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import ClassVar

import msgspec

from pypilot.kinds.base import Finding, Kind, Object, Spec


class ServicePort(Spec, frozen=True):
    """`spec.ports[]`."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    target_port: int | str = 0
    node_port: int = 0
    app_protocol: str = ""


class ServiceSpec(Spec, frozen=True):
    """`spec`."""

    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    cluster_ips: tuple[str, ...] = msgspec.field(name="clusterIPs", default=())
    external_ips: tuple[str, ...] = msgspec.field(name="externalIPs", default=())
    external_name: str = ""
    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = {}
    internal_traffic_policy: str = ""
    traffic_distribution: str = ""
    publish_not_ready_addresses: bool = False


class LoadBalancerIngress(Spec, frozen=True):
    """`status.loadBalancer.ingress[]`."""

    ip: str = ""
    hostname: str = ""


class LoadBalancerStatus(Spec, frozen=True):
    """`status.loadBalancer`."""

    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(Spec, frozen=True):
    """`status`."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class Service(Object, frozen=True, kw_only=True):
    """A Kubernetes Service."""

    KIND: ClassVar[str] = "Service"

    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


def _numbered(name: str, values: Iterable[str]) -> Iterable[tuple[str, str]]:
    return ((f"{name}[{i}]", value) for i, value in enumerate(values))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # a zone means nothing to another machine


def validate(service: Service) -> Iterable[Finding]:
    """Checks that the types do not make."""
    addresses = (("clusterIP", service.spec.cluster_ip), *_numbered("clusterIPs", service.spec.cluster_ips))
    for path, address in addresses:
        if address not in ("", "None") and not _is_address(address):
            yield Finding(f"spec.{path}", f"{address!r} is not an IP address")
    seen: set[tuple[int, str]] = set()
    for i, port in enumerate(service.spec.ports):
        path = f"spec.ports[{i}]"
        if not 1 <= port.port <= 65535:
            yield Finding(f"{path}.port", f"{port.port} is not a port number (1-65535)")
        if (port.port, port.protocol) in seen:
            yield Finding(f"{path}.port", f"port {port.port}/{port.protocol} is listed twice")
        seen.add((port.port, port.protocol))
    if service.spec.type == "ExternalName" and not service.spec.external_name:
        yield Finding("spec.externalName", "an ExternalName service needs an externalName")


KIND = Kind(Service, "", ("v1",), "services", units=("spec.ports[]",), validate=validate, open_fields=("*",))
