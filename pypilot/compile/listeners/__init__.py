"""Listeners: what proxies accept, and through which filters it goes."""

from pypilot.compile.listeners.compose import sidecar_listeners
from pypilot.compile.view import view_of
from pypilot.wire.node import Proxy
from pypilot.wire.resource import EMPTY, ResourceSet
from pypilot.world.reader import Reader


def compile_listeners(reader: Reader, proxy: Proxy) -> ResourceSet:
    """Everything that a proxy gets over LDS."""
    # Here, because gateways build with the parts of this package.
    from pypilot.compile.gateways.listeners import router_listeners

    view = reader.call(view_of, proxy)
    if view.is_sidecar:
        return sidecar_listeners(reader, view, proxy)
    return router_listeners(reader, view, proxy) if view.is_router else EMPTY


__all__ = ["compile_listeners"]
