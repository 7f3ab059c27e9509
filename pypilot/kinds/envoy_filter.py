"""Istio EnvoyFilter (networking.istio.io/v1alpha3): its messages. Must not know what Envoy's messages are."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from pypilot.kinds.base import LabelSelector, Object, Spec, UInt32, unsupported

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
ApplyTo = Literal[
    "LISTENER",
    "FILTER_CHAIN",
    "NETWORK_FILTER",
    "HTTP_FILTER",
    "ROUTE_CONFIGURATION",
    "VIRTUAL_HOST",
    "HTTP_ROUTE",
    "CLUSTER",
    "EXTENSION_CONFIG",
    "BOOTSTRAP",
    "LISTENER_FILTER",
]
PatchContext = Literal["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"]
Operation = Literal[
    "MERGE",
    "ADD",
    "REMOVE",
    "INSERT_BEFORE",
    "INSERT_AFTER",
    "INSERT_FIRST",
    "REPLACE",
    "MERGE_AND_REPLACE_LIST",
]
RouteAction = Literal["ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE"]
FilterClass = Literal["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"]


class ProxyMatch(Spec, frozen=True):
    """`match.proxy`."""

    proxy_version: str = ""
    """RE2 expression that is searched for in the proxy's ISTIO_VERSION."""
    metadata: dict[str, str] = {}
    """Keys of the node's metadata with the very values that they must have."""


class ClusterMatch(Spec, frozen=True):
    """`match.cluster`."""

    port_number: UInt32 = 0
    """Port of the service."""
    service: str = ""
    """Host of the service."""
    subset: str = ""
    """Name of the subset."""
    name: str = ""
    """Name of the cluster; the other fields do not count beside it."""


class RouteMatch(Spec, frozen=True):
    """`match.routeConfiguration.vhost.route`."""

    name: str = ""
    """Name of the route."""
    action: RouteAction = "ANY"
    """What the route does."""


class VirtualHostMatch(Spec, frozen=True):
    """`match.routeConfiguration.vhost`."""

    name: str = ""
    """Name of the virtual host, HOST:PORT."""
    domain_name: str = ""
    """One of its domains."""
    route: RouteMatch | None = None
    """A route of the virtual host."""


class RouteConfigurationMatch(Spec, frozen=True):
    """`match.routeConfiguration`."""

    port_number: UInt32 = 0
    """Port of the listener, or of the Gateway's server."""
    port_name: str = ""
    """Name of the server's port, for HTTPS servers of gateways."""
    gateway: str = ""
    """NAMESPACE/NAME of the Gateway, for HTTPS servers of gateways."""
    vhost: VirtualHostMatch | None = None
    """A virtual host of the configuration."""
    name: str = ""
    """Name of the configuration."""


class SubFilterMatch(Spec, frozen=True):
    """`match.listener.filterChain.filter.subFilter`."""

    name: str = ""
    """Name of the HTTP filter."""


class FilterMatch(Spec, frozen=True):
    """`match.listener.filterChain.filter`."""

    name: str = ""
    """Name of the network filter."""
    sub_filter: SubFilterMatch | None = None
    """A filter inside the network filter."""


class FilterChainMatch(Spec, frozen=True):
    """`match.listener.filterChain`."""

    name: str = ""
    """Name of the filter chain."""
    sni: str = ""
    """One of the chain's server names."""
    transport_protocol: str = ""
    """Transport protocol of the chain: raw_buffer or tls."""
    application_protocols: str = ""
    """Protocols, separated by commas, all of which the chain must list."""
    filter: FilterMatch | None = None
    """A network filter of the chain."""
    destination_port: UInt32 = 0
    """Destination port of the chain."""
    transport_socket: Annotated[str, unsupported("Istio ignores it, too")] = ""
    """Not used."""


class ListenerMatch(Spec, frozen=True):
    """`match.listener`."""

    port_number: UInt32 = 0
    """Port of the listener; of a chain in virtualInbound and virtualOutbound."""
    port_name: Annotated[str, unsupported("Istio ignores it, too: use portNumber")] = ""
    """Not used."""
    filter_chain: FilterChainMatch | None = None
    """A filter chain of the listener."""
    listener_filter: str = ""
    """Name of a listener filter."""
    name: str = ""
    """Name of the listener."""


class WaypointRouteMatch(Spec, frozen=True):
    """`match.waypoint.route`."""

    name: str = ""
    """Name of the route."""


class WaypointMatch(Spec, frozen=True):
    """`match.waypoint`."""

    port_number: UInt32 = 0
    """Port of the service."""
    filter: FilterMatch | None = None
    """A network filter."""
    route: WaypointRouteMatch | None = None
    """A route."""


class EnvoyConfigObjectMatch(Spec, frozen=True):
    """`configPatches[].match`."""

    context: PatchContext = "ANY"
    """Which side of which proxies is patched."""
    proxy: ProxyMatch | None = None
    """What the proxy must be."""
    listener: ListenerMatch | None = None
    """The listener, and what is inside."""
    route_configuration: RouteConfigurationMatch | None = None
    """The route configuration, and what is inside."""
    cluster: ClusterMatch | None = None
    """The cluster."""
    waypoint: Annotated[WaypointMatch | None, unsupported("waypoints are not served")] = None
    """What is patched in a waypoint."""


class Patch(Spec, frozen=True):
    """`configPatches[].patch`."""

    operation: Operation
    """What is done with the object that matches."""
    value: dict[str, Any] | None = None
    """The Envoy object, or the part of it that is merged."""
    filter_class: Annotated[FilterClass, unsupported("say where with operation and match")] = "UNSPECIFIED"
    """Not used."""


class EnvoyConfigObjectPatch(Spec, frozen=True):
    """`configPatches[]`."""

    apply_to: ApplyTo
    """Kind of the Envoy object."""
    patch: Patch
    """How they are changed."""
    match: EnvoyConfigObjectMatch = EnvoyConfigObjectMatch()
    """Which objects are patched; all of the kind if absent."""


class PolicyTargetReference(Spec, frozen=True):
    """`targetRefs[]`."""

    kind: str
    """Kind of the target."""
    name: str
    """Name of the target."""
    group: str = ""
    """API group of the target."""
    namespace: str = ""
    """Namespace of the target: that of the filter."""


class EnvoyFilterSpec(Spec, frozen=True):
    """`spec`."""

    workload_selector: LabelSelector | None = None
    """Labels of the pods that are meant; absent for all of the namespace, or of the mesh in the root namespace."""
    target_refs: tuple[PolicyTargetReference, ...] = ()
    """Gateways of the Gateway API that are meant, in place of a selector."""
    config_patches: tuple[EnvoyConfigObjectPatch, ...] = ()
    """The patches, applied in this order."""
    priority: Int32 = 0
    """Filters of lower priority are applied first."""


class EnvoyFilter(Object, frozen=True, kw_only=True):
    """Changes to what is generated for Envoy."""

    KIND: ClassVar[str] = "EnvoyFilter"

    spec: EnvoyFilterSpec = EnvoyFilterSpec()
    """Patches to the generated configuration of proxies."""

    @property
    def order_key(self) -> tuple[int, str, str]:
        """Order within a namespace (EF-002): priority, creation time (none counts as newest), then name."""
        return (self.spec.priority, self.metadata.creation_timestamp or "~", self.metadata.name)
