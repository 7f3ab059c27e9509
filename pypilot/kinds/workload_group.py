"""Istio WorkloadGroup (networking.istio.io): what the WorkloadEntries of like workloads have in common (WE-004…008)."""

from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar

from pypilot.kinds.base import Finding, Kind, Object, PortNumber, Spec, UInt32, unsupported
from pypilot.kinds.names import label_defects
from pypilot.kinds.workload_entry import WorkloadEntrySpec


class GroupMetadata(Spec, frozen=True):
    """`spec.metadata`."""

    labels: dict[str, str] = {}
    """Labels of every entry."""
    annotations: dict[str, str] = {}
    """Annotations of every entry."""


class HttpHeader(Spec, frozen=True):
    """`spec.probe.httpGet.httpHeaders[]`."""

    name: str = ""
    """Name of the header."""
    value: str = ""
    """Its value."""


class HttpGet(Spec, frozen=True):
    """`spec.probe.httpGet`."""

    port: PortNumber
    """Port of the workload."""
    path: str = ""
    """Path of the request."""
    host: str = ""
    """Host to connect to; the workload's own if absent."""
    scheme: str = ""
    """HTTP or HTTPS."""
    http_headers: tuple[HttpHeader, ...] = ()
    """Headers of the request."""


class TcpSocket(Spec, frozen=True):
    """`spec.probe.tcpSocket`."""

    port: PortNumber
    """Port of the workload."""
    host: str = ""
    """Host to connect to; the workload's own if absent."""


class Exec(Spec, frozen=True):
    """`spec.probe.exec`."""

    command: tuple[str, ...] = ()
    """Command and arguments; it succeeds with status 0."""


class Grpc(Spec, frozen=True):
    """`spec.probe.grpc`."""

    port: PortNumber
    """Port of the workload."""
    service: str = ""
    """Service to ask for."""


class ReadinessProbe(Spec, frozen=True):
    """`spec.probe`: the agent beside the workload runs it (WE-008)."""

    initial_delay_seconds: UInt32 = 0
    """Seconds before the first probe."""
    timeout_seconds: UInt32 = 0
    """Seconds after which a probe has failed."""
    period_seconds: UInt32 = 0
    """Seconds between probes."""
    success_threshold: UInt32 = 0
    """Successes in a row that make a workload healthy."""
    failure_threshold: UInt32 = 0
    """Failures in a row that make a workload unhealthy."""
    http_get: HttpGet | None = None
    """An HTTP request that must be answered with 200…399."""
    tcp_socket: TcpSocket | None = None
    """A port that must accept connections."""
    exec: Exec | None = None
    """A command that must succeed."""
    grpc: Grpc | None = None
    """A gRPC health check that must say SERVING."""


class WorkloadGroupSpec(Spec, frozen=True):
    """`spec`."""

    template: WorkloadEntrySpec
    """What every entry says, except its address."""
    metadata: GroupMetadata = GroupMetadata()
    """Labels and annotations of every entry."""
    probe: Annotated[
        ReadinessProbe | None, unsupported("Istio's agent runs it; it is told by the agent's own settings (WE-008)")
    ] = None
    """How the health of a workload is found out."""


class WorkloadGroup(Object, frozen=True, kw_only=True):
    """A WorkloadGroup."""

    KIND: ClassVar[str] = "WorkloadGroup"

    spec: WorkloadGroupSpec
    """Workloads that are alike."""


def _probe_defects(probe: ReadinessProbe) -> Iterator[Finding]:
    methods = [probe.http_get, probe.tcp_socket, probe.exec, probe.grpc]
    if sum(method is not None for method in methods) != 1:
        yield Finding("spec.probe", "want one of httpGet, tcpSocket, exec and grpc")
    if probe.http_get is not None and probe.http_get.scheme not in ("", "HTTP", "HTTPS"):
        yield Finding("spec.probe.httpGet.scheme", f"{probe.http_get.scheme!r} is neither HTTP nor HTTPS")
    for i, header in enumerate(probe.http_get.http_headers if probe.http_get is not None else ()):
        if not header.name or not header.name.isascii() or any(c in " \t\r\n:" for c in header.name):
            yield Finding(f"spec.probe.httpGet.httpHeaders[{i}].name", f"{header.name!r} is not the name of a header")
    if probe.exec is not None and not probe.exec.command:
        yield Finding("spec.probe.exec.command", "a command is needed")


def validate(group: WorkloadGroup) -> Iterable[Finding]:
    """Checks that the types do not make. An entry's address is not the template's to give."""
    yield from label_defects("spec.metadata.labels", group.spec.metadata.labels)
    if group.spec.probe is not None:
        yield from _probe_defects(group.spec.probe)


KIND = Kind(
    WorkloadGroup,
    "networking.istio.io",
    ("v1", "v1beta1", "v1alpha3"),
    "workloadgroups",
    validate=validate,
    short_names=("wg",),
)
