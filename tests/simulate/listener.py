"""Which listener takes a connection, and what its listener filters find out (envoy.config.listener.v3).

A captured connection arrives at the capture's port; that listener hands it over to the one of its original destination.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.simulate.fields import Message, UnsupportedError, at, flag, items, number, text, typed
from tests.simulate.model import Connection, Trace
from tests.simulate.resources import Resources

_ANY = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class Detected:
    """What a filter chain may ask of a connection."""

    transport: str = "raw_buffer"
    server_name: str = ""
    applications: tuple[str, ...] = ()


def _addresses(listener: Message) -> Iterator[tuple[str, int]]:
    for message in (listener, *items(listener, "additional_addresses")):
        socket = at(message, "address", "socket_address")
        if socket:
            yield text(socket, "address"), number(socket, "port_value")


def _at_address(resources: Resources, address: str, port: int, bound: bool) -> tuple[str, Message] | None:
    """The listener of this very address, else of any address at the port. `bound`: only those with a socket."""
    for wanted in ((address,), _ANY):
        for name, listener in resources.listeners.items():
            if bound and not flag(listener, "bind_to_port", True):
                continue
            if any(where in wanted and number_ == port for where, number_ in _addresses(listener)):
                return name, listener
    return None


def choose_listener(resources: Resources, connection: Connection, trace: Trace) -> tuple[str, Message] | None:
    """The listener that handles the connection; None if nobody listens there."""
    arrival = connection.captured_at or connection.port
    address = "127.0.0.1" if connection.captured_at else connection.destination
    found = _at_address(resources, address, arrival, bound=True)
    if found is None:
        trace.note("listener", "LDS", "", f"nobody listens on {address}:{arrival}")
        return None
    name, listener = found
    trace.note("listener", f"LDS {name}", "address", f"takes connections to {address}:{arrival}")
    if not flag(listener, "use_original_dst") or not connection.captured_at:
        return found
    handed = _at_address(resources, connection.destination, connection.port, bound=False)
    if handed is None or handed[0] == name:
        trace.note("listener", f"LDS {name}", "use_original_dst", "no listener of the original destination: stays here")
        return found
    said = f"hands over to the listener of {connection.destination}:{connection.port}"
    trace.note("listener", f"LDS {name}", "use_original_dst", said)
    trace.note("listener", f"LDS {handed[0]}", "address", "takes the connection over")
    return handed


def _disabled(predicate: Message, port: int) -> bool:
    """`ListenerFilterChainMatchPredicate`."""
    if not predicate:
        return False
    if "or_match" in predicate:
        return any(_disabled(rule, port) for rule in items(at(predicate, "or_match"), "rules"))
    if "and_match" in predicate:
        return all(_disabled(rule, port) for rule in items(at(predicate, "and_match"), "rules"))
    if "not_match" in predicate:
        return not _disabled(at(predicate, "not_match"), port)
    if "any_match" in predicate:
        return flag(predicate, "any_match")
    if "destination_port_range" in predicate:
        bounds = at(predicate, "destination_port_range")
        return number(bounds, "start") <= port < number(bounds, "end")
    raise UnsupportedError(f"ListenerFilterChainMatchPredicate: {sorted(predicate)}")


def detect(name: str, listener: Message, connection: Connection, trace: Trace) -> Detected:
    """Run the inspectors. HTTP is looked for only where TLS was not found."""
    found = Detected()
    for i, listener_filter in enumerate(items(listener, "listener_filters")):
        kind = typed(listener_filter)[0].rpartition(".")[2]
        path = f"listener_filters[{i}]"
        if _disabled(at(listener_filter, "filter_disabled"), connection.port):
            trace.note("listener filter", f"LDS {name}", f"{path}.filter_disabled", f"{kind} is off on this port")
        elif kind == "TlsInspector" and connection.tls:
            found = Detected("tls", connection.server_name.lower(), connection.alpn)
            trace.note("listener filter", f"LDS {name}", path, f"TLS for {connection.server_name or 'no server name'}")
        elif kind == "HttpInspector" and not connection.tls and connection.application != "tcp":
            found = Detected(found.transport, found.server_name, (connection.application,))
            trace.note("listener filter", f"LDS {name}", path, f"the first bytes are {connection.application}")
    return found
