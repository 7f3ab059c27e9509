"""What does Envoy do with a connection or a request, given its resources? Follows Envoy's own steps; needs no Envoy.

    verdict = simulate(Resources.held(held_by(offered)), Connection(destination="10.0.0.1", port=80), Request(...))
    verdict.outcome     # Reply, Forward, Tunnel or Closed
    verdict.steps       # each decision, with the resource and field that took it

Pure: reads resources in protobuf JSON, as `wire.decode` makes them and Envoy's `/config_dump` shows them. Must not know
Istio, ask the network, or guess: what it cannot follow raises `UnsupportedError`, or is named in the steps.
"""

from dataclasses import replace
from fractions import Fraction

from tests.simulate.fields import UnsupportedError
from tests.simulate.filter_chain import choose_chain
from tests.simulate.listener import choose_listener, detect
from tests.simulate.model import (
    Chance,
    Closed,
    Connection,
    Endpoint,
    Forward,
    Reply,
    Request,
    Step,
    Trace,
    Tunnel,
    Verdict,
    merged,
)
from tests.simulate.network import run_chain
from tests.simulate.resources import Resources

__all__ = [
    "Chance",
    "Closed",
    "Connection",
    "Endpoint",
    "Forward",
    "Reply",
    "Request",
    "Resources",
    "Step",
    "Tunnel",
    "UnsupportedError",
    "Verdict",
    "simulate",
]


def simulate(resources: Resources, connection: Connection, request: Request | None = None) -> Verdict:
    """What the proxy that holds these resources does.

    Args:
        request: None for a connection that carries no HTTP.

    Raises:
        UnsupportedError: the way leads through configuration that is not simulated.
    """
    trace = Trace()

    def closed(flags: str, details: str) -> Verdict:
        return Verdict((Chance(Fraction(1), Closed(flags, details), tuple(trace.steps)),))

    chosen = choose_listener(resources, connection, trace)
    if chosen is None:
        return closed("", "connection_refused")
    name, listener = chosen
    detected = detect(name, listener, connection, trace)
    chain = choose_chain(name, listener, connection, detected, trace)
    if chain is None:
        return closed("NR", "filter_chain_not_found")
    connection = replace(connection, server_name=detected.server_name)  # nobody else reads it from the bytes
    return Verdict(merged(run_chain(name, chain, resources, connection, request, trace)))
