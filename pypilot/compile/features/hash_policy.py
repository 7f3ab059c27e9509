"""What a request is hashed by: `loadBalancer.consistentHash` of a DestinationRule, on the route (VS-043, DR-048).

The cluster's balancer and the route must agree; which hash holds for a destination follows its own precedence, which is
not that of cluster policies.
"""

from collections.abc import Iterable

from envoy.config.route.v3 import route_components_pb2 as routes

from pypilot.compile.features.text import is_sendable
from pypilot.compile.features.timeouts import LONGEST, NONE
from pypilot.compile.messages import duration
from pypilot.kinds.destination_rule import ConsistentHashLB, PortTrafficPolicy, TrafficPolicy


def _names(hashed: ConsistentHashLB) -> Iterable[str]:
    yield hashed.http_header_name
    yield hashed.http_query_parameter_name
    if hashed.http_cookie is not None:
        yield hashed.http_cookie.name
        yield hashed.http_cookie.path
        for attribute in hashed.http_cookie.attributes:
            yield attribute.name
            yield attribute.value


def hash_policy(hashed: ConsistentHashLB | None) -> routes.RouteAction.HashPolicy | None:
    """The policy; None without a key to hash by that Envoy takes."""
    if hashed is None or not all(map(is_sendable, _names(hashed))):
        return None
    policy = routes.RouteAction.HashPolicy()
    if hashed.http_header_name:
        policy.header.header_name = hashed.http_header_name
    elif hashed.http_cookie is not None and hashed.http_cookie.name:
        cookie = hashed.http_cookie
        policy.cookie.name = cookie.name
        policy.cookie.path = cookie.path
        if cookie.ttl is not None and NONE <= cookie.ttl <= LONGEST:
            policy.cookie.ttl.CopyFrom(duration(cookie.ttl))
        for attribute in filter(lambda a: a.name, cookie.attributes):
            policy.cookie.attributes.add(name=attribute.name, value=attribute.value)
    elif hashed.use_source_ip:
        policy.connection_properties.source_ip = True
    elif hashed.http_query_parameter_name:
        policy.query_parameter.name = hashed.http_query_parameter_name
    else:
        return None
    return policy


def _top(policy: TrafficPolicy | None) -> ConsistentHashLB | None:
    balancer = policy.load_balancer if policy is not None else None
    return balancer.consistent_hash if balancer is not None else None


def _at_port(settings: Iterable[PortTrafficPolicy], port: int) -> ConsistentHashLB | None:
    entry = next((s for s in settings if s.port.number == port), None) if port else None
    balancer = entry.load_balancer if entry is not None else None
    return balancer.consistent_hash if balancer is not None else None


def consistent_hash(policy: TrafficPolicy | None, subset: TrafficPolicy | None, port: int) -> ConsistentHashLB | None:
    """The hash of a destination: subset at the port, subset, rule at the port, rule (VS-043).

    `port` is what the destination names, 0 if it names none: then port level settings do not count.
    """
    return (
        (_at_port(subset.port_level_settings, port) if subset is not None else None)
        or _top(subset)
        or (_at_port(policy.port_level_settings, port) if policy is not None else None)
        or _top(policy)
    )
