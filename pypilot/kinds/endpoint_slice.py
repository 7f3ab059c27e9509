"""Kubernetes EndpointSlice (discovery.k8s.io/v1) (KSVC-025…030)."""

from typing import ClassVar

from pypilot.kinds.base import Kind, Object, PortNumber, Spec

SERVICE_NAME_LABEL = "kubernetes.io/service-name"


class EndpointConditions(Spec, frozen=True):
    """`endpoints[].conditions`; None is "unknown", which counts as ready."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class TargetRef(Spec, frozen=True):
    """`endpoints[].targetRef`."""

    kind: str = ""
    name: str = ""
    namespace: str = ""


class SliceEndpoint(Spec, frozen=True):
    """`endpoints[]`."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    hostname: str = ""
    node_name: str = ""
    zone: str = ""
    target_ref: TargetRef | None = None


class SlicePort(Spec, frozen=True):
    """`ports[]`."""

    name: str = ""
    port: PortNumber | None = None
    protocol: str = "TCP"
    app_protocol: str = ""


class EndpointSlice(Object, frozen=True, kw_only=True):
    """An EndpointSlice."""

    KIND: ClassVar[str] = "EndpointSlice"

    address_type: str = "IPv4"
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[SlicePort, ...] = ()

    @property
    def service_name(self) -> str:
        """The name of the Service that the slice belongs to, or the empty string."""
        return self.metadata.labels.get(SERVICE_NAME_LABEL, "")


KIND = Kind(
    EndpointSlice, "discovery.k8s.io", ("v1",), "endpointslices", units=("endpoints[]", "ports[]"), open_fields=("*",)
)
