"""The xDS resource types, their URLs and the order in which a push sends them.

Source: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#eventual-consistency-considerations, XDS-004.
"""

from typing import Final

PREFIX: Final = "type.googleapis.com/"

CLUSTER: Final = PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINT: Final = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER: Final = PREFIX + "envoy.config.listener.v3.Listener"
ROUTE: Final = PREFIX + "envoy.config.route.v3.RouteConfiguration"
SECRET: Final = PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
EXTENSION_CONFIG: Final = PREFIX + "envoy.config.core.v3.TypedExtensionConfig"
NAME_TABLE: Final = PREFIX + "istio.networking.nds.v1.NameTable"
"""One resource without a name, for Istio's agent: what it answers to DNS queries (NDS-001)."""

PROXY_CONFIG: Final = PREFIX + "istio.mesh.v1alpha1.ProxyConfig"
"""One resource without a name, for Istio's agent: further roots to trust (MESH-008)."""

PUSH_ORDER: Final = (CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, EXTENSION_CONFIG, NAME_TABLE, PROXY_CONFIG)
"""Make before break: clusters and their endpoints, then listeners and their routes, then secrets and filters; last what
Envoy does not see: a name is told once there is a listener for its address."""

WILDCARD: Final = frozenset({CLUSTER, LISTENER, NAME_TABLE, PROXY_CONFIG})
"""Types for which a first request without names means "everything" (legacy wildcard)."""

SHORT: Final = {
    CLUSTER: "CDS",
    ENDPOINT: "EDS",
    LISTENER: "LDS",
    ROUTE: "RDS",
    SECRET: "SDS",
    EXTENSION_CONFIG: "ECDS",
    NAME_TABLE: "NDS",
    PROXY_CONFIG: "PCDS",
}
"""Type URL -> the discovery service's usual short name."""

BY_SHORT: Final = {short: url for url, short in SHORT.items()}


def short_name(type_url: str) -> str:
    """The short name (CDS, …) of a type URL, or the bare message name of a type that pypilot does not serve."""
    return SHORT.get(type_url) or type_url.rsplit(".", 1)[-1]
