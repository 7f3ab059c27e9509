"""Routes that nobody configured: to a service as it is, into an application, and for hosts that nobody knows.

VS-020, VS-046, VS-048, RDS-011…013. Must not read the world.
"""

from envoy.config.route.v3 import route_components_pb2 as routes

from pypilot.compile.features.hash_policy import hash_policy
from pypilot.compile.features.retries import inbound_retry_policy, retry_policy
from pypilot.compile.features.timeouts import NONE, apply_timeout
from pypilot.compile.messages import duration
from pypilot.compile.outbound_policy import OutboundPolicy
from pypilot.kinds.destination_rule import ConsistentHashLB
from pypilot.kinds.virtual_service import HTTPRetry

DEFAULT_ROUTE = "default"
ALLOW_ANY = "allow_any"
ALLOW_ANY_DYNAMIC_DNS = "allow_any_dynamic_dns"
BLOCK_ALL = "block_all"
DYNAMIC_DNS_CLUSTER = "AllowAnyDynamicDNSCluster"
BLOCKED_STATUS = 502


def _to_cluster(name: str, cluster: str) -> routes.Route:
    return routes.Route(name=name, match=routes.RouteMatch(prefix="/"), route=routes.RouteAction(cluster=cluster))


def outbound_route(
    cluster: str, operation: str, retries: HTTPRetry | None, hashed: ConsistentHashLB | None
) -> routes.Route:
    """Everything to one cluster, with the mesh's default retries."""
    route = _to_cluster(DEFAULT_ROUTE, cluster)
    route.decorator.operation = operation
    apply_timeout(route.route, None)
    policy = retry_policy(retries)
    if policy is not None:
        route.route.retry_policy.CopyFrom(policy)
    hashing = hash_policy(hashed)
    if hashing is not None:
        route.route.hash_policy.append(hashing)
    return route


def inbound_route(cluster: str, operation: str, retries: HTTPRetry | None, grpc: bool) -> routes.Route:
    """Everything into the application: no limit on time, and retries only of what never reached it (VS-048, VS-056)."""
    route = _to_cluster(DEFAULT_ROUTE, cluster)
    route.decorator.operation = operation
    action, unlimited = route.route, duration(NONE)
    action.timeout.CopyFrom(unlimited)
    action.max_stream_duration.max_stream_duration.CopyFrom(unlimited)
    action.max_stream_duration.grpc_timeout_header_max.CopyFrom(unlimited)
    policy = inbound_retry_policy(retries, grpc)
    if policy is not None:
        action.retry_policy.CopyFrom(policy)
    return route


def catch_all_host(policy: OutboundPolicy, attempt_count: bool, forwarded_host: bool) -> routes.VirtualHost:
    """The virtual host of hosts that nobody knows, by the outbound traffic policy (RDS-011…013, SC-012)."""
    if policy.mode == "REGISTRY_ONLY":
        route = routes.Route(
            name=BLOCK_ALL,
            match=routes.RouteMatch(prefix="/"),
            direct_response=routes.DirectResponseAction(status=BLOCKED_STATUS),
        )
    else:
        dynamic = policy.resolves_any_host
        route = _to_cluster(
            ALLOW_ANY_DYNAMIC_DNS if dynamic else ALLOW_ANY, DYNAMIC_DNS_CLUSTER if dynamic else policy.cluster
        )
        apply_timeout(route.route, None)
        route.route.append_x_forwarded_host = forwarded_host
    return routes.VirtualHost(
        name=route.name, domains=["*"], routes=[route], include_request_attempt_count=attempt_count
    )
