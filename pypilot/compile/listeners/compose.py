"""All listeners of a sidecar, in chunks that are shared as widely as their bytes allow (LIS-001).

Listeners that carry bytes alone are equal for all proxies that see the same. Those with a connection manager name the
workload in their tracing tags, so they are shared by its replicas, as is `virtualInbound`.
"""

from dataclasses import replace

from pypilot.compile.listeners.chains import ChainMatch, HttpChain
from pypilot.compile.listeners.connect_originate import connect_originate
from pypilot.compile.listeners.inbound import InboundKey, bound_inbound, inbound_key, virtual_inbound
from pypilot.compile.listeners.inbound_tunnel import TunnelKey, connect_terminate, main_internal
from pypilot.compile.listeners.outbound import OutboundListener, OutboundScope, outbound_listeners
from pypilot.compile.listeners.outbound_listener import http_listener, tcp_listener
from pypilot.compile.listeners.traits import HttpTraits, TcpTraits, http_traits, is_port
from pypilot.compile.listeners.virtual_outbound import virtual_outbound
from pypilot.compile.view import ProxyView, takes_tunnels
from pypilot.wire.node import CertificateFiles, Proxy
from pypilot.wire.resource import EMPTY, Chunk, Resource, ResourceSet
from pypilot.world.reader import Reader


def _scope(view: ProxyView, proxy: Proxy) -> OutboundScope:
    """The view without what listeners cannot depend on, so that more proxies share them."""
    shared = replace(
        view,
        cluster_id="",
        network="",
        mesh_tls=True,
        certificates_over_ads=False,
        hbone=False,
        client_files=CertificateFiles(),
        credential_socket=False,
    )
    captured = proxy.interception_mode != "NONE"
    limited = view.sidecar is not None
    reserved = proxy.own_ports if captured or limited else ()
    return OutboundScope(shared, captured, reserved, proxy.unprivileged and (limited or not captured))


def _shared(reader: Reader, scope: OutboundScope, traits: TcpTraits) -> Chunk:
    keys = reader.call(outbound_listeners, scope).tcp
    return Chunk(reader.call(tcp_listener, key, traits) for key in keys)


def _pods(reader: Reader, scope: OutboundScope, without: str, traits: TcpTraits) -> Chunk:
    keys = reader.call(outbound_listeners, scope).pod_tcp
    return Chunk(reader.call(tcp_listener, key, traits) for key in keys if key.bind != without)


def _pod_addresses(reader: Reader, scope: OutboundScope) -> frozenset[str]:
    return reader.call(outbound_listeners, scope).pods


def _http_proxy_listener(scope: OutboundScope, port: int) -> OutboundListener:
    """For clients that name hosts to their proxy (MESH-014)."""
    chain = HttpChain(ChainMatch(), "http_proxy", absolute_urls=True)
    return OutboundListener(scope.localhost, port, (chain,), bound=True)


def _workload(
    reader: Reader,
    scope: OutboundScope,
    without: str,
    inbound: InboundKey,
    tunnel: TunnelKey | None,
    traits: HttpTraits,
    hbone: bool,
) -> Chunk:
    """What depends on the workload: equal for its replicas, but for pods that have listeners of their own."""
    plan = reader.call(outbound_listeners, scope)
    keys = [*plan.http, *(key for key in plan.pod_http if key.bind != without)]
    mesh = reader.mesh()
    if is_port(http_port := mesh.proxy_http_port):
        keys.append(_http_proxy_listener(scope, http_port))
    made: list[Resource] = [reader.call(http_listener, key, traits) for key in keys]
    if scope.captured:
        http = (traits,) if traits.tcp.policy.resolves_any_host else ()
        made.append(reader.call(virtual_outbound, traits.tcp, inbound.transparent, *http))
        if is_port(mesh.proxy_inbound_listen_port):
            made.append(reader.call(virtual_inbound, inbound, traits))
    for target in inbound.bound:
        mode = inbound.possible(inbound.mutual_tls.of(target.target))
        if mode is not None:
            made.append(reader.call(bound_inbound, target, mode, inbound.policies, traits))
    if tunnel is not None:
        made.append(reader.call(connect_terminate, traits))
        made.append(reader.call(main_internal, tunnel, traits))
    if hbone:
        made.append(reader.call(connect_originate))
    return Chunk(made)


def sidecar_listeners(reader: Reader, view: ProxyView, proxy: Proxy) -> ResourceSet:
    """Everything that a sidecar gets over LDS."""
    if not is_port(reader.mesh().proxy_listen_port):
        return ResourceSet((Chunk([reader.call(connect_originate)]),)) if view.hbone else EMPTY
    scope, traits = _scope(view, proxy), http_traits(reader, view, proxy)
    without = proxy.ip if proxy.ip in reader.call(_pod_addresses, scope) else ""
    inbound = inbound_key(reader, proxy, view.mesh_tls)
    tunnel = TunnelKey(inbound, proxy.ips) if takes_tunnels(reader, view, proxy) else None
    return ResourceSet(
        (
            reader.call(_shared, scope, traits.tcp),
            reader.call(_pods, scope, without, traits.tcp),
            reader.call(_workload, scope, without, inbound, tunnel, traits, view.hbone),
        )
    )
