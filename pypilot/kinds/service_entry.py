"""Istio ServiceEntry (networking.istio.io): services outside the platform's registry (SE rows)."""

from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar, Literal

import msgspec

from pypilot.kinds.base import Finding, Kind, LabelSelector, Object, PortNumber, Spec
from pypilot.kinds.names import export_defects, is_dns_name, is_label, is_network, is_wildcard_name, selector_defects
from pypilot.kinds.workload_entry import UNIX, WorkloadEntrySpec, endpoint_defects

CONNECT_STRATEGY = "istio.io/connect-strategy"
AUTO_ALLOCATE = "networking.istio.io/enable-autoallocate-ip"
_TELLS_HOSTS_APART = frozenset({"HTTP", "HTTP2", "HTTP_PROXY", "GRPC", "GRPC-WEB", "GRPCWEB", "HTTPS", "TLS"})
_PROTOCOLS = _TELLS_HOSTS_APART | {"TCP", "UDP", "MONGO", "REDIS", "MYSQL", "HBONE"}
_DYNAMIC_PROTOCOLS = frozenset({"HTTP", "HTTP2", "GRPC", "TLS"})
TargetPort = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Resolution = Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"]


class ServiceEntryPort(Spec, frozen=True):
    """`ports[]`."""

    number: PortNumber
    """Port that clients call."""
    protocol: str = ""
    """HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP or TLS."""
    name: str = ""
    """Name of the port."""
    target_port: TargetPort = 0
    """Port of the endpoints; `number` if absent."""


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

    @property
    def allocates(self) -> bool:
        """True if its hosts are to get addresses of their own (SE-016)."""
        opted_out = self.metadata.labels.get(AUTO_ALLOCATE, "").lower() == "false"
        return self.spec.resolution != "NONE" and not self.spec.addresses and not opted_out

    @property
    def races_addresses(self) -> bool:
        """True if connections race to all addresses of a name (KSVC-020); only one name can be resolved so."""
        asked = self.metadata.annotations.get(CONNECT_STRATEGY, "").upper() == "RACE_FIRST_TCP_CONNECT"
        return asked and len(self.spec.endpoints) <= 1 and self.wanted is None

    @property
    def wanted(self) -> dict[str, str] | None:
        """Labels of the workloads that are its endpoints; None without a selector."""
        selector = self.spec.workload_selector
        return None if selector is None else selector.labels or selector.match_labels


def _host_defects(spec: ServiceEntrySpec) -> Iterator[Finding]:
    resolved = spec.resolution in ("DNS", "DNS_ROUND_ROBIN") and not spec.endpoints
    for i, host in enumerate(spec.hosts):
        at = f"spec.hosts[{i}]"
        if host == "*":
            yield Finding(at, "the host * is not allowed")
        elif not is_wildcard_name(host):
            yield Finding(at, f"{host!r} is not a DNS name, nor one whose first label is a wildcard")
        elif resolved and not is_dns_name(host):
            yield Finding(at, f"a wildcard host cannot be resolved by {spec.resolution} (SE-023)")
        elif spec.resolution == "DYNAMIC_DNS" and not host.startswith("*"):
            yield Finding(at, "only wildcard hosts can be resolved by DYNAMIC_DNS (SE-019)")
        elif spec.resolution != "DYNAMIC_DNS" and host.startswith("*") and not host.startswith("*."):
            yield Finding(
                at, f"{host!r}: the wildcard is not a whole label", severity="warning", code="partial-wildcard"
            )


def _address_defects(spec: ServiceEntrySpec) -> Iterator[Finding]:
    for i, address in enumerate(spec.addresses):
        at = f"spec.addresses[{i}]"
        if not is_network(address):
            yield Finding(at, f"{address!r} is neither an IP address nor a CIDR")
            continue
        if "/" in address and spec.resolution not in ("NONE", "STATIC"):
            yield Finding(at, "a CIDR is allowed only with resolution NONE or STATIC (SE-023)")
    if spec.addresses and spec.resolution == "DYNAMIC_DNS":
        yield Finding("spec.addresses", "not allowed with resolution DYNAMIC_DNS (SE-019)")


