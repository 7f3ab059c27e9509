"""Istio Sidecar (networking.istio.io): the messages, field by field."""

from typing import Annotated, ClassVar, Literal

import msgspec

from pypilot.kinds.base import Object, Spec, unsupported
from pypilot.kinds.destination_rule import ConnectionPoolSettings
from pypilot.kinds.gateway import ServerTLSSettings
from pypilot.kinds.virtual_service import Destination

CaptureMode = Literal["DEFAULT", "IPTABLES", "NONE"]
UNIX = "unix://"


class WorkloadSelector(Spec, frozen=True):
    """`workloadSelector`."""

    labels: dict[str, str] = {}
    """Labels that must all be there, with these values."""


class SidecarPort(Spec, frozen=True):
    """`egress[].port`, `ingress[].port`."""

    number: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    """Port to listen on; 0 for a Unix socket."""
    protocol: str = ""
    """HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP or TLS."""
    name: str = ""
    """Name of the port."""
    target_port: Annotated[int, unsupported("Istio ignores it, too")] = 0
    """Deprecated."""

    @property
    def spoken(self) -> str:
        """The protocol in the form in which all are compared."""
        return self.protocol.upper()


class IstioEgressListener(Spec, frozen=True):
    """`egress[]`."""

    port: SidecarPort | None = None
    """Port of the listener; all ports of the hosts that no other listener names if absent."""
    bind: str = ""
    """Address or unix:///path to listen on."""
    capture_mode: CaptureMode = "DEFAULT"
    """Whether traffic comes by capture, or from clients that call the listener itself."""
    hosts: tuple[str, ...] = ()
    """Hosts that are seen: NAMESPACE/NAME, with . for the own namespace, * for any, ~ in front to leave out."""


class IstioIngressListener(Spec, frozen=True):
    """`ingress[]`."""

    port: SidecarPort
    """Port of the listener."""
    bind: str = ""
    """Address to listen on."""
    capture_mode: CaptureMode = "DEFAULT"
    """Whether traffic comes by capture, or from clients that call the listener itself."""
    default_endpoint: str = ""
    """Where the application listens: 127.0.0.1:PORT, 0.0.0.0:PORT (the workload's address) or unix:///path."""
    tls: Annotated[ServerTLSSettings | None, unsupported("listeners of sidecars end the mesh's mutual TLS only")] = None
    """TLS that the listener ends."""
    connection_pool: ConnectionPoolSettings | None = None
    """Limits of connections to the application, in place of inboundConnectionPool."""


class OutboundTrafficPolicy(Spec, frozen=True):
    """`outboundTrafficPolicy`."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS"] = "REGISTRY_ONLY"
    """What becomes of traffic to hosts that are not seen."""
    egress_proxy: Destination | None = None
    """Where it goes with ALLOW_ANY, in place of where it wanted to go."""


class SidecarSpec(Spec, frozen=True):
    """`spec`."""

    workload_selector: WorkloadSelector | None = None
    """Workloads of the namespace; all of them if absent."""
    ingress: tuple[IstioIngressListener, ...] = ()
    """Inbound listeners, in place of those that follow from the workload's services."""
    egress: tuple[IstioEgressListener, ...] = ()
    """Outbound listeners, and what is seen through each; everything if absent."""
    inbound_connection_pool: ConnectionPoolSettings | None = None
    """Limits of connections to the application."""
    outbound_traffic_policy: OutboundTrafficPolicy | None = None
    """Traffic to hosts that are not seen; the mesh's policy if absent."""


class Sidecar(Object, frozen=True, kw_only=True):
    """A Sidecar."""

    KIND: ClassVar[str] = "Sidecar"

    spec: SidecarSpec = SidecarSpec()
    """What a workload's proxy sees and where it listens."""
