"""The weights of a locality, as Envoy adds them up."""

import pytest
from envoy.config.endpoint.v3 import endpoint_pb2
from google.protobuf import any_pb2

from pypilot.compile.endpoints import compile_endpoints
from pypilot.world.reader import Reader
from tests.compile.listeners.decoding import world_of
from tests.golden import node
from tests.world.objects import make


def test_weights_that_envoy_could_not_add_up_are_scaled() -> None:
    endpoints = [{"address": f"192.0.2.{i}", "weight": weight} for i, weight in enumerate((2**32 - 1, 2**31, 1))]
    spec = {
        "hosts": ["x.example"],
        "resolution": "STATIC",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "endpoints": endpoints,
    }
    reader = Reader(world_of([make("ServiceEntry", "x", spec=spec)]))
    (made,) = compile_endpoints(reader, node({}))
    assignment = endpoint_pb2.ClusterLoadAssignment()
    any_pb2.Any.FromString(made.any_bytes).Unpack(assignment)
    weights = [e.load_balancing_weight.value for e in assignment.endpoints[0].lb_endpoints]
    assert sum(weights) == assignment.endpoints[0].load_balancing_weight.value <= 2**32 - 1
    assert weights[0] == pytest.approx(2 * weights[1], rel=0.01)
    assert weights[2] == 1
