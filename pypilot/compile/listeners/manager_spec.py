"""What a connection manager is to be: the input of its builder and of the HTTP filters."""

from dataclasses import dataclass
from typing import Literal

from envoy.config.route.v3 import route_pb2

from pypilot.compile.listeners.traits import HttpTraits
from pypilot.compile.policies.selection import NO_POLICIES, PolicySet


@dataclass(frozen=True, slots=True)
class ManagerSpec:
    """One connection manager."""

    side: Literal["inbound", "outbound", "gateway"]
    stat_prefix: str
    routes: str | route_pb2.RouteConfiguration
    """The name of a RouteConfiguration that is fetched, or the routes themselves."""
    traits: HttpTraits
    grpc_web: bool = False
    http2: bool = False
    """The port is declared HTTP/2: its options are then stated (LIS-025)."""
    dynamic_host: str = ""
    resolves_any_host: bool = False
    """Unknown hosts are resolved by the proxy (ALLOW_ANY_DYNAMIC_DNS)."""
    exchanges_metadata: bool = True
    """The peers tell each other in headers who they are."""
    policies: PolicySet = NO_POLICIES
    """Those that hold for the requests."""
    absolute_urls: bool = False
    """Clients use it as an HTTP proxy (MESH-014)."""
