"""Kubernetes Pod (v1): identity, labels, addresses and ports; never container contents (KSVC-031…036)."""

from typing import ClassVar

import msgspec

from pypilot.kinds.base import Kind, Object, Spec


class ContainerPort(Spec, frozen=True):
    """`spec.containers[].ports[]`."""

    container_port: int
    name: str = ""
    protocol: str = "TCP"


class Container(Spec, frozen=True):
    """`spec.containers[]`."""

    name: str = ""
    ports: tuple[ContainerPort, ...] = ()


class PodSpec(Spec, frozen=True):
    """`spec`."""

    service_account_name: str = ""
    node_name: str = ""
    hostname: str = ""
    subdomain: str = ""
    host_network: bool = False
    containers: tuple[Container, ...] = ()


class PodIP(Spec, frozen=True):
    """`status.podIPs[]`."""

    ip: str = ""


class PodCondition(Spec, frozen=True):
    """`status.conditions[]`."""

    type: str = ""
    status: str = ""


class PodStatus(Spec, frozen=True):
    """`status`."""

    phase: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    pod_ips: tuple[PodIP, ...] = msgspec.field(name="podIPs", default=())
    host_ip: str = msgspec.field(name="hostIP", default="")
    conditions: tuple[PodCondition, ...] = ()


class Pod(Object, frozen=True, kw_only=True):
    """A Pod."""

    KIND: ClassVar[str] = "Pod"

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def ips(self) -> tuple[str, ...]:
        """All addresses, the primary one first."""
        return tuple(p.ip for p in self.status.pod_ips if p.ip) or ((self.status.pod_ip,) if self.status.pod_ip else ())


KIND = Kind(Pod, "", ("v1",), "pods", open_fields=("*",))