def _port_defects(spec: ServiceEntrySpec) -> Iterator[Finding]:
    numbers: set[int] = set()
    names: set[str] = set()
    for i, port in enumerate(spec.ports):
        at = f"spec.ports[{i}]"
        protocol = port.protocol.upper()
        if port.number in numbers:
            yield Finding(f"{at}.number", f"port {port.number} is listed twice (SE-023)")
        if port.name in names:
            yield Finding(f"{at}.name", f"port name {port.name!r} is used twice (SE-023)")
        if not is_label(port.name):
            yield Finding(f"{at}.name", f"{port.name!r} is not the name of a port")
        if protocol and protocol not in _PROTOCOLS:
            yield Finding(f"{at}.protocol", f"unknown protocol {port.protocol!r}")
        elif spec.resolution == "DYNAMIC_DNS" and protocol not in _DYNAMIC_PROTOCOLS:
            yield Finding(f"{at}.protocol", "DYNAMIC_DNS is only for HTTP, HTTP2, GRPC and TLS (SE-019)")
        elif spec.resolution != "NONE" and len(spec.hosts) > 1 and protocol not in _TELLS_HOSTS_APART:
            yield Finding(f"{at}.protocol", "several hosts cannot be told apart by this protocol: want HTTP or TLS")
        numbers.add(port.number)
        names.add(port.name)


def _endpoint_defects(spec: ServiceEntrySpec) -> Iterator[Finding]:
    if spec.endpoints and spec.resolution in ("NONE", "DYNAMIC_DNS"):
        yield Finding("spec.endpoints", f"not allowed with resolution {spec.resolution} (SE-023)")
    if spec.workload_selector is not None:
        if spec.endpoints:
            yield Finding("spec.workloadSelector", "only one of endpoints and workloadSelector may be given (SE-023)")
        labels = spec.workload_selector.labels or spec.workload_selector.match_labels
        yield from selector_defects("spec.workloadSelector.labels", labels)
        if not labels:
            message = "selects every workload of the namespace"
            yield Finding("spec.workloadSelector", message, severity="warning", code="selects-all")
        if spec.resolution == "NONE":
            message = "has no effect with resolution NONE"
            yield Finding("spec.workloadSelector", message, severity="warning", code="no-effect")
    names = frozenset(port.name for port in spec.ports)
    for i, endpoint in enumerate(spec.endpoints):
        if i and spec.resolution == "DNS_ROUND_ROBIN":
            yield Finding(f"spec.endpoints[{i}]", "DNS_ROUND_ROBIN has at most one endpoint (SE-014)")
        if endpoint.address.startswith(UNIX) and len(names) != 1:
            yield Finding(f"spec.endpoints[{i}].address", "a unix socket serves one port, so the service must have one")
        is_dns = spec.resolution in ("DNS", "DNS_ROUND_ROBIN")
        yield from endpoint_defects(endpoint, f"spec.endpoints[{i}]", names=is_dns, service_ports=names)


def validate(entry: ServiceEntry) -> Iterable[Finding]:
    """Checks of SE-019 and SE-023."""
    spec = entry.spec
    if not spec.hosts:
        yield Finding("spec.hosts", "at least one host is needed")
    if not spec.ports:
        yield Finding("spec.ports", "at least one port is needed")
    yield from _host_defects(spec)
    yield from _address_defects(spec)
    yield from _port_defects(spec)
    yield from _endpoint_defects(spec)
    if entry.metadata.annotations.get(CONNECT_STRATEGY) and not entry.races_addresses:
        message = "has no effect: want RACE_FIRST_TCP_CONNECT, at most one endpoint, and no workloadSelector"
        yield Finding(f"metadata.annotations.{CONNECT_STRATEGY}", message, severity="warning", code="no-effect")
    yield from export_defects("spec.exportTo", entry.namespace, spec.export_to)


KIND = Kind(
    ServiceEntry,
    "networking.istio.io",
    ("v1", "v1beta1", "v1alpha3"),
    "serviceentries",
    units=("spec.hosts[]", "spec.ports[]", "spec.endpoints[]"),
    validate=validate,
    short_names=("se",),
    columns=("spec.hosts", "spec.location", "spec.resolution"),
)
