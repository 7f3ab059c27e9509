"""`TcpProxy`: where bytes go, and how long they may stay idle (VS-081…084, NODE-016)."""

from typing import TypeAlias

from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.type.v3 import hash_policy_pb2

from pypilot.compile.destination_rules import subset_of, traffic_policy
from pypilot.compile.listeners.access_log import access_logs
from pypilot.compile.listeners.chains import TcpDestination
from pypilot.compile.listeners.traits import TcpTraits
from pypilot.compile.messages import duration
from pypilot.compile.routes.domains import authority
from pypilot.kinds.base import Duration
from pypilot.kinds.destination_rule import LoadBalancerSettings, TCPSettings, TrafficPolicy, TunnelSettings
from pypilot.world.reader import Reader

TcpProxy: TypeAlias = tcp_proxy_pb2.TcpProxy
_MILLISECOND = 1_000_000
_LONGEST_NANOS = 9_223_372_035_000_000_000


def _hashes_source_ip(balancer: LoadBalancerSettings | None) -> bool:
    hashed = balancer.consistent_hash if balancer is not None else None
    return hashed is not None and hashed.use_source_ip


def _usable(value: Duration, least: int) -> bool:
    """Other lengths would have Envoy refuse the listener, and all other chains with it."""
    return least <= value.nanos <= _LONGEST_NANOS


def _apply_rules(reader: Reader, proxy: TcpProxy, destination: TcpDestination) -> None:
    """What the DestinationRules of the destination say, on their top level (VS-082)."""
    policy = traffic_policy(reader, destination.selection)
    subset = subset_of(reader, destination.selection, destination.subset)
    own = subset.traffic_policy if subset is not None else None
    pool = policy.connection_pool if policy is not None else None
    tcp = (pool.tcp if pool is not None else None) or TCPSettings()
    idle, lasts = tcp.idle_timeout, tcp.max_connection_duration
    if idle is not None and _usable(idle, 0):
        proxy.idle_timeout.CopyFrom(duration(idle))
    if lasts is not None and _usable(lasts, _MILLISECOND):
        proxy.max_downstream_connection_duration.CopyFrom(duration(lasts))
    balancer = (own.load_balancer if own is not None else None) or (
        policy.load_balancer if policy is not None else None
    )
    if _hashes_source_ip(balancer):
        proxy.hash_policy.append(hash_policy_pb2.HashPolicy(source_ip=hash_policy_pb2.HashPolicy.SourceIp()))
    if destination.tunnels:
        _apply_tunnel(proxy, _tunnel(policy, own, destination.subset))


def _tunnel(policy: TrafficPolicy | None, own: TrafficPolicy | None, subset: str) -> TunnelSettings | None:
    """A subset's tunnel is its own alone (VS-084)."""
    speaks = own if subset else policy
    return speaks.tunnel if speaks is not None else None


def _apply_tunnel(proxy: TcpProxy, tunnel: TunnelSettings | None) -> None:
    if tunnel is not None:
        proxy.tunneling_config.hostname = f"{authority(tunnel.target_host)}:{tunnel.target_port}"
        proxy.tunneling_config.use_post = tunnel.protocol == "POST"


def tcp_proxy(reader: Reader, destination: TcpDestination, traits: TcpTraits) -> TcpProxy:
    """To a destination of services."""
    proxy = TcpProxy(stat_prefix=destination.stat_prefix)
    if not destination.clusters[0][1]:
        proxy.cluster = destination.clusters[0][0]
    else:
        for name, weight in destination.clusters:
            proxy.weighted_clusters.clusters.add(name=name, weight=weight)
    if traits.idle is not None:
        proxy.idle_timeout.CopyFrom(duration(traits.idle))
    _apply_rules(reader, proxy, destination)
    proxy.access_log.extend(access_logs(reader))
    return proxy


def plain_tcp_proxy(reader: Reader, cluster: str, traits: TcpTraits, logged: bool = True) -> TcpProxy:
    """To one of the built-in clusters. What goes into the black hole at a proxy's own port is not logged."""
    proxy = TcpProxy(stat_prefix=cluster, cluster=cluster)
    if logged:
        if traits.idle is not None:
            proxy.idle_timeout.CopyFrom(duration(traits.idle))
        proxy.access_log.extend(access_logs(reader))
    return proxy
