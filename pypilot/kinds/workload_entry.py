"""Istio WorkloadEntry (networking.istio.io): one workload outside Kubernetes, a virtual machine say (WE rows)."""

from collections.abc import Container, Iterable, Iterator
from typing import ClassVar

from pypilot.kinds.base import Finding, Kind, Object, Spec, UInt32
from pypilot.kinds.names import is_address, is_dns_name, is_label, label_defects

UNIX = "unix://"
HEALTH_CHECKS = "proxy.istio.io/health-checks-enabled"
HEALTHY = "Healthy"
_MAX_PORT = 65535
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
"""What Go reads as true."""


class WorkloadEntrySpec(Spec, frozen=True):
    """`spec`, and a ServiceEntry's `endpoints[]`."""

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


class WorkloadCondition(Spec, frozen=True):
    """`status.conditions[]`."""

    type: str = ""
    """What is stated: Healthy."""
    status: str = ""
    """True, False or Unknown."""
    last_probe_time: str = ""
    """When it was last looked at."""
    last_transition_time: str = ""
    """When the status last changed."""
    reason: str = ""
    """Why, in a word."""
    message: str = ""
    """Why, in words."""


class WorkloadEntryStatus(Spec, frozen=True):
    """`status`."""

    conditions: tuple[WorkloadCondition, ...] = ()
    """What is known of the workload."""


class WorkloadEntry(Object, frozen=True, kw_only=True):
    """A WorkloadEntry."""

    KIND: ClassVar[str] = "WorkloadEntry"

    spec: WorkloadEntrySpec
    """A workload that is no Pod."""
    status: WorkloadEntryStatus = WorkloadEntryStatus()
    """What was found out about it."""

    @property
    def labels(self) -> dict[str, str]:
        """Labels of spec and metadata; the latter win (WE-002)."""
        return {**self.spec.labels, **self.metadata.labels}

    @property
    def usable(self) -> bool:
        """False while health checks are on and do not say that it is healthy (WE-003)."""
        if self.metadata.annotations.get(HEALTH_CHECKS, "") not in _TRUE:
            return True
        return any(c.type == HEALTHY and c.status == "True" for c in self.status.conditions)

    @property
    def dns_only(self) -> bool:
        """True for a name or a unix socket: only ServiceEntries with DNS can use it (SE-013, WE-009)."""
        return bool(self.spec.address) and not is_address(self.spec.address)


def _address_defect(address: str, names: bool) -> str:
    if address.startswith(UNIX):
        path = address.removeprefix(UNIX)
        if not path.startswith("@") and (not path.startswith("/") or path.endswith("/")):
            return f"{address!r}: want unix:// and the absolute path of a socket, or @ and a name"
    elif not is_address(address):
        if not names:
            return f"{address!r} is not an IP address"
        if not is_dns_name(address):
            return f"{address!r} is neither an IP address nor a DNS name"
    return ""


def endpoint_defects(
    spec: WorkloadEntrySpec, at: str, names: bool, service_ports: Container[str] | None = None
) -> Iterator[Finding]:
    """What is wrong with one endpoint. `names`: its address may be a DNS name; `service_ports`: those it may name."""
    if not spec.address:
        if not spec.network:
            yield Finding(f"{at}.address", "an address is needed, or a network whose gateway stands for it")
            return
    elif defect := _address_defect(spec.address, names):
        yield Finding(f"{at}.address", defect)
    elif spec.address.startswith(UNIX) and spec.ports:
        yield Finding(f"{at}.ports", "a unix socket has no ports")
    for name, number in spec.ports.items():
        if service_ports is not None and name not in service_ports:
            message = f"has no effect: the service has no port named {name!r}"
            yield Finding(f"{at}.ports.{name}", message, severity="warning", code="no-effect")
        elif not is_label(name):
            yield Finding(f"{at}.ports.{name}", f"{name!r} is not the name of a port")
        elif not 1 <= number <= _MAX_PORT:
            yield Finding(f"{at}.ports.{name}", f"{number} is not a port number (1-{_MAX_PORT})")
    yield from label_defects(f"{at}.labels", spec.labels)


def validate(entry: WorkloadEntry) -> Iterable[Finding]:
    """Checks that the types do not make."""
    return endpoint_defects(entry.spec, "spec", names=True)


KIND = Kind(
    WorkloadEntry,
    "networking.istio.io",
    ("v1", "v1beta1", "v1alpha3"),
    "workloadentries",
    validate=validate,
    short_names=("we",),
    columns=("spec.address",),
)
