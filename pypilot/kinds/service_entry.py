"""Istio ServiceEntry (networking.istio.io): services outside the platform's registry (SE rows)."""

from collections.abc import Iterable
from ipaddress import ip_network
from typing import ClassVar, Literal

from pypilot.kinds.base import Finding, Kind, LabelSelector, Object, PortNumber, Spec, UInt32

Resolution = Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"]


class ServiceEntryPort(Spec, frozen=True):
    """`ports[]`."""

    number: PortNumber
    """Port that clients call."""
    protocol: str = ""
    """HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP or TLS."""
    name: str = ""
    """Name of the port."""
    target_port: UInt32 = 0
    """Port of the endpoints; `number` if absent."""


class WorkloadEntrySpec(Spec, frozen=True):
    """`endpoints[]`, and the spec of a WorkloadEntry."""

    address: str = ""
    """IP address, DNS name, or unix:///path."""
    ports: dict[str, UInt32] = {}
    """Ports of this endpoint by the name of the service's port."""
    labels: dict[str, str] = {}
    """Labels of the endpoint."""
    network: str = ""
    """Network in which the address is reachable."""
    locality: str = ""
    """region/zone/sub-zone."""
    weight: UInt32 = 0
    """Share of the traffic, relative to other endpoints."""
    service_account: str = ""
    """Service account as which the endpoint runs."""


class ServiceEntrySpec(Spec, frozen=True):
    """`spec`."""

    hosts: tuple[str, ...]
    """DNS names of the service."""
    addresses: tuple[str, ...] = ()
    """Virtual addresses or CIDRs of the service."""
    ports: tuple[ServiceEntryPort, ...] = ()
    """Ports of the service."""
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] = "MESH_EXTERNAL"
    """Whether the service is part of the mesh."""
    resolution: Resolution = "NONE"
    """How its endpoints' addresses are found."""
    endpoints: tuple[WorkloadEntrySpec, ...] = ()
    """Endpoints of the service."""
    workload_selector: LabelSelector | None = None
    """Labels of the workloads that are its endpoints, in place of `endpoints`."""
    export_to: tuple[str, ...] = ()
    """Namespaces that see the service: `*` (the default), `.` for its own, or names."""
    subject_alt_names: tuple[str, ...] = ()
    """Names that the service's certificates may carry."""


class ServiceEntryAddress(Spec, frozen=True):
    """`status.addresses[]` (SE-016)."""

    value: str = ""
    """Assigned address."""
    host: str = ""
    """Host that it is for."""


class ServiceEntryStatus(Spec, frozen=True):
    """`status`."""

    addresses: tuple[ServiceEntryAddress, ...] = ()
    """Addresses that were assigned automatically."""


class ServiceEntry(Object, frozen=True, kw_only=True):
    """A ServiceEntry."""

    KIND: ClassVar[str] = "ServiceEntry"

    spec: ServiceEntrySpec
    """A service that is not in the platform's own registry."""
    status: ServiceEntryStatus = ServiceEntryStatus()
    """What was assigned or found out."""


def validate(entry: ServiceEntry) -> Iterable[Finding]:
    """Checks of SE-023."""
    spec = entry.spec
    if not spec.hosts:
        yield Finding("spec.hosts", "at least one host is needed")
    if not spec.ports:
        yield Finding("spec.ports", "at least one port is needed")
    numbers: set[int] = set()
    names: set[str] = set()
    for i, port in enumerate(spec.ports):
        if port.number in numbers:
            yield Finding(f"spec.ports[{i}].number", f"port {port.number} is listed twice (SE-023)")
        if port.name in names:
            yield Finding(f"spec.ports[{i}].name", f"port name {port.name!r} is used twice (SE-023)")
        numbers.add(port.number)
        names.add(port.name)
    for i, address in enumerate(spec.addresses):
        try:
            ip_network(address, strict=False)
        except ValueError:
            yield Finding(f"spec.addresses[{i}]", f"{address!r} is neither an IP address nor a CIDR")
            continue
        if "/" in address and spec.resolution not in ("NONE", "STATIC"):
            yield Finding(f"spec.addresses[{i}]", "a CIDR is allowed only with resolution NONE or STATIC (SE-023)")
    if spec.endpoints and spec.resolution in ("NONE", "DYNAMIC_DNS"):
        yield Finding("spec.endpoints", f"not allowed with resolution {spec.resolution} (SE-023)")
    if spec.endpoints and spec.workload_selector is not None:
        yield Finding("spec.workloadSelector", "only one of endpoints and workloadSelector may be given (SE-023)")
    dns_wildcard = spec.resolution in ("DNS", "DNS_ROUND_ROBIN") and not spec.endpoints
    for i, host in enumerate(spec.hosts):
        if host.startswith("*") and dns_wildcard:
            yield Finding(f"spec.hosts[{i}]", f"a wildcard host cannot be resolved by {spec.resolution} (SE-023)")
        if host == "*":
            yield Finding(f"spec.hosts[{i}]", "the host * is not allowed")


KIND = Kind(
    ServiceEntry,
    "networking.istio.io",
    ("v1", "v1beta1", "v1alpha3"),
    "serviceentries",
    units=("spec.ports[]", "spec.endpoints[]"),
    validate=validate,
    short_names=("se",),
    columns=("spec.hosts", "spec.location", "spec.resolution"),
)
